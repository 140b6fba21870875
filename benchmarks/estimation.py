"""What the estimation step costs, beside a bare count and beside other software: the table in estimation.md.

The step goes from respondents to all estimates of the warehouse: England, trusts, age bands and genders, every question
and response, with standard errors and intervals. The product is the warehouse's own compiled SQL. All data are
synthetic. Every run is a process of its own; it counts its own CPU seconds, imports apart; the runs of all take turns.

    python benchmarks/estimation.py --folder DIRECTORY > benchmarks/estimation.md

DIRECTORY takes the data and a virtual environment for the peers (benchmarks/requirements.txt). A peer that cannot be
installed is skipped, and the table says so. `--with-slow` adds R and svy at 1,000,000 respondents.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import duckdb
from machine import machine

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "estimation"))

import prepare  # noqa: E402

SMALL, LARGE, HUGE = 80_000, 1_000_000, 10_000_000
RUNS = 3
# Beyond this a figure is no longer the same.
AGREEMENT = 1e-9
FLOOR = "bare GROUP BY, one query a question"
TOGETHER = "bare GROUP BY, all in one query"
PRODUCT = "the warehouse"
# samplics takes minutes for all questions; it does these many of each wave, and its CPU is scaled up.
SAMPLICS_QUESTIONS = 2


@dataclass(frozen=True)
class Contestant:
    """A way of making the counts or estimates, as a command to run."""

    name: str
    command: list[str]
    sizes: tuple[int, ...]
    slow_sizes: tuple[int, ...] = ()
    runs: int = RUNS
    # What its standard errors are compared with; samplics cannot post-stratify.
    variance_method: str = "post_stratified"
    estimates: bool = True


# ---- the peers' software ----
def peers_python(folder: Path) -> tuple[Path | None, str]:
    """Python of a virtual environment with the peers, or none and the reason."""
    venv, wanted = folder / "peers", (HERE / "requirements.txt").read_text(encoding="utf-8")
    python, done = venv / "bin" / "python", venv / "requirements.txt"
    if not done.exists() or done.read_text(encoding="utf-8") != wanted:
        for command in (
            [sys.executable, "-m", "venv", "--clear", str(venv)],
            [
                str(python),
                "-m",
                "pip",
                "install",
                "-q",
                "--disable-pip-version-check",
                "-r",
                str(HERE / "requirements.txt"),
            ],
        ):
            tried = subprocess.run(command, capture_output=True, text=True, check=False)
            if tried.returncode != 0:
                print(tried.stderr, file=sys.stderr)
                return None, "skipped: benchmarks/requirements.txt cannot be installed here"
        done.write_text(wanted, encoding="utf-8")
    return python, ""


def contestants(python: Path | None, rscript: str | None) -> list[Contestant]:
    """Everything that can run here; names in braces are files, filled in for each size."""
    scripts = HERE / "estimation"
    found = [
        Contestant(
            FLOOR,
            [sys.executable, f"{scripts}/floor.py", "{respondents}", "separate"],
            (SMALL, LARGE, HUGE),
            estimates=False,
        ),
        Contestant(
            TOGETHER,
            [sys.executable, f"{scripts}/floor.py", "{respondents}", "together"],
            (SMALL, LARGE, HUGE),
            estimates=False,
        ),
        Contestant(
            PRODUCT,
            [sys.executable, f"{scripts}/product.py", "{warehouse}", "{compiled}"],
            (SMALL, LARGE, HUGE),
            estimates=False,
        ),
    ]
    if python:
        files = ["{decoded}", "{estimates}"]
        found += [
            Contestant("polars by hand", [str(python), f"{scripts}/polars_groupby.py", *files], (SMALL, LARGE)),
            Contestant("pandas by hand", [str(python), f"{scripts}/pandas_groupby.py", *files], (SMALL, LARGE)),
            Contestant("svy", [str(python), f"{scripts}/svy_domains.py", *files], (SMALL,), (LARGE,)),
            Contestant(
                "samplics (weights fixed)",
                [str(python), f"{scripts}/samplics_domains.py", *files, str(SAMPLICS_QUESTIONS)],
                (SMALL,),
                variance_method="fixed_weights",
            ),
        ]
    if rscript:
        found.append(
            Contestant("R survey", [rscript, f"{scripts}/r_survey.R", "{decoded}", "{estimates}"], (SMALL,), (LARGE,))
        )
    return found


# ---- running ----
def run(command: list[str]) -> dict:
    """One run's costs, from the last line that it prints."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)} fails:\n{done.stderr}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def prepare_size(folder: Path, compiled: Path, size: int) -> dict[str, str]:
    """Files of one size, by the names that commands give them; made anew."""
    place = folder / str(size)
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    respondents, filled, decoded = place / "respondents.parquet", place / "filled.duckdb", place / "decoded"
    seeded = folder / "warehouse.duckdb"
    prepare.write_respondents(seeded, size, respondents)
    warehouse = prepare.prepare_warehouse(seeded, respondents, place)
    if size != HUGE:
        run([sys.executable, str(HERE / "estimation" / "product.py"), str(warehouse), str(compiled), str(filled)])
        decoded.mkdir()
        prepare.write_decoded(filled, decoded)
    return {
        "respondents": str(respondents),
        "warehouse": str(warehouse),
        "filled": str(filled),
        "decoded": str(decoded),
        "compiled": str(compiled),
    }


