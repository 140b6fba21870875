"""The findings, as their readers know them: overall experience, support not received, not knowing whom to contact.

Belongs here: the indicators of the whole country. Does not: trusts, groups of people, method (context).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from orchestration.report import charts
from orchestration.report.commentary import blocks, of_breaks, of_series
from orchestration.report.marts import Marts
from orchestration.report.sections import Part, Section, chart
from orchestration.report.tables import (
    HIDDEN,
    Cell,
    Row,
    Table,
    based,
    count,
    decimal,
    interval,
    percent,
    share,
    signed,
    told,
    why_hidden,
    words,
)

OF_RESPONDENTS = "% of those who answered"
INTERVALS = "Bars are 95 % intervals; the vertical axis starts at 0."
BROKEN = (
    "A dotted line marks a break in the series: hollow points are before it and cannot be compared with those after."
)


@dataclass(frozen=True)
class Headline:
    """A finding in one figure."""

    name: str
    figure: str
    says: str
    moved: str


def _points(panel: str, series: Sequence[Row], years: Sequence[int]) -> list[dict[str, Any]]:
    """The rows of a chart for one series: points are joined within a block, and not over a wave that did not ask."""
    place = {year: position for position, year in enumerate(years)}
    cut = blocks(series)
    points = []
    block = 0
    for number, part in enumerate(cut):
        shown = [row for row in part if row["pct"] is not None]
        for position, row in enumerate(shown):
            year = row["survey_year"]
            if position == 0 or place[year] != place[shown[position - 1]["survey_year"]] + 1:
                block += 1
            points.append(
                {
                    "panel": panel,
                    "year": year,
                    "pct": row["pct"],
                    "ci_low": row["ci_low"],
                    "ci_high": row["ci_high"],
                    "block": block,
                    "older": number < len(cut) - 1,
                    "break_before": number > 0 and position == 0,
                    "label": decimal(row["pct"]) if position in (0, len(shown) - 1) else "",
                    "tip": f"{panel.replace(chr(10), ' ')}, {year}: {told(row)}",
                }
            )
    return points


def _wording(marts: Marts, name: str, questions: Sequence[str]) -> Table:
    rows = marts.wording(questions)
    return Table(
        f"wording_{name}",
        "How the question was asked in each wave",
        ["Question", "Wave", "Wording", "Compared with the wave before"],
        [
            [
                words(row["question_label"]),
                Cell(str(row["survey_year"])),
                words(row["wording"]),
                Cell(row["comparability"], [row["comparability_note"] or ""]),
            ]
            for row in rows
        ],
        rows,
        folded="The wording of the question in each wave",
    )


def _breaks_in_words(breaks: Sequence[tuple[str, tuple[int, int, str]]]) -> list[str]:
    """One sentence for each break, whatever the number of series it goes through."""
    of: dict[tuple[int, int, str], list[str]] = {}
    for label, step in breaks:
        of.setdefault(step, []).append(label)
    return [
        f"Break in the series: {before} and {after} cannot be compared{_among(labels)}. Why: {why}. "
        "The difference between these waves is not a change in experience."
        for (before, after, why), labels in of.items()
    ]


def _among(labels: Sequence[str]) -> str:
    return f" ({'; '.join(labels)})" if any(labels) else ""


def _alternative(what: str, points: Sequence[dict[str, Any]]) -> str:
    """A chart in words: where each of its series begins and ends."""
    ends = []
    for panel, group in groupby(points, lambda point: str(point["panel"]).replace("\n", " ")):
        rows = list(group)
        first, last = rows[0], rows[-1]
        broken = "".join(f", with a break before {row['year']}" for row in rows if row["break_before"])
        ends.append(
            f"{panel}: {percent(first['pct'])} in {first['year']}, {percent(last['pct'])} in {last['year']}{broken}"
        )
    return f"{what}, with 95 % intervals. {'; '.join(ends)}. The table below holds every figure."


def experience(marts: Marts) -> tuple[Headline, Section] | None:
    """Overall experience by score and wave; None where no wave asked."""
    rows = marts.scores
    if not rows:
        return None
    label = rows[0]["question_label"]
    of_score = {score: list(group) for score, group in groupby(rows, lambda row: row["score"])}
    years = sorted({row["survey_year"] for row in rows})
    question = rows[0]["question_id"]
    top = of_score[max(of_score)]
    moved = {
        score: of_series(series, marts.changes[question, series[0]["response"]]) for score, series in of_score.items()
    }
    name = {score: str(series[-1]["response_label"]) for score, series in of_score.items()}
    spoken: dict[str, list[tuple[str, str]]] = {"rose": [], "fell": [], "other": []}
    for score, sentences in reversed(moved.items()):
        if sentences:
            verb = sentences[0].split(" ", 1)[0]
            spoken[verb if verb in spoken else "other"].append(
                (f"Score {name[score]}:", f"the share {' '.join(sentences)}")
            )
    breaks = [("", step) for step in of_breaks(top, marts.changes[question, top[0]["response"]])]
    points = [
        point for score, series in of_score.items() for point in _points(charts.wrapped(name[score], 14), series, years)
    ]
    drawing = []
    if points:
        drawing.append(
            chart(
                f"{label}, by score and wave",
                f"{INTERVALS} {BROKEN if breaks else ''}",
                _alternative(f"{label}: share of each score by wave", points),
                charts.series(points, years, width=charts.NARROW, columns=3, title=OF_RESPONDENTS),
                charts.series(points, years, width=charts.WIDE, columns=6, title=OF_RESPONDENTS),
            )
        )
    cells = {(row["score"], row["survey_year"]): row for row in rows}
    bases = {row["survey_year"]: row["base"] for row in rows}
    first, last = years[0], years[-1]
    body = [
        [
            words(name[score]),
            *(share(cells.get((score, year))) for year in years),
            *(
                [_change_cell(marts.changes[question, series[0]["response"]].get((first, last)))]
                if last > first
                else []
            ),
        ]
        for score, series in of_score.items()
    ]
    body.append(
        [words("Base (persons)"), *(count(bases[year]) for year in years), *([words("")] if last > first else [])]
    )
    table = Table(
        "overall_experience",
        f"{label}: percent of those who answered, by score and wave, {marts.country_name}",
        ["Score", *map(str, years), *([f"Change {first} to {last}, percentage points"] if last > first else [])],
        body,
        rows,
        ["Below each share its 95 % interval.", *why_hidden(rows)],
    )
    means = marts.rows(
        "from marts.means where question_id = $1 and geography_level <> 'trust' and breakdown = 'all' order by "
        "survey_year",
        question,
    )
    mean_table = Table(
        "overall_experience_mean",
        f"{label}: mean score, {marts.country_name}",
        ["Wave", "Mean score", "Base"],
        [[words(row["survey_year"]), share(row, "mean_score", 2), count(row["base"])] for row in means],
        means,
        ["Below each mean its 95 % interval.", *why_hidden(means)],
        folded="The mean score by wave",
    )
    whole_span = [marts.changes[question, series[0]["response"]].get((first, last)) for series in of_score.values()]
    tested = sum(bool(change and change["comparable"] and change["p_value"] is not None) for change in whole_span)
    part = Part(
        lead=[
            "People were asked to rate their experience overall. Each panel is one score: the share of those "
            "who gave it.",
            *(
                [f"{tested} changes are tested: if nothing had changed, one test in twenty would still be significant."]
                if tested
                else []
            ),
            *_breaks_in_words(breaks),
        ],
        points=[*spoken["rose"], *spoken["fell"], *spoken["other"]],
        charts=drawing,
        tables=[table, *([mean_table] if means else []), _wording(marts, "overall_experience", [question])],
    )
    latest = top[-1]
    headline = Headline(
        "experience",
        HIDDEN if latest["pct"] is None else percent(latest["pct"]),
        f"gave the highest score, {name[max(of_score)]}, for their overall experience in {latest['survey_year']}",
        _moved(top, moved[max(of_score)]),
    )
    return headline, Section("experience", "Overall experience", [part])


def _change_cell(change: Row | None) -> Cell:
    if change is None:
        return words("")
    if not change["comparable"]:
        return words("not comparable")
    if change["change"] is None:
        return Cell(HIDDEN, number=True)
    verdict = "no test possible" if change["p_value"] is None else "not significant"
    notes = [interval(change), *([] if change["significant"] else [verdict])]
    return Cell(signed(change["change"]), notes, number=True, order=change["change"])


def _moved(series: Sequence[Row], sentences: Sequence[str]) -> str:
    """What a headline says of the way to its figure."""
    latest = series[-1]
    if latest["pct"] is None:
        return f"{HIDDEN}: {latest['suppression_reason']}."
    between = f"95 % interval {interval(latest)}; " if interval(latest) else ""
    moved = f" It {sentences[0]}" if sentences and len(blocks(series)[-1]) > 1 else ""
    return f"{between}base {latest['base']:,}.{moved}"


def support(marts: Marts) -> tuple[Headline, Section] | None:
    """Support wanted and not received by area of life and wave; None where no wave asked."""
    rows = marts.support
    if not rows:
        return None
    of_area = {label: list(group) for label, group in groupby(rows, lambda row: str(row["question_label"]))}
    years = sorted({row["survey_year"] for row in rows})
    points, breaks, said = [], [], []
    for label, series in of_area.items():
        changes = marts.changes[series[0]["question_id"], series[0]["response"]]
        points += _points(charts.wrapped(label, 30), series, years)
        breaks += [(label, step) for step in of_breaks(series, changes)]
        if sentences := of_series(series, changes):
            said.append((f"{label}:", f"the share {' '.join(sentences)}"))
    latest = [row for row in rows if row["survey_year"] == years[-1] and row["pct"] is not None]
    latest.sort(key=lambda row: row["pct"])
    lead = []
    if latest:
        least, most = latest[0], latest[-1]
        lead = [
            f"In {years[-1]} the share was largest for {_lower(most['question_label'])} ({percent(most['pct'])}) "
            f"and smallest for {_lower(least['question_label'])} ({percent(least['pct'])})."
        ]
    drawing = []
    if points:
        drawing.append(
            chart(
                "Support wanted and not received, by area and wave",
                f"{INTERVALS} {BROKEN if breaks else ''}",
                _alternative("Support wanted and not received", points),
                charts.series(points, marts.years, width=charts.NARROW, columns=1, title=OF_RESPONDENTS),
                charts.series(points, marts.years, width=charts.WIDE, columns=3, title=OF_RESPONDENTS),
            )
        )
    table = Table(
        "support_not_received",
        f"Support wanted and not received: percent by area and wave, {marts.country_name}",
        ["Area", *map(str, years)],
        [
            [words(label), *(based(next((r for r in series if r["survey_year"] == year), None)) for year in years)]
            for label, series in of_area.items()
        ],
        rows,
        ["Below each share its 95 % interval, its base in persons and where the series breaks.", *why_hidden(rows)],
    )
    questions = sorted({row["question_id"] for row in rows})
    section = Section(
        "support",
        "Support wanted and not received",
        [
            Part(
                lead=[
                    "The share of people who were given no help with something although they would have liked it, "
                    "among those who were given help or would have liked it. People who needed none are not counted.",
                    *lead,
                    *_breaks_in_words(breaks),
                ],
                points=said,
                charts=drawing,
                tables=[table, _wording(marts, "support_not_received", questions)],
            )
        ],
    )
    if not latest:
        return Headline("support", HIDDEN, "wanted support and did not receive it", " ".join(why_hidden(rows))), section
    series = of_area[str(latest[-1]["question_label"])]
    changes = marts.changes[series[0]["question_id"], series[0]["response"]]
    return (
        Headline(
            "support",
            percent(latest[-1]["pct"]),
            f"wanted it and did not receive it in {years[-1]}: {_lower(str(latest[-1]['question_label']))}, the "
            f"largest share of {len(latest)} areas",
            _moved(series, of_series(series, changes)),
        ),
        section,
    )


def _lower(label: str) -> str:
    """A label within a sentence."""
    return label[:1].lower() + label[1:] if label[1:2].islower() else label


def contact(marts: Marts) -> tuple[Headline, Section] | None:
    """Not knowing whom to contact, by wave; None where no wave asked."""
    rows = marts.contact
    if not rows:
        return None
    question, response, label = rows[0]["question_id"], rows[0]["response"], str(rows[0]["question_label"])
    changes = marts.changes[question, response]
    breaks = [("", step) for step in of_breaks(rows, changes)]
    said = of_series(rows, changes)
    points = _points(label, rows, marts.years)
    drawing = []
    if points:
        drawing.append(
            chart(
                "Does not know how to contact the person in charge of care, by wave",
                f"{INTERVALS} {BROKEN if breaks else ''}",
                _alternative("Not knowing whom to contact", points),
                charts.series(points, marts.years, width=charts.NARROW, columns=1, title=OF_RESPONDENTS),
                charts.series(points, marts.years, width=charts.WIDE, columns=1, title=OF_RESPONDENTS),
            )
        )
    table = Table(
        "contact_care_coordinator",
        f"Does not know how to contact the person in charge of care: percent by wave, {marts.country_name}",
        ["Wave", "Percent", "95 % interval", "Base (persons)", "Compared with the wave before"],
        [
            [
                Cell(str(row["survey_year"])),
                Cell(share(row).text, number=True),
                Cell(interval(row), number=True),
                count(row["base"]),
                words("break: not comparable" if row["series_break_before"] else ""),
            ]
            for row in rows
        ],
        rows,
        why_hidden(rows),
    )
    section = Section(
        "contact",
        "Not knowing whom to contact",
        [
            Part(
                lead=[
                    "The share of people who do not know how to contact the person in charge of their care, among "
                    "those who know who that is and gave an answer. "
                    + ("Each wave's own wording stands below: a break is another question." if breaks else ""),
                    *_breaks_in_words(breaks),
                ],
                points=[("The share", " ".join(said))] if said else [],
                charts=drawing,
                tables=[table, _wording(marts, "contact_care_coordinator", [question])],
            )
        ],
    )
    latest = rows[-1]
    return (
        Headline(
            "contact",
            HIDDEN if latest["pct"] is None else percent(latest["pct"]),
            f"did not know how to contact the person in charge of their care in {latest['survey_year']}",
            _moved(rows, said),
        ),
        section,
    )
