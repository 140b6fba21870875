"""The data of the benchmark, all synthetic: respondents as Parquet, and a warehouse with what comes before them.

Codes are drawn from the warehouse's own crosswalk (seeds `question_map`, `response_map`, `routing`), so that each wave
has its questions and each question its codes, blanks, double ticks and answers behind a filter. Numbers are made by
DuckDB's hash of seed, respondent and variable: the same respondents on any number of threads.
"""

import json
import shutil
import subprocess
import zlib
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import duckdb

from orchestration.settings import DBT_PROJECT_DIR, Settings

SEED = 2017
TRUSTS = 57
# The models that the benchmark makes up; everything between them and int_estimates is the product.
GIVEN = ("int_persons", "int_sampled")
GENDERS = ("female", "male")
BANDS = ("age_18_35", "age_36_50", "age_51_65", "age_66_plus")
# Shares of respondents by the frame's gender and age band; the rest is in no known cell.
CELLS = [f"{gender}:{band}" for gender in GENDERS for band in BANDS]
CELL_SHARES = (0.12, 0.13, 0.17, 0.14, 0.09, 0.10, 0.13, 0.10)
# Shares of what people tick; the rest leaves the question blank.
TREATMENT_SHARES = {
    "answered": 0.86,
    "dont_know": 0.05,
    "not_applicable": 0.05,
    "not_answered": 0.03,
    "multiple": 0.005,
    "out_of_range": 0.005,
    "not_routed": 0.0,
}


def uniform(variable: str) -> str:
    """SQL for a number in [0, 1) that depends on the respondent i and on the variable."""
    # DuckDB's hash of one integer mixes well; those of several values with one in common are correlated.
    return f"(hash(i * {2**32} + {zlib.crc32(f'{SEED} {variable}'.encode())}) >> 11) / {2**53}::double"


def drawn(number: str, values: list[str | None], shares: list[float]) -> str:
    """SQL that picks one of `values` with these shares by a number in [0, 1)."""
    total, reached, branches = sum(shares), 0.0, []
    for value, share in zip(values[:-1], shares[:-1], strict=True):
        reached += share / total
        branches.append(f"when {number} < {reached!r} then {literal(value)}")
    return f"case {' '.join(branches)} else {literal(values[-1])} end"


def literal(text: str | None) -> str:
    """A text as an SQL literal."""
    return "null" if text is None else "'" + text.replace("'", "''") + "'"


