"""The indicator page, in a real browser: it says what the marts say, to everybody, and reaches nothing else."""

import csv
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import Warehouse, folder_of, publish
from playwright.sync_api import Browser, Page

from orchestration import report
from orchestration.errors import Refusal
from orchestration.release import DATABASE, PROVENANCE_IN_WORDS, notes_of
from orchestration.report import charts, commentary
from orchestration.settings import ROOT

NO_EARLIER = {"release_id": None, "tolerance": 0.05, "values": 0, "by_question": []}
COUNTRY = "geography_level <> 'trust' and breakdown = 'all'"


def rewritten(warehouse: Warehouse, folder: Path, *changes: str) -> Path:
    """A copy of the current release with changes to its marts, and the page made from them; the copy's folder."""
    copy = shutil.copytree(folder_of(warehouse), folder)
    for path in [copy, *copy.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    shutil.rmtree(copy / report.PAGE, ignore_errors=True)
    if changes:
        with duckdb.connect(copy / DATABASE) as connection:
            for change in changes:
                connection.execute(change)
    report.write(copy, NO_EARLIER)
    return copy


@pytest.fixture(scope="module")
def six(six_waves: Warehouse, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rewritten(six_waves, tmp_path_factory.mktemp("six") / "release")


@pytest.fixture(scope="module")
def two(hand_worked: Warehouse, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rewritten(hand_worked, tmp_path_factory.mktemp("two") / "release")


@contextmanager
def opened(browser: Browser, release: Path, **options: Any) -> Iterator[Page]:
    """The page from disk. Fails where it logs anything, or asks for anything but itself."""
    context = browser.new_context(**options)
    try:
        page = context.new_page()
        said: list[str] = []
        asked: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        address = (release / report.PAGE / "index.html").as_uri()
        page.goto(address)
        yield page
        assert said == []
        assert asked == [address]
    finally:
        context.close()


def marts(release: Path, query: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(release / DATABASE, read_only=True) as connection:
        return connection.execute(query).fetchall()


def cells(page: Page, table: str) -> list[list[str]]:
    """The texts of a table's body; below a figure stand its notes, one a line."""
    return page.locator(f"#table-{table}").evaluate(
        "table => [...table.tBodies[0].rows].map(row => [...row.cells].map(cell => "
        "[...cell.childNodes].map(node => node.textContent).join('\\n')))"
    )


def written(value: float | None, digits: int = 1) -> str:
    if value is None:
        return "hidden"
    text = f"{value:,.{digits}f}"
    return re.sub(r"^-(?=[0.]*$)", "", text).replace("-", "\N{MINUS SIGN}")


def with_sign(change: float) -> str:
    return ("+" if change > 0 and written(change) != "0.0" else "") + written(change)


def between(low: float | None, high: float | None, digits: int = 1) -> str:
    return "" if low is None or high is None else f"{written(low, digits)} to {written(high, digits)}"


def estimate(pct: float | None, low: float | None, high: float | None, digits: int = 1) -> str:
    return "\n".join(part for part in (written(pct, digits), between(low, high, digits)) if part)


# ---------------------------------------------------------------------------------------- for everybody, everywhere


OPEN = "for (const details of document.querySelectorAll('details')) details.open = true"
# Axe looks at every element, and the rows of a table are alike.
SHORTEN = "for (const row of document.querySelectorAll('tbody tr:nth-child(n + 4)')) row.remove()"


def violations(page: Page) -> list[tuple[str, str]]:
    """What axe finds, with the first element of each kind; the page is opened and shortened for it."""
    page.evaluate(f"{OPEN}; {SHORTEN}")
    return [(v["id"], v["nodes"][0]["html"][:200]) for v in Axe().run(page).response["violations"]]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("release", ["six", "two"])
def test_axe_finds_nothing(browser: Browser, release: str, scheme: str, request: pytest.FixtureRequest) -> None:
    with opened(browser, request.getfixturevalue(release), color_scheme=scheme) as page:
        assert page.locator("svg").count() > 5
        assert page.locator("svg:not([role='img'][aria-label]), svg [role], svg [aria-label]").count() == 0
        assert violations(page) == []


@pytest.mark.parametrize("width", [360, 480, 768, 1024, 1600])
def test_the_page_never_scrolls_sideways(browser: Browser, six: Path, width: int) -> None:
    with opened(browser, six, viewport={"width": width, "height": 900}) as page:
        page.evaluate(OPEN)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        # Each chart is shown in exactly one of its forms, and fits.
        shown = page.evaluate(
            "[...document.querySelectorAll('figure')].map(figure => [...figure.querySelectorAll('svg')]"
            ".map(svg => svg.getBoundingClientRect().width).filter(width => width > 0))"
        )
        assert len(shown) > 10
        assert all(len(widths) == 1 and widths[0] <= width for widths in shown)


def test_the_keyboard_reaches_everything(browser: Browser, two: Path) -> None:
    with opened(browser, two) as page:
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.getAttribute('href')") == "#main"
        assert page.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
        page.evaluate(OPEN)
        unreachable = (
            "[...document.querySelectorAll('a, button, input, summary, .scroll')]"
            ".filter(element => element.tabIndex < 0).map(element => element.outerHTML)"
        )
        assert page.evaluate(unreachable) == []
        levels = page.evaluate("[...document.querySelectorAll('h1, h2, h3, h4')].map(h => Number(h.tagName[1]))")
        assert levels[0] == 1 and levels.count(1) == 1
        assert all(after <= before + 1 for before, after in pairwise(levels))


def test_the_page_is_complete_without_its_script(browser: Browser, two: Path) -> None:
    with opened(browser, two) as scripted, opened(browser, two, java_script_enabled=False) as bare:
        tables = scripted.locator("tbody").all_text_contents()
        assert len(tables) > 15
        assert bare.locator("tbody").all_text_contents() == tables
        assert bare.locator(".find:visible").count() == 0


def test_every_link_leads_somewhere_in_the_release(browser: Browser, six: Path) -> None:
    with opened(browser, six) as page:
        links = page.evaluate("[...document.querySelectorAll('a')].map(a => a.getAttribute('href'))")
        ids = set(page.evaluate("[...document.querySelectorAll('[id]')].map(element => element.id)"))
        assert len(ids) == page.locator("[id]").count()
    inside = [link[1:] for link in links if link.startswith("#")]
    assert len(inside) > 15 and set(inside) <= ids
    files = [link for link in links if not link.startswith("#")]
    assert len(files) > 50
    # The notes are written last, over all other files.
    assert [link for link in files if not (six / report.PAGE / link).exists()] == []
    html = (six / report.PAGE / "index.html").read_text(encoding="utf-8")
    assert re.findall(r"\b(?:https?|ftp|file|data):", html.replace("img-src data:", "")) == []


def test_neighbouring_pages_are_linked_where_they_are(hand_worked: Warehouse, tmp_path: Path) -> None:
    release = rewritten(hand_worked, tmp_path / "release")
    assert "lineage/index.html" not in (release / report.PAGE / "index.html").read_text(encoding="utf-8")
    for name in report.NEIGHBOURS:
        (release / report.PAGE / name).parent.mkdir()
        (release / report.PAGE / name).touch()
    report.write(release, NO_EARLIER)
    html = (release / report.PAGE / "index.html").read_text(encoding="utf-8")
    assert all(f'href="{name}"' in html for name in report.NEIGHBOURS)


def test_synthetic_data_are_called_so_at_the_top(browser: Browser, six: Path) -> None:
    with opened(browser, six, viewport={"width": 360, "height": 640}) as page:
        banner = page.locator(".banner")
        assert banner.inner_text() == PROVENANCE_IN_WORDS["synthetic"]
        page.evaluate("scrollTo(0, document.body.scrollHeight / 2)")
        assert banner.bounding_box()["y"] >= 0  # type: ignore[index]


# ---------------------------------------------------------------------------------------- the numbers


@pytest.mark.parametrize("release", ["six", "two"])
def test_the_findings_are_those_of_the_marts(browser: Browser, release: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(release)
    with opened(browser, folder) as page:
        scores, support, contact = (
            cells(page, name) for name in ("overall_experience", "support_not_received", "contact_care_coordinator")
        )
    years = [year for (year,) in marts(folder, "select distinct survey_year from marts.overall_experience order by 1")]
    rows = marts(folder, "select score, survey_year, pct, ci_low, ci_high from marts.overall_experience")
    expected = {(score, year): estimate(*figures) for score, year, *figures in rows}
    assert len(expected) == 11 * len(years)
    shown = {
        (score, year): text for score, row in enumerate(scores[:-1]) for year, text in zip(years, row[1:], strict=False)
    }
    assert shown == expected
    changes = marts(
        folder,
        "select change, ci_low, ci_high, significant from marts.changes as c inner join (select distinct question_id, "
        "response, score from marts.overall_experience) using (question_id, response) where geography_level <> 'trust' "
        f"and from_year = {years[0]} and to_year = {years[-1]} order by score",
    )
    assert [row[-1] for row in scores[:-1]] == [
        "\n".join([with_sign(change), between(low, high), *([] if significant else ["not significant"])])
        for change, low, high, significant in changes
    ]
    assert scores[-1][1:-1] == [
        written(base, 0)
        for (base,) in marts(folder, "select any_value(base) from marts.overall_experience group by survey_year "
                                     "order by survey_year")
    ]  # fmt: skip

    years = [
        year for (year,) in marts(folder, "select distinct survey_year from marts.support_not_received order by 1")
    ]
    rows = marts(
        folder,
        "select question_label, survey_year, pct, ci_low, ci_high, base, series_break_before "
        "from marts.support_not_received",
    )
    expected = {
        (area, year): estimate(*figures)
        + ("" if base is None else f"\nbase {base:,}" + ("\nbreak before" if broken else ""))
        for area, year, *figures, base, broken in rows
    }
    shown = {
        (row[0], year): text
        for row in support
        for year, text in zip(years, row[1:], strict=True)
        if text != "\N{EN DASH}"
    }
    assert shown == expected

    rows = marts(
        folder,
        "select survey_year, pct, ci_low, ci_high, base, series_break_before from marts.contact_care_coordinator "
        "order by survey_year",
    )
    assert contact == [
        [
            str(year),
            written(pct),
            between(low, high),
            written(base, 0),
            "break: not comparable" if broken else "",
        ]
        for year, pct, low, high, base, broken in rows
    ]


def test_trusts_groups_and_questions_are_those_of_the_marts(browser: Browser, six: Path) -> None:
    last = marts(six, "select max(survey_year) from marts.waves")[0][0]
    contact = f"survey_year = {last} and question_id = 'contact_care_coordinator' and response = 'no'"
    with opened(browser, six) as page:
        trusts = cells(page, "trusts_contact_care_coordinator_no")
        groups = cells(page, "age_and_gender")
        question = cells(page, "question_crisis_contact_known")
        rates = cells(page, "response_rates")
        of_trusts = cells(page, "response_rates_of_trusts")
    rows = marts(
        six,
        "select trust_name, trust, e.pct, e.ci_low, e.ci_high, e.base, c.difference, c.ci_low, c.ci_high, c.band "
        f"from (from marts.trust_comparisons where {contact}) as c inner join (from marts.estimates where {contact} "
        "and breakdown = 'all') as e on e.geography_code = c.trust order by trust_name, trust",
    )
    bands = {band: words for band, (words, *_) in charts.BANDS.items()}
    assert len(rows) > 50
    assert trusts == [
        [
            name,
            trust,
            estimate(pct, low, high),
            written(base, 0),
            with_sign(difference) + "\n" + between(least, most),
            bands[band],
        ]
        for name, trust, pct, low, high, base, difference, least, most, band in rows
    ]
    rows = marts(
        six,
        f"select pct, ci_low, ci_high, base from marts.estimates where {contact} and geography_level <> 'trust' "
        "and breakdown <> 'all' order by breakdown, category",
    )
    assert groups[-1][1:] == [
        estimate(*figures) + ("" if base is None else f"\nbase {base:,}") for *figures, base in rows
    ]
    rows = marts(
        six,
        "select survey_year, response_label, pct, ci_low, ci_high from marts.estimates "
        f"where question_id = 'crisis_contact_known' and {COUNTRY} order by response, survey_year",
    )
    shown = [(row[0], text) for row in question[:-1] for text in row[1:]]
    assert sorted(shown) == sorted((label, estimate(*figures)) for _, label, *figures in rows)
    rows = marts(
        six,
        "select survey_year, sampled, undeliverable, not_eligible, responded, response_rate, adjusted_response_rate "
        "from marts.response_rates where geography_level <> 'trust' order by survey_year",
    )
    assert rates == [
        [str(year), *(written(number, 0) for number in numbers[:4]), *(written(rate) for rate in numbers[4:])]
        for year, *numbers in rows
    ]
    count = marts(six, "select count(*) from marts.response_rates where geography_level = 'trust'")[0][0]
    assert sum(text != "\N{EN DASH}" for row in of_trusts for text in row[2:]) == count


# Downloads that hold a mart as it is.
WHOLE = ("overall_experience", "support_not_received", "contact_care_coordinator", "response_rates", "exclusions",
         "reconciliation", "published_vintages", "source_files", "waves")  # fmt: skip


def test_downloads_hold_exactly_what_is_shown(browser: Browser, six: Path) -> None:
    data = six / report.PAGE / "data"
    with opened(browser, six) as page:
        names = [
            link.removeprefix("data/").removesuffix(".csv")
            for link in page.evaluate("[...document.querySelectorAll('a[download]')].map(a => a.getAttribute('href'))")
        ]
        # Whoever has a table can download it; two are counted from another one, which has its own.
        tables = page.evaluate("[...document.querySelectorAll('table')].map(table => table.id.slice(6))")
    assert sorted(path.stem for path in data.iterdir()) == sorted(names)
    assert set(tables) - set(names) == {"response_rates_of_trusts", "agreement_by_wave"}
    for name in WHOLE:
        columns = [c for (c,) in marts(six, f"select column_name from duckdb_columns() where table_name = '{name}'")]
        with (data / f"{name}.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        assert list(rows[0]) == columns
        theirs = marts(six, f"select * from marts.{name}")
        expected = [["" if value is None else str(value) for value in row] for row in theirs]
        assert sorted(list(row.values()) for row in rows) == sorted(expected), name


def test_trusts_can_be_searched_and_sorted(browser: Browser, six: Path) -> None:
    with opened(browser, six) as page:
        table = page.locator("#table-trusts_contact_care_coordinator_no")
        names = [row[0] for row in cells(page, "trusts_contact_care_coordinator_no")]
        page.locator("#trusts .find input").fill(names[3].upper())
        assert table.is_visible()
        assert table.locator("tbody tr:visible th").all_text_contents() == [names[3]]
        assert page.locator("#trusts .find [role=status]").inner_text() == "1 found"
        found = page.locator("#trusts svg .found title").all_text_contents()
        assert len(found) >= 3 and all(text.startswith(names[3]) for text in found)
        page.locator("#trusts .find input").fill("")
        page.locator("#trusts details").last.evaluate("details => details.open = true")
        percent = table.get_by_role("button", name="Percent")
        for direction, reverse in (("ascending", False), ("descending", True)):
            percent.press("Enter")
            assert table.locator("th[aria-sort]").get_attribute("aria-sort") == direction
            shown = [float(row[2].split("\n")[0]) for row in cells(page, "trusts_contact_care_coordinator_no")]
            assert shown == sorted(shown, reverse=reverse)


# ---------------------------------------------------------------------------------------- breaks and changes

CLAIM = re.compile(
    r"(?:(?P<verb>rose|fell) from|was) (?P<before>[\d.]+) % in (?P<from>\d{4}) (?:to|and) (?P<after>[\d.]+) % in "
    r"(?P<to>\d{4})(?:, a change of |: no significant change, )(?P<change>[+−\d.]+) percentage points "
    r"\(95 % interval (?P<low>[−\d.]+) to (?P<high>[−\d.]+)\)"
)


def test_the_commentary_is_that_of_marts_changes(browser: Browser, six: Path) -> None:
    changes = {
        (label, response, start, end): (change, low, high, comparable, significant)
        for label, response, start, end, change, low, high, comparable, significant in marts(
            six,
            "select question_label, response, from_year, to_year, change, ci_low, ci_high, comparable, significant "
            "from marts.changes where geography_level <> 'trust'",
        )
    }
    shares = {
        (label, response, year): pct
        for label, response, year, pct in marts(
            six, f"select question_label, response, survey_year, pct from marts.estimates where {COUNTRY}"
        )
    }
    claims = []
    with opened(browser, six) as page:
        for section, subject in (("experience", "score"), ("support", "area"), ("contact", "")):
            for text in page.locator(f"#{section} .points li").all_inner_texts():
                text = text.replace("\N{NO-BREAK SPACE}", " ")
                if subject == "score":
                    of = ("Overall experience, 0 to 10", re.match(r"Score (\d+)", text)[1])  # type: ignore[index]
                elif subject == "area":
                    of = (text.split(":")[0], "no_would_have_liked")
                else:
                    of = ("Knows how to contact the person in charge", "no")
                for claim in CLAIM.finditer(text):
                    years = int(claim["from"]), int(claim["to"])
                    change, low, high, comparable, significant = changes[(*of, *years)]
                    assert comparable, text
                    assert bool(claim["verb"]) == significant
                    assert (claim["before"], claim["after"]) == tuple(written(shares[(*of, year)]) for year in years)
                    assert claim["change"] == with_sign(change)
                    assert (claim["low"], claim["high"]) == (written(low), written(high))
                    assert claim["verb"] in (None, "rose" if change > 0 else "fell")
                    claims.append((*of, *years))
                # Nothing is said of a change in other words.
                assert len(re.findall(r"\b(?:rose|fell|was) ", text)) == len(CLAIM.findall(text)), text
        breaks = page.locator("#contact .lead").inner_text()
    ends = [(of[2], of[3]) for of in claims if of[0].startswith("Overall")]
    assert len(ends) == 2 * 11 and len(set(ends)) == 2
    assert len(claims) >= 2 * 11 + 7 + 2
    [(start, end, note)] = marts(
        six,
        "select from_year, to_year, comparability_note from marts.changes where question_id = "
        "'contact_care_coordinator' and response = 'no' and geography_level <> 'trust' and span = 'wave_to_wave' "
        "and not comparable",
    )
    assert f"{start} and {end} cannot be compared. Why: {note}." in breaks
    assert "not a change in experience" in breaks


def test_no_line_is_drawn_across_a_break(browser: Browser, six: Path) -> None:
    rows = marts(
        six, "select survey_year, series_break_before from marts.contact_care_coordinator order by survey_year"
    )
    lengths = [0]
    for _, broken in rows:
        lengths = [*lengths, 1] if broken else [*lengths[:-1], lengths[-1] + 1]
    assert len(lengths) == 2
    with opened(browser, six) as page:
        for form in ("wide", "narrow"):
            chart = page.locator(f"#contact figure .{form} svg")
            lines = chart.locator(".mark-line path").evaluate_all("paths => paths.map(path => path.getAttribute('d'))")
            assert sorted(len(re.findall("[ML]", line)) for line in lines) == sorted(lengths)
            assert "break" in chart.locator("text").all_text_contents()
            assert chart.locator("line[stroke-width='7']").count() == len(rows)
            first_after = next(year for year, broken in rows if broken)
            assert f"with a break before {first_after}" in (chart.get_attribute("aria-label") or "")


def series(*rows: tuple[int, float | None, bool]) -> list[dict[str, Any]]:
    return [{"survey_year": year, "pct": pct, "series_break_before": broken} for year, pct, broken in rows]


def change_of(change: float | None, *, comparable: bool = True, significant: bool | None = None) -> dict[str, Any]:
    size = {"ci_low": None, "ci_high": None} if change is None else {"ci_low": change - 1, "ci_high": change + 1}
    notes = {"comparability_note": "another question", "suppression_reason": "too few"}
    # Where nothing could be tested the mart says that the change is not significant.
    test = {"p_value": None if significant is None else 0.01 if significant else 0.5, "significant": bool(significant)}
    return {"change": change, "comparable": comparable} | test | size | notes


def test_what_is_said_of_a_change_and_of_none() -> None:
    def said(*rows: tuple[int, float | None, bool], **changes: dict[str, Any]) -> list[str]:
        pairs = {(int(pair[1]), int(pair[2])): change for pair, change in changes.items()}
        return [text.replace("\N{NO-BREAK SPACE}", " ") for text in commentary.of_series(series(*rows), pairs)]

    two_waves = (1, 18.2, False), (2, 20.4, False)
    assert said(*two_waves, y12=change_of(2.17, significant=True)) == [
        "rose from 18.2 % in 1 to 20.4 % in 2, a change of +2.2 percentage points (95 % interval 1.2 to 3.2)."
    ]
    assert said(*two_waves, y12=change_of(0.04, significant=False)) == [
        "was 18.2 % in 1 and 20.4 % in 2: no significant change, 0.0 percentage points (95 % interval −1.0 to 1.0)."
    ]
    assert said(*two_waves, y12=change_of(0.04)) == [
        "was 18.2 % in 1 and 20.4 % in 2: no test was possible, 0.0 percentage points (95 % interval −1.0 to 1.0)."
    ]
    assert said(*two_waves, y12=change_of(2.0, comparable=False, significant=True)) == [
        "cannot be compared between 1 and 2: another question."
    ]
    assert said((1, None, False), (2, 20.4, False), y12=change_of(None)) == ["is hidden in 1 or 2: too few."]
    assert said((1, 18.2, False)) == []
    # Two blocks: the step between them is no change, whatever the marts hold of it.
    broken = (1, 18.2, False), (2, 20.4, True)
    across = change_of(2.17, comparable=False)
    assert said(*broken, y12=across) == []
    assert commentary.of_breaks(series(*broken), {(1, 2): across}) == [(1, 2, "another question")]


# ---------------------------------------------------------------------------------------- text, hidden values, others

HOSTILE = """<script>window.hit = 1</script>"><img src=x onerror="window.hit = 1"> & role="x" =1+1"""
LABELS = {
    "estimates": ("geography_name", "question_label", "response_label", "category_label"),
    "overall_experience": ("response_label", "question_label"),
    "support_not_received": ("area", "question_label"),
    "contact_care_coordinator": ("question_label",),
    "question_wording": ("question_label", "wording", "raw_column", "comparability_note"),
    "response_rates": ("geography_name",),
    "trust_comparisons": ("trust_name", "question_label"),
    "trusts": ("trust_name",),
    "exclusions": ("question_label",),
    "changes": ("comparability_note",),
    "waves": ("wave_label",),
    "source_files": ("path", "licence"),
    "guideline_alignment": ("statement_title", "source", "rationale"),
}


def test_names_and_labels_with_markup_stay_text(browser: Browser, hand_worked: Warehouse, tmp_path: Path) -> None:
    hostile = HOSTILE.replace("'", "''")
    changes = [
        f"update marts.{table} set {', '.join(f'''{column} = {column} || '{hostile}' ''' for column in columns)}"
        for table, columns in LABELS.items()
    ]
    # Ids become names of files; the data of a download begin like a formula.
    for table in ("estimates", "contact_care_coordinator", "changes", "question_wording", "trust_comparisons"):
        changes.append(f"update marts.{table} set question_id = '../' || question_id")
    changes.append("update marts.waves set wave_label = '=1+1' || wave_label")
    told = ", ".join([f"'{hostile}'", "2013", *[f"'{hostile}'"] * 6, "'2026-11-25'"])
    changes.append(f"insert into marts.corrections values ({told})")
    release = rewritten(hand_worked, tmp_path / "release", *changes)
    with opened(browser, release) as page:
        assert page.evaluate("window.hit") is None
        assert page.locator("script").count() == 1
        assert page.locator("img, [onerror]").count() == 0
        text = page.locator("main").inner_text()
        assert text.count("window.hit = 1") > 20
        drawn = " ".join(page.locator("svg text").all_text_contents())
        assert all(part in drawn for part in ("<script>window.hit", '"><img', 'role="x"'))
        assert violations(page) == []
    outside = {path.name for path in release.iterdir()} - {path.name for path in folder_of(hand_worked).iterdir()}
    assert outside <= {report.PAGE}
    assert {path.name for path in (release / report.PAGE).iterdir()} == {"index.html", "data"}
    with (release / report.PAGE / "data" / "waves.csv").open(encoding="utf-8", newline="") as file:
        assert all(row["wave_label"].startswith("'=1+1") for row in csv.DictReader(file))


def test_hidden_figures_are_shown_as_hidden(browser: Browser, hand_worked: Warehouse, tmp_path: Path) -> None:
    """Also those of the whole country; a figure that the marts hide is nowhere in the files of the page."""
    tables = ("overall_experience", "support_not_received", "contact_care_coordinator")
    figures = "pct = null, se = null, ci_low = null, ci_high = null, base = null, suppressed = true"
    hide = [
        *(f"update marts.{table} set {figures}, suppression_reason = 'too few'" for table in tables),
        f"update marts.estimates set {figures}, effective_base = null, design_effect = null, "
        f"suppression_reason = 'too few' where {COUNTRY}",
        "update marts.changes set change = null, se = null, ci_low = null, ci_high = null, significant = null, "
        "p_value = null, suppressed = true, suppression_reason = 'too few' where geography_level <> 'trust'",
        "update marts.means set mean_score = null, se = null, ci_low = null, ci_high = null, base = null, "
        "suppressed = true, suppression_reason = 'too few'",
        "delete from marts.weighting_effect",
        "update marts.reconciliation set our_pct = null, difference = null, agrees = null",
        "update marts.published_vintages set our_pct = null, our_difference = null",
        "update marts.guideline_alignment set pct_met = null, se = null, ci_low = null, ci_high = null, base = null, "
        "suppressed = true, suppression_reason = 'too few'",
        "update marts.trust_comparisons set national_pct = null",
    ]
    release = rewritten(hand_worked, tmp_path / "release", *hide)
    with opened(browser, release) as page:
        assert page.locator(".headlines strong").all_inner_texts() == ["hidden"] * 3
        assert {text for row in cells(page, "contact_care_coordinator") for text in row[1:2]} == {"hidden"}
        assert "hidden: too few." in page.locator("#caption-contact_care_coordinator").inner_text()
        assert page.locator("#contact figure").count() == 0
        text = page.locator("main").inner_text()
        assert not re.search(r"\b(None|nan|NaN|null|undefined)\b", text)
        assert violations(page) == []
    exact = [
        str(pct)
        for (pct,) in hand_worked.published(f"select pct from marts.estimates where {COUNTRY}").itertuples(index=False)
        if len(str(pct)) > 10
    ]
    assert len(exact) > 10
    content = "".join(path.read_text(encoding="utf-8") for path in (release / report.PAGE).rglob("*.*"))
    assert [pct for pct in exact if pct in content] == []


def test_figures_without_an_interval_are_shown_alone(browser: Browser, hand_worked: Warehouse, tmp_path: Path) -> None:
    tables = ("estimates", "overall_experience", "contact_care_coordinator")
    gone = [f"update marts.{table} set se = null, ci_low = null, ci_high = null" for table in tables]
    gone += ["update marts.weighting_effect set se = null, design_effect = null"]
    gone += ["update marts.changes set se = null, ci_low = null, ci_high = null, p_value = null, significant = false"]
    with opened(browser, rewritten(hand_worked, tmp_path / "release", *gone)) as page:
        assert all(re.fullmatch(r"[\d.]+", row[1]) and row[2] == "" for row in cells(page, "contact_care_coordinator"))
        assert page.locator("#contact figure .wide .mark-symbol path").count() == 2
        assert page.locator("#contact figure line[stroke-width='7']").count() == 0
        assert "no test was possible" in page.locator("#experience").inner_text()
        assert not re.search(r"\b(None|nan|NaN|null|undefined)\b|interval \)", page.locator("main").inner_html())


def test_what_the_marts_hide_is_hidden_with_its_reason(browser: Browser, two: Path) -> None:
    rows = marts(
        two,
        "select trust, suppressed, suppression_reason from marts.trust_comparisons where survey_year = "
        "(select max(survey_year) from marts.waves) and question_id = 'contact_care_coordinator' and response = 'no' "
        "order by trust_name, trust",
    )
    assert any(suppressed for _, suppressed, _ in rows)
    with opened(browser, two) as page:
        shown = cells(page, "trusts_contact_care_coordinator_no")
    assert [row[1] for row in shown] == [trust for trust, *_ in rows]
    for row, (_, suppressed, reason) in zip(shown, rows, strict=True):
        assert (row[2:5] == ["hidden"] * 3) == suppressed
        assert (row[5] == reason) == suppressed


def test_another_survey_has_a_page_too(browser: Browser, cchs: Warehouse, tmp_path: Path) -> None:
    release = rewritten(cchs, tmp_path / "release")
    with opened(browser, release) as page:
        page.evaluate(OPEN)
        # What tables hold is told in the same words for every survey.
        page.locator("#about details", has_text="Every published table").evaluate("details => details.remove()")
        text = page.locator("body").inner_text()
        assert PROVENANCE_IN_WORDS["deposit"] in text
        assert "synthetic" not in text.lower()
        assert "England" not in text and "Canada" in text
        assert page.locator(".banner, #experience, #support, #contact, #trusts").count() == 0
        questions = marts(release, f"select count(distinct question_id) from marts.estimates where {COUNTRY}")[0][0]
        assert page.locator("#questions table").count() == questions > 0
        assert not re.search(r"\b(None|nan|NaN|null|undefined)\b", text)
        assert violations(page) == []


def test_one_wave_and_no_trusts_make_a_page(browser: Browser, hand_worked: Warehouse, tmp_path: Path) -> None:
    yearly = ("estimates", "means", "trust_comparisons", "trust_band_counts", "guideline_alignment", "waves", "trusts",
              "exclusions", "response_rates", "weighting_effect", "reconciliation", "published_vintages",
              "question_wording", "overall_experience", "support_not_received", "contact_care_coordinator")  # fmt: skip
    last = hand_worked.published("select max(survey_year) as year from marts.waves")["year"][0]
    release = rewritten(
        hand_worked,
        tmp_path / "release",
        *(f"delete from marts.{table} where survey_year <> {last}" for table in yearly),
        "delete from marts.changes",
        "delete from marts.instrument_changes",
        "delete from marts.trust_comparisons",
        "delete from marts.response_rates",
        "delete from marts.reconciliation",
        "delete from marts.guideline_alignment",
        "delete from marts.estimates where geography_level = 'trust' or breakdown <> 'all'",
        "update marts.release_info set wave_count = 1",
    )
    with opened(browser, release) as page:
        assert page.locator("#experience, #support, #contact").count() == 3
        assert page.locator("#trusts, #agreement, #guideline, #people").count() == 0
        assert not re.search(r"\b(rose|fell)\b", page.locator("main").inner_text())
        assert "holds 1 wave." in page.locator("#summary").inner_text()
        assert violations(page) == []


def test_a_page_without_any_figures_says_what_it_is(browser: Browser, hand_worked: Warehouse, tmp_path: Path) -> None:
    tables = hand_worked.published("select table_name from duckdb_tables() where schema_name = 'marts'")["table_name"]
    empty = [f"delete from marts.{table}" for table in tables if table not in ("waves", "release_info")]
    with opened(browser, rewritten(hand_worked, tmp_path / "release", *empty)) as page:
        assert page.locator("main > section").evaluate_all("all => all.map(s => s.id)") == ["summary", "about"]
        assert "none of the indicators" in page.locator("#summary").inner_text()
        assert violations(page) == []


# ---------------------------------------------------------------------------------------- part of a release


def test_the_page_belongs_to_the_release(hand_worked: Warehouse) -> None:
    folder = folder_of(hand_worked)
    files = notes_of(folder)["files"]
    below = {str(path.relative_to(folder)) for path in (folder / report.PAGE).rglob("*") if path.is_file()}
    assert "report/index.html" in below
    assert below <= files.keys()
    html = (folder / "report/index.html").read_text(encoding="utf-8")
    assert notes_of(folder)["release_id"] in html
    assert all(source["sha256"] in html for source in notes_of(folder)["inputs"])


def test_the_same_release_gives_the_same_page(two: Path, hand_worked: Warehouse, tmp_path: Path) -> None:
    def files(release: Path) -> dict[str, bytes]:
        below = release / report.PAGE
        return {str(path.relative_to(below)): path.read_bytes() for path in below.rglob("*") if path.is_file()}

    assert files(rewritten(hand_worked, tmp_path / "again")) == files(two)
    assert len(files(two)) > 15


def test_what_was_restated_is_told(browser: Browser, hand_worked: Warehouse, tmp_path: Path) -> None:
    release = rewritten(hand_worked, tmp_path / "release")
    by_question = [{"survey_year": 1, "question_id": None, "values": 3, "reasons": ["<b>a slip</b> (A, today)"]}]
    report.write(release, {"release_id": "earlier", "tolerance": 0.05, "values": 3, "by_question": by_question})
    with opened(browser, release) as page:
        about = page.locator("#about").inner_text()
    assert "3 values of release earlier are given otherwise" in about
    assert "wave 1, no question: 3 values; <b>a slip</b> (A, today)" in about


def test_a_page_that_cannot_be_written_stops_the_release(
    superseded: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = superseded.published_bytes()

    def broken(*_: object) -> None:
        raise ValueError("no ink")

    monkeypatch.setattr(charts, "drawn", broken)
    with pytest.raises(Refusal, match=r"page could not be written \(ValueError: no ink\)"):
        publish(superseded)
    assert superseded.published_bytes() == before


def test_charts_are_valid_vega_lite(hand_worked: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from altair.vegalite.v6.schema.core import load_schema
    from jsonschema import Draft7Validator

    drawn = []
    real = charts.drawn
    monkeypatch.setattr(charts, "drawn", lambda spec, alternative: drawn.append(spec) or real(spec, alternative))
    rewritten(hand_worked, tmp_path / "release")
    points = [{"base": 40, "pct": 3.0, "band": "about as expected", "label": "", "above": True, "tip": "x"}]
    limits = [{"base": 40, "national": 3.0, "low": 0.0, "high": 9.0}]
    drawn.append(charts.funnel(points, limits, width=charts.NARROW, title="%"))
    assert len(drawn) > 8
    validator = Draft7Validator(load_schema())
    for spec in drawn:
        errors = list(validator.iter_errors({"$schema": charts.SCHEMA, **spec, "config": charts.CONFIG}))
        assert [error.message[:200] for error in errors] == []


def test_no_template_names_a_year() -> None:
    files = [
        path for path in (ROOT / "orchestration" / "report").rglob("*") if path.suffix in (".jinja", ".css", ".js")
    ]
    assert len(files) >= 5
    assert [path.name for path in files if re.search(r"\b(19|20)\d\d\b", path.read_text(encoding="utf-8"))] == []