def take_turns(
    entrants: list[Contestant], files: dict[str, str], size: int, log: Callable[[str], None]
) -> dict[str, list]:
    """Costs of all runs at one size by name, run in rounds so that a change of the machine's speed hits all alike."""
    costs: dict[str, list] = defaultdict(list)
    for turn in range(RUNS):
        for entrant in entrants:
            if turn < entrant.runs:
                estimates = str(Path(files["respondents"]).with_name(f"{entrant.name}.csv"))
                command = [part.format(**files, estimates=estimates) for part in entrant.command]
                costs[entrant.name].append(run(command))
                log(f"{size:>10,} {entrant.name}: {costs[entrant.name][-1]['cpu']:.2f} CPU s")
    return costs


def difference(entrant: Contestant, files: dict[str, str]) -> dict[str, float]:
    """How many estimates a peer made, and the largest relative difference of each figure from the product's.

    Relative to the larger of the two, or to 1e-9 where both are smaller: the end of an interval may be 0 but for
    rounding. A row that the product lacks, or a figure that only one of the two has, is an error.
    """
    estimates = Path(files["respondents"]).with_name(f"{entrant.name}.csv")
    figures = ("estimate", "se", "ci_low", "ci_high")
    # The warehouse has other variances than its published ones for England only, and intervals of samplics are its own.
    compared = figures if entrant.variance_method == "post_stratified" else ("estimate", "se")
    worst = ", ".join(
        f"coalesce(max(abs(peer.{f} - ours.{f}) / greatest(abs(peer.{f}), abs(ours.{f}), 1e-9)), 0) as {f}"
        for f in compared
    )
    unpaired = " or ".join(f"(peer.{f} is null) <> (ours.{f} is null)" for f in compared)
    with duckdb.connect(files["filled"], read_only=True) as connection:
        found = connection.execute(f"""
            with numbers as (
                select question_id, response, row_number() over (partition by question_id order by response) as number
                from crosswalk.response_map where treatment = 'answered' group by question_id, response
            ),
            ours as (
                select
                    survey_year, question_id, number, {", ".join(figures)},
                    if(geography_level = 'trust', 'trust', breakdown) as breakdown,
                    if(geography_level = 'trust', geography_code, category) as category
                from intermediate.int_estimates inner join numbers using (question_id, response)
                where
                    scheme = 'trust_population' and measure = 'share'
                    and variance_method = '{entrant.variance_method}'
            ),
            peer as (
                select
                    survey_year, question_id, number, breakdown, category,
                    {", ".join(f"nullif({f}::double, 'nan'::double) as {f}" for f in figures)}
                from read_csv('{estimates}', nullstr = ['', 'NA', 'NaN'])
                where '{entrant.variance_method}' = 'post_stratified' or breakdown = 'all'
            )
            select count(*) as rows, count(*) filter (ours.survey_year is null or {unpaired}) as unpaired, {worst}
            from peer left join ours using (survey_year, question_id, number, breakdown, category)
        """)
        names = [column[0] for column in found.description]
        result = dict(zip(names, found.fetchall()[0], strict=True))
    return result


# ---- the table ----
def median(costs: list[dict], figure: str) -> float:
    """Median over the runs of a figure."""
    return statistics.median(cost[figure] for cost in costs)