# ---- the warehouse before the respondents ----
def compile_models(folder: Path) -> Path:
    """Load the crosswalk into `folder`/warehouse.duckdb and compile the models up to int_estimates.

    Gives the folder of the compiled models; `folder`/models.json has their names in the order in which they are made.
    """
    settings = replace(Settings.from_environment(), warehouse=folder / "warehouse.duckdb")
    settings.export()
    target = settings.dbt_target_dir
    folders = ["--project-dir", str(DBT_PROJECT_DIR), "--target-path", str(target), "--log-path", str(target)]
    for command in (["seed"], ["compile", "--select", "+int_estimates"]):
        done = subprocess.run(["dbt", "--quiet", *command, *folders], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SystemExit(f"`dbt {command[0]}` fails; mend the dbt project first. dbt says:\n{done.stdout}")
    nodes = json.loads((target / "manifest.json").read_text(encoding="utf-8"))["nodes"]
    order: list[str] = []

    def visit(node: str) -> None:
        name = node.rsplit(".", 1)[-1]
        if node in nodes and nodes[node]["resource_type"] == "model" and name not in (*GIVEN, *order):
            for parent in nodes[node]["depends_on"]["nodes"]:
                visit(parent)
            order.append(name)

    visit("model.cmhs.int_estimates")
    (folder / "models.json").write_text(json.dumps(order), encoding="utf-8")
    return target / "compiled" / "cmhs" / "models" / "intermediate"


# ---- respondents ----
def wave_sql(connection: duckdb.DuckDBPyConnection, year: int, first: int, last: int) -> str:
    """SQL for the respondents `first` to `last` (numbers, the last one left out) of a wave, as int_persons has them."""
    questions = [
        row[0] for row in connection.execute("select question_id from crosswalk.questions order by position").fetchall()
    ]
    codes: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for question, treatment, code in connection.execute(
        "select question_id, treatment, code from crosswalk.response_map where survey_year = ? order by code", [year]
    ).fetchall():
        codes[question][treatment].append(code)
    answers = {question: answer_sql(question, codes[question]) for question in questions}
    filters: dict[str, list[str]] = {
        row[0]: []
        for row in connection.execute("select distinct question_id from crosswalk.routing order by 1").fetchall()
    }
    for question, asked_first, code in connection.execute(
        "select question_id, filter_question_id, filter_code from crosswalk.routing where survey_year = ? order by all",
        [year],
    ).fetchall():
        filters[question].append(f"coalesce(answer_{asked_first} = {literal(code)}, false)")
    past = {question: " or ".join(parts) or "false" for question, parts in filters.items()}
    blanked = {
        # Most who are sent past a question leave it blank.
        question: f"case when ({condition}) and {uniform('leaves ' + question)} < 0.9 "
        f"then null else answer_{question} end as answer_{question}"
        for question, condition in past.items()
    }
    other = uniform("other")
    return f"""
        with numbers as (
            select i, {uniform("trust")} as trust_number, {uniform("cell")} as cell_number
            from range({first}, {last}) as numbers (i)
        ),
        placed as (
            select
                i,
                'T' || lpad((1 + floor({TRUSTS} * pow(trust_number, 1.2)))::integer::varchar, 2, '0') as trust,
                {drawn("cell_number", [*CELLS, "unknown"], [*CELL_SHARES, 1 - sum(CELL_SHARES)])} as cell
            from numbers
        ),
        answered as (
            select *, {", ".join(f"{sql} as answer_{question}" for question, sql in answers.items())} from placed
        )
        select
            {year} as survey_year,
            trust,
            cell,
            -- Some tell the questionnaire another age band or gender than the frame has.
            case
                when {other} < 0.04 then {drawn(uniform("band"), list(BANDS), [1.0] * len(BANDS))}
                when cell = 'unknown' then 'unknown'
                else split_part(cell, ':', 2)
            end as age_band,
            case
                when {other} < 0.01 then {drawn(uniform("gender"), list(GENDERS), [1.0] * len(GENDERS))}
                when cell = 'unknown' then 'unknown'
                else split_part(cell, ':', 1)
            end as gender,
            'returned' as outcome,
            null::varchar as person_status,
            null::decimal(18, 9) as supplied_weight,
            {", ".join(blanked.get(question, f"answer_{question}") for question in questions)},
            {", ".join(f"({condition}) as past_{question}" for question, condition in past.items())}
        from answered
    """


def answer_sql(question: str, codes: dict[str, list[str]]) -> str:
    """SQL for the code that a respondent ticked; what is valid depends a little on trust and weight cell."""
    if not codes:
        return "null::varchar"
    values: list[str | None] = [None]
    shares = [0.02]
    for treatment, share in TREATMENT_SHARES.items():
        for place, code in enumerate(codes.get(treatment, ())):
            values.append(code)
            # The first valid answers are the usual ones.
            shares.append(share / (1 + 0.5 * place) if treatment == "answered" else share / len(codes[treatment]))
    lean = "+".join(f"(hash({key} || {literal(question)}) % 1000) / 2500.0" for key in ("trust", "cell"))
    return drawn(f"pow({uniform(question)}, 0.6 + {lean})", values, shares)


def write_respondents(seeded: Path, size: int, file: Path) -> None:
    """Write `size` respondents, the same number in each wave (give or take one), as one Parquet file."""
    with duckdb.connect(seeded, read_only=True) as connection:
        years = [row[0] for row in connection.execute("select survey_year from crosswalk.waves order by 1").fetchall()]
        limits = [size * part // len(years) for part in range(len(years) + 1)]
        waves = [wave_sql(connection, *wave) for wave in zip(years, limits[:-1], limits[1:], strict=True)]
        connection.execute(
            f"copy ({' union all '.join(f'({wave})' for wave in waves)}) to '{file}' (format parquet, compression zstd)"
        )


def prepare_warehouse(seeded: Path, respondents: Path, folder: Path) -> Path:
    """A warehouse in `folder` with the crosswalk, the respondents as int_persons, and numbers of persons drawn."""
    folder.mkdir(exist_ok=True)
    warehouse = folder / seeded.name
    shutil.copy(seeded, warehouse)
    with duckdb.connect(warehouse) as connection:
        connection.execute("create schema if not exists intermediate")
        connection.execute(f"create view intermediate.int_persons as from read_parquet('{respondents}')")
        # Between two and five persons were drawn for each respondent, by trust and cell.
        connection.execute("""
            create table intermediate.int_sampled as
            select survey_year, trust, cell, 'returned' as outcome,
                ceil(n * (2 + (hash(survey_year || trust || cell) % 1000) / 333.0))::bigint as persons
            from (select survey_year, trust, cell, count(*) as n from intermediate.int_persons group by all)
        """)
    return warehouse


# ---- what the peers read ----
def write_decoded(filled: Path, folder: Path) -> None:
    """The same respondents as the peers take them, decoded by the product's crosswalk: CSV and Parquet in `folder`.

    `respondents`: survey_year, trust (the stratum), weight_cell, age_band, gender, trust_weight, weight, and each
    question's response as a number, NULL without a valid answer. Beside it `responses` (the numbers' meaning) and
    `totals` (what the weights of each weight cell sum to). Decoding and weighting are spared the peers.
    """
    with duckdb.connect(filled, read_only=True) as connection:
        connection.execute("""
            create temp table responses as
            select question_id, response, row_number() over (partition by question_id order by response) as number,
                try_cast(response as double) as score, bool_or(questions.is_numeric) as is_numeric
            from crosswalk.response_map inner join crosswalk.questions using (question_id)
            where treatment = 'answered' group by question_id, response
        """)
        questions = [
            row[0] for row in connection.execute("select distinct question_id from responses order by 1").fetchall()
        ]
        routed = [row[0] for row in connection.execute("select distinct question_id from crosswalk.routing").fetchall()]
        decoded = ", ".join(
            f"(select number from responses inner join crosswalk.response_map using (question_id, response) "
            f"where question_id = '{q}' and response_map.survey_year = p.survey_year and code = answer_{q}"
            f"{f' and not past_{q}' if q in routed else ''})::tinyint as {q}"
            for q in questions
        )
        connection.execute(f"""
            create temp table respondents as
            select p.survey_year, trust, weight_cell, age_band, gender, trust_weight,
                trust_weight * population_weight as weight, {decoded}
            from intermediate.int_persons as p inner join intermediate.int_weight_cells using (survey_year, trust, cell)
            where person_status is null
        """)
        for table, query in {
            "responses": "from responses order by all",
            "respondents": "from respondents",
            "totals": "select survey_year, trust, weight_cell, sum(weight) as total from respondents "
            "group by all order by all",
            "asked": "select distinct survey_year, question_id from crosswalk.response_map "
            "where treatment = 'answered' order by all",
        }.items():
            for kind in ("parquet", "csv"):
                connection.execute(f"copy ({query}) to '{folder / table}.{kind}'")
