"""What stands beside the findings: who answered, trusts, groups of people, method, agreement, the guideline.

Belongs here: sections that hold for any survey, as far as its marts have rows. Does not: the findings themselves.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import groupby
from statistics import median
from typing import Any

from orchestration.report import charts
from orchestration.report.marts import Marts, Measure
from orchestration.report.sections import Chart, Part, Section, chart
from orchestration.report.tables import (
    HIDDEN,
    Cell,
    Row,
    Table,
    based,
    count,
    decimal,
    figure,
    interval,
    percent,
    share,
    signed,
    slug,
    told,
    why_hidden,
    words,
)

NORMAL_QUANTILE = 1.96


def plain(identifier: str) -> str:
    """The id of a status as words."""
    return identifier.replace("_", " ").replace("dont", "don't")


def response(marts: Marts) -> Section | None:
    """Who answered, beside what weighting did."""
    parts = [part for part in (_rates(marts), _weighting(marts)) if part]
    if not parts:
        return None
    both = Part(
        lead=[paragraph for part in parts for paragraph in part.lead],
        charts=[drawing for part in parts for drawing in part.charts],
        tables=[table for part in parts for table in part.tables],
    )
    return Section("response", "Who answered, and what weighting did", [both])


def _rates(marts: Marts) -> Part | None:
    rows = marts.rows("from marts.response_rates order by geography_name, geography_code, survey_year")
    country = [row for row in rows if row["geography_level"] != "trust"]
    trusts = [row for row in rows if row["geography_level"] == "trust"]
    if not rows:
        return None
    country.sort(key=lambda row: row["survey_year"])
    rate = "response_rate" if any(row["adjusted_response_rate"] is None for row in rows) else "adjusted_response_rate"
    title = "response rate, %" if rate == "response_rate" else "adjusted response rate, %"
    years = sorted({row["survey_year"] for row in rows})
    points = [
        {
            "year": row["survey_year"],
            "rate": row[rate],
            "country": row["geography_level"] != "trust",
            "label": decimal(row[rate]),
            "tip": f"{row['geography_name']}, {row['survey_year']}: {percent(row[rate])}",
        }
        for row in rows
        if row[rate] is not None
    ]
    spans = []
    for year in years:
        of_year = [point for point in points if point["year"] == year]
        whole = ", ".join(point["label"] for point in of_year if point["country"])
        if of_year:
            values = [point["rate"] for point in of_year]
            spans.append(f"{year}: {whole} %, trusts from {decimal(min(values))} to {decimal(max(values))} %")
    by_trust: dict[str, dict[int, Row]] = {}
    names: dict[str, str] = {}
    for row in trusts:
        by_trust.setdefault(row["geography_code"], {})[row["survey_year"]] = row
        names[row["geography_code"]] = row["geography_name"]
    return Part(
        lead=[
            "Each tick is a trust, the diamond the whole country; the vertical axis starts at 0. The adjusted rate "
            "leaves out those who had died, could not be reached or were not eligible."
        ],
        charts=[
            chart(
                "Response rates by wave",
                "",
                f"Response rates by wave. {'; '.join(spans)}. The tables below hold every figure.",
                charts.rates(points, years, width=charts.NARROW, title=title),
            )
        ]
        if points
        else [],
        tables=[
            Table(
                "response_rates",
                f"Response by wave, {marts.country_name}",
                ["Wave", "Drawn", "Undeliverable", "Not eligible", "Responded", "Response rate, %", "Adjusted rate, %"],
                [
                    [
                        words(row["survey_year"]),
                        count(row["sampled"]),
                        figure(row["undeliverable"], 0, "not known"),
                        figure(row["not_eligible"], 0, "not known"),
                        count(row["responded"]),
                        figure(row["response_rate"], 1, "not known"),
                        figure(row["adjusted_response_rate"], 1, "not known"),
                    ]
                    for row in country
                ],
                rows,
                ["The download holds the trusts too."],
            ),
            Table(
                "response_rates_of_trusts",
                f"{title[:1].upper()}{title[1:]}, by trust and wave",
                ["Trust", "Code", *map(str, years)],
                [
                    [
                        words(names[code]),
                        words(code),
                        *(figure(of[year][rate] if year in of else None, 1, "\N{EN DASH}") for year in years),
                    ]
                    for code, of in by_trust.items()
                ],
                sortable=True,
                folded=f"Response rates of {len(by_trust)} trusts",
            ),
        ],
    )


def _of(rows: Sequence[Row], measure: Measure) -> list[Row]:
    key = (measure.question_id, measure.response)
    return [row for row in rows if (row["question_id"], row["response"]) == key]


def _with_error(row: Row | None) -> Cell:
    """A share over its standard error."""
    if row is None:
        return words("")
    error = [] if row["se"] is None else [f"s.e. {decimal(row['se'], 2)}"]
    return Cell(decimal(row["pct"], 2), error, number=True)


def _weighting(marts: Marts) -> Part | None:
    everything = marts.rows("from marts.weighting_effect where survey_year = $1 order by scheme", marts.years[-1])
    data, body, points = [], [], []
    schemes = {row["scheme"]: row["scheme_label"] for row in everything}
    for measure in marts.measures:
        rows = _of(everything, measure)
        data += rows
        of = {row["scheme"]: row for row in rows}
        published = next((row for row in rows if row["is_published_scheme"]), None)
        plain_row = of.get("none")
        if published is None or plain_row is None:
            continue
        difference = published["pct"] - plain_row["pct"]
        body.append(
            [
                words(measure.label),
                *(_with_error(of.get(scheme)) for scheme in schemes),
                Cell(signed(difference, 2), number=True),
                figure(published["design_effect"], 2),
                count(published["base"]),
            ]
        )
        if published["scheme"] != "none":
            points.append(
                {
                    "name": charts.wrapped(measure.label, 32),
                    "difference": difference,
                    "label": signed(difference, 2),
                    "tip": f"{measure.label}: {signed(difference, 2)} percentage points",
                }
            )
    if not body:
        return None
    said = "; ".join(point["tip"] for point in points)
    return Part(
        lead=[
            "Trust weights make each trust count the same; population weights let its respondents stand for everybody "
            "who was drawn there. "
            f"Shown is the published share minus the unweighted one in {marts.years[-1]}; weights of published shares: "
            + "; ".join(sorted({row["scheme_label"] for row in data if row["is_published_scheme"]}))
            + "."
        ],
        charts=[
            chart(
                f"Published minus unweighted share, {marts.years[-1]}",
                "",
                f"Published minus unweighted share. {said}. The table below holds every figure.",
                charts.differences(points, width=charts.NARROW, title="percentage points"),
            )
        ]
        if points
        else [],
        tables=[
            Table(
                "weighting_effect",
                f"Shares with other weights, in percent, {marts.years[-1]}",
                [
                    "Share",
                    *schemes.values(),
                    "Published minus unweighted",
                    "Design effect",
                    "Base",
                ],
                body,
                data,
                ["Below each share its standard error (s.e.)."],
            )
        ],
    )


# ---------------------------------------------------------------------------------------- trusts


def trusts(marts: Marts) -> Section | None:
    """Trusts against the country, one part for each measure; None where there are none."""
    compared = marts.rows(
        "select c.*, e.effective_base, e.design_effect, e.ci_low as share_ci_low, e.ci_high as share_ci_high "
        "from marts.trust_comparisons as c left join marts.estimates as e on e.survey_year = c.survey_year "
        "and e.geography_level = 'trust' and e.geography_code = c.trust and e.breakdown = 'all' "
        "and e.question_id = c.question_id and e.response = c.response where c.survey_year = $1 "
        "order by c.trust_name, c.trust",
        marts.years[-1],
    )
    counted = marts.rows("from marts.trust_band_counts where survey_year = $1", marts.years[-1])
    parts = [
        _measure_of_trusts(measure, rows, next(iter(_of(counted, measure)), None))
        for measure in marts.measures
        if (rows := _of(compared, measure))
    ]
    if not parts:
        return None
    lead = Part(
        lead=[
            "Trusts ordinarily differ by more than chance, so that limits allow for both: the dashed lines are "
            "where one trust in twenty would lie outside if none differed from the rest by more than trusts "
            "ordinarily do. Being outside once, for one question in one wave, is no finding about a trust. The "
            "bands are those of this project, not of the regulator, who standardises for age and gender and scores "
            "answers.",
            "The smaller the base, the less certain the share: read its interval.",
        ]
    )
    return Section("trusts", "Trusts", [lead, *parts])


def _measure_of_trusts(measure: Measure, rows: Sequence[Row], bands: Row | None) -> Part:
    year = rows[0]["survey_year"]
    shown = [row for row in rows if not row["suppressed"]]
    said = [f"Wave {year}; {len(shown)} of {len(rows)} trusts are shown."]
    drawing: list[Chart] = []
    named: list[tuple[str, str]] = []
    if bands is not None:
        outside = [row for row in shown if row["band"] in ("better", "worse")]
        said.append(
            f"{bands['better']} better than expected, {bands['worse']} worse, {bands['about_the_same']} about as "
            f"expected; {decimal(bands['flagged_by_chance'])} of {bands['trusts']} would be "
            "outside if none differed by more than trusts ordinarily do."
        )
        named = [
            (f"{row['trust_name']} ({row['trust']}):", f"{percent(row['pct'])}, {charts.BANDS[row['band']][0]}")
            for row in outside
        ]
        points = [
            {
                "base": row["base"],
                "pct": row["pct"],
                "band": charts.BANDS[row["band"]][0],
                "label": row["trust"] if row in outside else "",
                "above": row["difference"] > 0,
                "tip": f"{row['trust_name']} ({row['trust']}): {percent(row['pct'])}, base {row['base']:,}",
            }
            for row in shown
            if row["band"] in charts.BANDS
        ]
        drawing.append(
            chart(
                f"Share of each trust by its base, {year}",
                "Solid line: the country. Dashed lines: 95 % limits, from rounded figures: close to them the shape and "
                "the table decide. The vertical axis starts at 0.",
                f"Funnel plot of {len(points)} trusts in {year}, share by base. {said[1]} The table below names "
                "each trust.",
                charts.funnel(
                    points,
                    _limits(shown, bands),
                    width=charts.NARROW,
                    title=f"% answering {measure.response_label}"[:44],
                ),
            )
        )
    else:
        said.append(
            "No limits are given: that takes ten trusts or more, and a response that speaks for or against a trust."
        )
    table = Table(
        f"trusts_{measure.key}",
        f"{measure.label}, by trust, {year}",
        ["Trust", "Code", "Percent", "Base", "Minus country, points", "Compared with expectation"],
        [
            [
                words(row["trust_name"]),
                words(row["trust"]),
                share(_as_share(row)),
                count(row["base"]),
                Cell(HIDDEN, number=True)
                if row["difference"] is None
                else Cell(signed(row["difference"]), [interval(row)], number=True, order=row["difference"]),
                words(
                    row["suppression_reason"]
                    if row["suppressed"]
                    else charts.BANDS[row["band"]][0]
                    if row["band"]
                    else ""
                ),
            ]
            for row in rows
        ],
        rows,
        ["Below each figure its 95 % interval. Figures of trusts are rounded.", *why_hidden(rows)],
        sortable=True,
        folded=f"All {len(rows)} trusts in a table",
    )
    return Part(measure.label, said, drawing, named, [table], beside=True)


def _as_share(row: Row) -> dict[str, Any]:
    return {"pct": row["pct"], "ci_low": row["share_ci_low"], "ci_high": row["share_ci_high"]}


def _limits(shown: Sequence[Row], bands: Row) -> list[dict[str, float]]:
    """Between which shares 95 % of trusts would lie by their base: the rule of the bands of trust_comparisons, worked
    out from the rounded figures of the release and so a little off.
    """  # fmt: skip
    national = float(shown[0]["national_pct"])
    effects = [row["design_effect"] for row in shown if row["design_effect"] is not None]
    effect, between = (median(effects) if effects else 1.0), bands["sd_between_trusts"] or 0.0
    smallest, largest = min(row["base"] for row in shown), max(row["base"] for row in shown)
    limits = []
    for step in range(41):
        base = smallest + (largest - smallest) * step / 40
        spread = NORMAL_QUANTILE * math.sqrt(national * (100 - national) * effect / max(base - 1, 1) + between**2)
        limits.append(
            {"base": base, "national": national, "low": max(national - spread, 0), "high": min(national + spread, 100)}
        )
    return limits


# ---------------------------------------------------------------------------------------- people


def people(marts: Marts) -> Section | None:
    """Age and gender, for each measure in the last wave that asked; None where nothing is broken down."""
    rows = marts.rows(
        "from marts.estimates where survey_year = $1 and breakdown <> 'all' and geography_level <> 'trust' "
        "order by breakdown, category = 'unknown', category_position, category",
        marts.years[-1],
    )
    year = marts.years[-1]
    whole = {(row["question_id"], row["response"]): row["pct"] for row in marts.country if row["survey_year"] == year}
    points, data, body = [], [], []
    groups = list(dict.fromkeys((row["breakdown"], row["category"], row["category_label"]) for row in rows))
    for measure in marts.measures:
        mine = _of(rows, measure)
        if not mine:
            continue
        data += mine
        of = {(row["breakdown"], row["category"]): row for row in mine}
        body.append([words(measure.label), *(based(of.get((breakdown, group))) for breakdown, group, _ in groups)])
        points += [
            {
                "panel": charts.wrapped(measure.label, 28),
                "group": row["category_label"],
                "pct": row["pct"],
                "ci_low": row["ci_low"],
                "ci_high": row["ci_high"],
                "national": whole.get((measure.question_id, measure.response)),
                "tip": f"{row['category_label']}: {told(row)}",
            }
            for row in mine
            if row["pct"] is not None
        ]
    if not body:
        return None
    drawing = []
    if points:
        spoken = [
            f"{panel}: " + ", ".join(f"{point['group']} {percent(point['pct'])}" for point in group)
            for panel, group in groupby(points, lambda point: str(point["panel"]).replace("\n", " "))
        ]
        drawing.append(
            chart(
                f"Age and gender, {year}",
                f"Dotted line: {marts.country_name}. Bars are 95 % intervals; each horizontal axis has its own "
                "scale, from 0.",
                f"Shares by age and gender. {'; '.join(spoken)}. The table below holds every figure.",
                charts.groups(points, width=charts.NARROW, columns=1, title="%"),
                charts.groups(points, width=charts.WIDE, columns=3, title="%"),
            )
        )
    table = Table(
        "age_and_gender",
        f"Shares by age and gender, in percent, {year}",
        ["Share", *(label for _, _, label in groups)],
        body,
        data,
        [
            "Below each share its 95 % interval and its base in persons. Figures of groups are rounded.",
            *why_hidden(data),
        ],
    )
    said = [
        "Groups differ in who they are, too: a difference between two groups is not the effect of age or gender. "
        "Where two intervals do not overlap the groups differ by more than chance; where they do, they may or may not."
    ]
    return Section("people", "Age and gender", [Part(lead=said, charts=drawing, tables=[table])])


# ---------------------------------------------------------------------------------------- method


def exclusions(marts: Marts) -> Section | None:
    """Who counts, and who does not, in the last wave."""
    everything = marts.rows("from marts.exclusions order by survey_year, question_label, question_id, status_position")
    if not everything:
        return None
    year = everything[-1]["survey_year"]
    of_year = [row for row in everything if row["survey_year"] == year and row["status"] != "not_asked"]
    indicators = {measure.question_id for measure in marts.measures}
    rows = [row for row in of_year if row["question_id"] in indicators] or of_year
    statuses = [s for s, _ in sorted({(r["status"], r["status_position"]) for r in rows}, key=lambda pair: -pair[1])]
    body = []
    for (label, _), group in groupby(rows, lambda row: (row["question_label"], row["question_id"])):
        of = {row["status"]: row["n"] for row in group}
        body.append([words(label), *(count(of.get(status, 0)) for status in statuses), count(sum(of.values()))])
    table = Table(
        "exclusions",
        f"Persons by what became of them at each question, {year}",
        ["Question", *(plain(status) for status in statuses), "All rows of the file"],
        body,
        everything,
        ["The download holds all waves and questions."],
    )
    said = [
        "Each person has exactly one status at each question, the first that applies, and only those who answered "
        "are in the base. Nobody is deleted: the numbers of a question add up to the rows of the file as it was "
        "received."
    ]
    return Section("exclusions", "Who is left out", [Part(lead=said, tables=[table])])


def agreement(marts: Marts) -> Section | None:
    """Ours beside the figures in print, and how these were restated; None where there are none."""
    rows = marts.rows("from marts.reconciliation order by survey_year, question_id, response_position, response")
    if not rows:
        return None
    labels = {(r["question_id"], r["response"]): (r["question_label"], r["response_label"]) for r in marts.country}
    final = [row for row in rows if row["vintage_status"] == "final"]
    body = []
    for year, group in groupby(final, lambda row: row["survey_year"]):
        of = list(group)
        body.append(
            [
                words(year),
                count(len(of)),
                count(sum(bool(r["agrees"]) for r in of)),
                count(sum(bool(r["accepted"]) for r in of)),
            ]
        )
    agree = sum(bool(row["agrees"]) for row in final)
    said = [
        f"{agree} of {len(final)} figures that are final in print are reproduced within their rounding. A figure "
        "agrees when ours rounds to it; a disagreement stops a release unless a reviewer accepted it and said why."
    ]
    if marts.info["provenance"] == "synthetic":
        said.append(
            "The data are synthetic and calibrated to these very figures: agreement is built in, and proves nothing "
            "about real people."
        )
    figures = [
        [
            words(_label(labels, row)),
            words(row["survey_year"]),
            words(row["vintage"]),
            figure(row["published_pct"]),
            figure(row["our_pct"], 2, HIDDEN),
            words(
                "agrees"
                if row["agrees"]
                else f"disagrees; accepted: {row['accepted_reason']}"
                if row["accepted"]
                else "disagrees"
            ),
        ]
        for row in final
    ]
    tables = [
        Table("agreement_by_wave", "Final figures in print, by wave", ["Wave", "Compared", "Agree", "Accepted"], body),
        Table(
            "reconciliation",
            "Final figures in print beside ours, in percent",
            ["Share", "Wave", "Printed", "In print", "Ours", "Verdict"],
            figures,
            rows,
            folded="Every figure",
        ),
    ]
    vintages = marts.rows("from marts.published_vintages order by survey_year, question_id, response, vintage")
    moved = [row for row in vintages if row["restated"] or row["restated_since"]]
    if moved:
        said.append(
            f"Figures in print were restated later: {len(moved)} of {len(vintages)} printed values differ from the "
            "one before or from the final one by more than rounding. Only figures of one vintage may be compared."
        )
        tables.append(
            Table(
                "published_vintages",
                "Figures that were restated in print, in percent",
                ["Share", "Wave", "Printed", "In print", "Before that", "Final"],
                [
                    [
                        words(_label(labels, row)),
                        words(row["survey_year"]),
                        words(row["vintage"]),
                        figure(row["published_pct"]),
                        figure(row["previous_pct"]),
                        figure(row["final_pct"]),
                    ]
                    for row in moved
                ],
                vintages,
                ["The download holds all printed values."],
                folded="Restated figures",
            )
        )
    return Section("agreement", "Agreement with published figures", [Part(lead=said, tables=tables)])


def _label(labels: Mapping[tuple[str, str], tuple[str, str]], row: Row) -> str:
    question, response_label = labels.get((row["question_id"], row["response"]), (row["question_id"], row["response"]))
    return f"{question}: {response_label}"


def guideline(marts: Marts) -> Section | None:
    """The statements of the guideline and what the survey can say of them in its last wave; None without any."""
    rows = marts.rows(
        "from marts.guideline_alignment where survey_year = (select max(survey_year) from marts.guideline_alignment) "
        "order by statement, question_label"
    )
    if not rows:
        return None
    year, measured = rows[0]["survey_year"], [row for row in rows if row["measured"]]
    table = Table(
        "guideline",
        f"{rows[0]['source']} ({rows[0]['version']}): share of respondents whose experience met what the question "
        f"asks, {year}",
        ["Statement", "Question, and what counts as met", "Percent", "Base", "What the survey can and cannot tell"],
        [
            [
                words(f"{row['statement']}. {row['statement_title']}"),
                Cell(row["question_label"] or "", [row["counted_as_met"] or ""]),
                share({**row, "pct": row["pct_met"]}) if row["measured"] else words(""),
                count(row["base"]) if row["measured"] else words(""),
                Cell(row["how_measured"], [row["rationale"] or ""]),
            ]
            for row in rows
        ],
        rows,
        ["Below each share its 95 % interval.", *why_hidden(rows)],
    )
    without = sorted({(row["statement"]) for row in rows} - {row["statement"] for row in measured})
    said = [
        "A share says how many respondents had that experience. It is no measure of compliance with a statement, "
        "and says nothing about people who did not answer.",
        *([f"Not measured by this survey: statements {', '.join(map(str, without))}."] if without else []),
    ]
    return Section("guideline", "The guideline", [Part(lead=said, tables=[table])])


def questions(marts: Marts) -> Section | None:
    """Every question of the survey with its responses by wave, for the whole country."""
    tables = []
    for question, group in groupby(marts.country, lambda row: str(row["question_id"])):
        rows = list(group)
        years = sorted({row["survey_year"] for row in rows})
        cells = {(row["response"], row["survey_year"]): row for row in rows}
        responses = dict.fromkeys(row["response"] for row in rows)
        labels = {row["response"]: row["response_label"] for row in rows}
        bases = {row["survey_year"]: row["base"] for row in rows}
        broken = {r["survey_year"] for r in rows if (r["comparability"] or "").startswith("break")}
        body = [[words(labels[r]), *(share(cells.get((r, year))) for year in years)] for r in responses]
        body.append([words("Base (persons)"), *(count(bases[year]) for year in years)])
        label = str(rows[0]["question_label"])
        notes = [f"Break before {year}: not comparable with the waves before." for year in sorted(broken)]
        tables.append(
            Table(
                f"question_{slug(question)}",
                f"{label}: percent of those who answered, {marts.country_name}",
                ["Response", *(f"{year} (break before)" if year in broken else str(year) for year in years)],
                body,
                rows,
                ["Below each share its 95 % interval.", *notes, *why_hidden(rows)],
                folded=label,
            )
        )
    if not tables:
        return None
    said = [f"All {len(tables)} questions of this release, by response and wave, for the whole country."]
    return Section("questions", "Every question", [Part(lead=said, tables=tables)])