def row(*cells: str) -> str:
    """A row of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def agreement(entrant: Contestant, found: dict[str, float] | None) -> str:
    """What a peer's estimates have in common with the product's, as a cell of the table."""
    if found is None:
        return ""
    if found["unpaired"]:
        return f"{found['unpaired']:,} of {found['rows']:,} rows have no counterpart"
    # svy's Wilson interval has another effective base, smaller by (t(n - 1) / t(df))^2, so it is no test.
    exact = ("estimate", "se") if entrant.name == "svy" else ("estimate", "se", "ci_low", "ci_high")
    worst = max(found[figure] for figure in exact if figure in found)
    text = f"{worst:.0e}" + ("" if worst <= AGREEMENT else " **differs**")
    intervals = max(found.get(figure, 0) for figure in ("ci_low", "ci_high"))
    return text + (f" (intervals: {intervals:.0e})" if entrant.name == "svy" else "")


def table(entrants: list[Contestant], costs: dict[str, list], found: dict[str, dict[str, float]]) -> list[str]:
    """The comparison at one size."""
    lines = [
        row(
            "",
            "CPU s",
            "of the bare GROUP BY",
            "of the warehouse",
            "wall s",
            "peak MB",
            "MB before",
            "estimates",
            "agrees to",
        ),
        row("---", *["---:"] * 8),
    ]
    for entrant in entrants:
        runs = costs[entrant.name]
        share = runs[0].get("share", 1)
        cpu = median(runs, "cpu") / share
        estimates = round(runs[0]["estimates"] / share) if "estimates" in runs[0] else None
        lines.append(
            row(
                entrant.name + (f" (from {share:.0%} of the questions)" if share < 1 else ""),
                f"{cpu:.2f}",
                f"{cpu / median(costs[FLOOR], 'cpu'):.1f}",
                f"{cpu / median(costs[PRODUCT], 'cpu'):.2f}",
                f"{median(runs, 'wall') / share:.2f}",
                f"{median(runs, 'megabytes'):,.0f}",
                f"{median(runs, 'start_megabytes'):,.0f}",
                "counts only" if estimates is None else f"{estimates:,}",
                agreement(entrant, found.get(entrant.name)),
            )
        )
    return lines


def breakdown(all_costs: dict[int, dict[str, list]]) -> list[str]:
    """Where the product's CPU goes, by model and size."""
    lines = [row("CPU s", *(f"{size:,}" for size in all_costs)), row("---", *["---:"] * len(all_costs))]
    for model in next(iter(all_costs.values()))[PRODUCT][0]["steps"]:
        medians = [
            statistics.median(cost["steps"][model]["cpu"] for cost in costs[PRODUCT]) for costs in all_costs.values()
        ]
        lines.append(row(f"`{model}`", *(f"{cpu:.3f}" for cpu in medians)))
    lines.append(row("all", *(f"{median(costs[PRODUCT], 'cpu'):.2f}" for costs in all_costs.values())))
    lines.append(row("peak MB", *(f"{median(costs[PRODUCT], 'megabytes'):,.0f}" for costs in all_costs.values())))
    return lines


def aims(all_costs: dict[int, dict[str, list]]) -> list[str]:
    """The aims of this benchmark and whether they are met."""
    lines = [row("aim", "measured", "met"), row("---", "---:", "---")]

    def ratio(size: int, name: str, other: str) -> float:
        return median(all_costs[size][name], "cpu") / median(all_costs[size][other], "cpu")

    def line(aim: str, measured: str, met: bool) -> None:
        lines.append(row(aim, measured, "yes" if met else "**no**"))

    if LARGE in all_costs:
        floor = ratio(LARGE, PRODUCT, FLOOR)
        line(f"CPU within 2.5 times the bare GROUP BY at {LARGE:,}", f"{floor:.1f} times", floor <= 2.5)
    if SMALL in all_costs and "R survey" in all_costs[SMALL]:
        faster = ratio(SMALL, "R survey", PRODUCT)
        line(f"100 times less CPU than R survey at {SMALL:,}", f"{faster:.0f} times", faster >= 100)
    if SMALL in all_costs and HUGE in all_costs:
        small, huge = (median(all_costs[size][PRODUCT], "megabytes") for size in (SMALL, HUGE))
        line(
            f"peak memory flat (within a tenth) from {SMALL:,} to {HUGE:,}",
            f"{huge / small:.1f} times",
            huge <= 1.1 * small,
        )
    return lines if len(lines) > 2 else []


def report(
    all_costs: dict[int, dict[str, list]],
    entrants: list[Contestant],
    found: dict[int, dict],
    skipped: list[str],
    command: str,
) -> str:
    """The page."""
    versions = {f"{name} {version(name)}" for name in ("duckdb", "dbt-core", "dbt-duckdb")}
    versions |= {
        run["versions"] for costs in all_costs.values() for runs in costs.values() for run in runs if "versions" in run
    }
    lines = [
        "# What the estimation step costs",
        "",
        f"Made by `{command}`. **All data are synthetic.**",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}, {machine()}; {', '.join(sorted(versions))}.",
        "",
        *aims(all_costs),
        "",
    ]
    for size, costs in all_costs.items():
        present = [entrant for entrant in entrants if entrant.name in costs]
        lines += [f"## {size:,} respondents", "", *table(present, costs, found[size]), ""]
        lines += [f"- {reason}" for reason in skipped] + ([""] if skipped else [])
    lines += ["## Where the warehouse's CPU goes", "", *breakdown(all_costs), "", NOTES]
    return "\n".join(lines)


NOTES = f"""\
## How to read this

- The respondents are spread over {prepare.TRUSTS} trusts and the waves and questions of the crosswalk.
- Every figure is the median of {RUNS} runs, each in a process of its own and in turns. CPU is user and system time of
  all threads. Memory is the process's peak; "before" is what it held before it began, libraries and data included.
- The warehouse and the bare GROUP BY read the Parquet file within the time measured, answers as the raw codes of the
  questionnaire. The peers get decoded answers as small integers in a data frame, and known weights: reading, decoding,
  routing, merging of weight cells and weighting are not in their time.
- The warehouse makes more: means, and England's shares under three other weights; and its sums do not depend on the
  order in which threads deliver them. pandas and polars apply the same formulas to the same counts, written by hand
  and for nothing else.
- **Where the factor to the survey packages comes from: the formula, not the engine.** A share and its post-stratified
  variance follow from counts by weight cell, so all domains come from one pass over the respondents and a small table,
  where the packages work on all respondents again for each domain and question. The rows of pandas and polars show
  what the same formula takes on other engines.
- "agrees to" is the largest relative difference of any estimate, standard error or end of an interval from the
  warehouse's. svy's Wilson interval has another effective base, so its ends differ by definition. samplics has no
  post-stratified variance: it is compared for England only, with the warehouse's shares and errors for fixed weights.
  It does {SAMPLICS_QUESTIONS} questions of each wave; its CPU, wall and number of estimates are scaled up.
"""


def main() -> None:
    """Run everything and print the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="for data and the peers' environment; kept")
    parser.add_argument("--with-slow", action="store_true", help="R and svy at 1,000,000 respondents as well")
    parser.add_argument("--sizes", type=int, nargs="+", default=[SMALL, LARGE, HUGE], choices=[SMALL, LARGE, HUGE])
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)

    def log(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    python, reason = peers_python(folder)
    rscript = shutil.which("Rscript")
    skipped = [f"polars, pandas, svy, samplics {reason}"] if not python else []
    if (
        not rscript
        or subprocess.run([rscript, "-e", "library(survey)"], capture_output=True, check=False).returncode != 0
    ):
        skipped.append("R survey skipped: not installed (Debian: apt-get install r-base-core r-cran-survey)")
        rscript = None
    (folder / "warehouse.duckdb").unlink(missing_ok=True)
    compiled = prepare.compile_models(folder)
    entrants = contestants(python, rscript)
    all_costs, found = {}, {}
    for size in arguments.sizes:
        files = prepare_size(folder, compiled, size)
        present = [e for e in entrants if size in e.sizes or (arguments.with_slow and size in e.slow_sizes)]
        all_costs[size] = take_turns(present, files, size, log)
        found[size] = {e.name: difference(e, files) for e in present if e.estimates}
    command = "python benchmarks/estimation.py --folder DIRECTORY" + (" --with-slow" if arguments.with_slow else "")
    if arguments.sizes != parser.get_default("sizes"):
        command += f" --sizes {' '.join(map(str, arguments.sizes))}"
    print(report(all_costs, entrants, found, skipped, command))
    wrong = [
        f"{name} at {size:,}" for size, peers in found.items() for name, result in peers.items() if result["unpaired"]
    ]
    if wrong:
        raise SystemExit(f"Estimates without a counterpart in the warehouse: {', '.join(wrong)}")


if __name__ == "__main__":
    main()
