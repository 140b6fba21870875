"""Charts as SVG that stands in a page: Vega-Lite specifications, drawn by vl-convert while the release is made.

Specifications are written as the JSON they are: building them with Altair took longer than drawing them (the tests
hold them against Altair's copy of the Vega-Lite schema). Colours are the page's custom properties, so that a chart
follows its theme; whatever colour tells is told by shape, dash or a label too. Belongs here: how something is drawn.
Does not: which figures, or what they mean.
"""

import re
import textwrap
from collections.abc import Mapping, Sequence
from html import escape, unescape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from markupsafe import Markup

Rows = Sequence[Mapping[str, Any]]
Spec = dict[str, Any]

INK, SOFT, PAPER, GRID, LINE = (f"var(--{name})" for name in ("ink", "soft", "paper", "grid", "line"))
SERIES, UP, DOWN = "var(--series-1)", "var(--series-3)", "var(--series-2)"
# Widths in pixels: for a screen with room, for a column or a phone.
WIDE, NARROW = 740, 340
SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
CONFIG: Spec = {
    "background": "transparent",
    "font": "sans-serif",
    "padding": 2,
    "view": {"stroke": None},
    "axis": {
        "aria": False,
        "domainColor": LINE,
        "gridColor": GRID,
        "labelColor": SOFT,
        "labelFontSize": 12,
        "tickColor": LINE,
        "titleColor": SOFT,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
    },
    "header": {"labelColor": INK, "labelFontSize": 12, "labelFontWeight": "bold", "title": None},
    "legend": {"aria": False, "labelColor": INK, "labelFontSize": 12, "title": None, "orient": "top", "symbolSize": 80},
    "text": {"color": INK, "fontSize": 12},
}
# What is told of a mark; and, in any tag, what else is meant for a reader of the bare SVG.
_TOLD = re.compile(r'<path aria-label="([^"]*)" role="graphics-symbol" aria-roledescription="[^"]*"([^>]*)/>')
_TAG = re.compile(r"<[^>]+>")
_ARIA = re.compile(r' (?:aria-[a-z]+|role)="[^"]*"')


def drawn(spec: Spec, alternative: str) -> "Markup":
    """A chart as inline SVG. `alternative` says what it shows to whoever cannot see it; the `tip` of a mark becomes its
    title.
    """  # fmt: skip
    import vl_convert
    from markupsafe import Markup

    # No base address is allowed, so that a chart cannot fetch data or images.
    svg = vl_convert.vegalite_to_svg({"$schema": SCHEMA, **spec, "config": CONFIG}, allowed_base_urls=[])
    svg = _TOLD.sub(lambda mark: f"<path{mark[2]}><title>{escape(unescape(mark[1]))}</title></path>", svg)
    head, body = _TAG.sub(lambda tag: _ARIA.sub("", tag[0]), svg).split(">", 1)
    size = re.search(r'width="(\d+)[\d.]*" height="(\d+)[\d.]*" viewBox="[^"]*"', head)
    assert size is not None  # every chart has a size
    return Markup(f'<svg role="img" aria-label="{escape(alternative)}" {size[0]}>{body}')


def warm_up() -> None:
    """Start the engine that draws, which would take the first chart half a second."""
    import vl_convert

    vl_convert.vegalite_to_svg({"$schema": SCHEMA, "data": {"values": []}, "mark": "point"}, allowed_base_urls=[])


def wrapped(label: str, width: int) -> str:
    """A label in lines of up to `width` characters."""
    return "\n".join(textwrap.wrap(label, width)) or label


def _layer(mark: str, encoding: Spec, *, told: bool = False, **options: Any) -> Spec:
    """One layer; its marks have a title where they are `told`."""
    if told:
        encoding = {**encoding, "description": {"field": "tip"}}
    return {"mark": {"type": mark, "aria": told, **options}, "encoding": encoding}


LINES = "split(datum.label, '\\n')"
WITH_INTERVAL = [{"filter": "datum.ci_low !== null"}]
LOW_HIGH: Spec = {"y": {"field": "ci_low", "type": "quantitative"}, "y2": {"field": "ci_high"}}


def series(rows: Rows, years: Sequence[int], *, width: int, columns: int, title: str) -> Spec:
    """Shares over waves with their intervals, one panel for each `panel` of the rows, all on one axis from 0.

    Rows have panel, year, pct, ci_low, ci_high, block (points of one block are joined), older (whether a break
    comes later), break_before, label (shown at the point) and tip.
    """
    panels = list(dict.fromkeys(row["panel"] for row in rows))
    columns = min(columns, len(panels))
    inner = (width - 52 - 16 * (columns - 1)) / columns
    few = inner < 42 * len(years)
    x: Spec = {
        "field": "year",
        "type": "quantitative",
        "title": None,
        "scale": {"domain": [years[0] - 0.4, years[-1] + 0.4], "nice": False},
        "axis": {
            "values": sorted({years[0], years[-1]}) if few else list(years),
            "format": "d",
            "grid": False,
            "labelFlush": 12,
            "labelOverlap": False,
        },
    }
    y: Spec = {
        "field": "pct",
        "type": "quantitative",
        "title": title,
        # Room for the labels above the points.
        "scale": {"domain": [0, 1.12 * max(row["ci_high"] or row["pct"] for row in rows) or 1], "nice": True},
        "axis": {"tickCount": 5},
    }
    at_break = {**x, "field": "at"}
    broken = [{"filter": "datum.break_before"}, {"calculate": "datum.year - 0.5", "as": "at"}]
    layers = [
        {
            "transform": broken,
            **_layer(
                "rule",
                {"x": at_break, "y": {"value": 0}, "y2": {"value": "height"}},
                color=INK,
                strokeDash=[2, 3],
                strokeWidth=1.5,
            ),
        },
        {
            "transform": broken,
            **_layer(
                "text",
                {"x": at_break, "y": {"value": "height"}, "text": {"value": "break"}},
                align="left",
                baseline="bottom",
                dx=3,
                dy=-2,
                fontSize=11,
                fontStyle="italic",
            ),
        },
        {"transform": WITH_INTERVAL, **_layer("rule", {"x": x, **LOW_HIGH}, color=SERIES, strokeWidth=7, opacity=0.35)},
        _layer("line", {"x": x, "y": y, "detail": {"field": "block"}}, color=SERIES, strokeWidth=2),
        _layer(
            "point",
            {"x": x, "y": y, "fill": {"condition": {"test": "datum.older", "value": PAPER}, "value": SERIES}},
            told=True,
            size=20,
            stroke=SERIES,
            strokeWidth=1.5,
            opacity=1,
        ),
        _layer(
            "text",
            {"x": x, "y": y, "text": {"field": "label"}},
            baseline="bottom",
            dy=-5,
        ),
    ]
    if len(panels) == 1:
        return {"data": {"values": rows}, "layer": layers, "width": width - 52, "height": 230}
    header = {"labelLimit": 0, "labelExpr": LINES, "labelAnchor": "start", "labelPadding": 6}
    return {
        "data": {"values": rows},
        "facet": {"field": "panel", "type": "nominal", "sort": panels, "header": header},
        "columns": columns,
        "spacing": 16,
        "spec": {"layer": layers, "width": inner, "height": 160},
        "resolve": {"axis": {"x": "independent"}},
    }


def rates(rows: Rows, years: Sequence[int], *, width: int, title: str) -> Spec:
    """Rates by wave: a tick for each trust, a joined point for the country.

    Rows have year, rate, country, label, tip.
    """
    x: Spec = {
        "field": "year",
        "type": "ordinal",
        "title": None,
        "scale": {"domain": list(years)},
        "axis": {"labelAngle": 0},
    }
    y: Spec = {
        "field": "rate",
        "type": "quantitative",
        "title": title,
        "scale": {"zero": True},
        "axis": {"tickCount": 5},
    }
    country, trust = [{"filter": "datum.country"}], [{"filter": "!datum.country"}]
    return {
        "data": {"values": rows},
        "layer": [
            {"transform": trust, **_layer("tick", {"x": x, "y": y}, color=SOFT, opacity=0.45, width=16, thickness=1.5)},
            {"transform": country, **_layer("line", {"x": x, "y": y}, color=SERIES, strokeWidth=2)},
            {
                "transform": country,
                **_layer(
                    "point",
                    {"x": x, "y": y},
                    told=True,
                    shape="diamond",
                    size=110,
                    filled=True,
                    color=SERIES,
                    opacity=1,
                ),
            },
            {
                "transform": country,
                **_layer("text", {"x": x, "y": y, "text": {"field": "label"}}, dx=9, align="left", fontWeight="bold"),
            },
        ],
        "width": width - 52,
        "height": 260,
    }


def differences(rows: Rows, *, width: int, title: str) -> Spec:
    """Differences from 0, one line each. Rows have name, difference, label, tip."""
    y: Spec = {
        "field": "name",
        "type": "nominal",
        "sort": None,
        "title": None,
        "axis": {"labelExpr": LINES, "labelLimit": 0, "ticks": False, "domain": False, "grid": True, "labelColor": INK},
    }
    x: Spec = {"field": "difference", "type": "quantitative", "title": title, "scale": {"zero": True, "padding": 28}}
    return {
        "data": {"values": rows},
        "layer": [
            _layer("rule", {"x": {"datum": 0, "type": "quantitative"}}, color=INK, strokeWidth=1.5),
            _layer("rule", {"x": x, "x2": {"datum": 0}, "y": y}, color=SERIES, strokeWidth=2, opacity=0.6),
            _layer("point", {"x": x, "y": y}, told=True, size=60, filled=True, color=SERIES, opacity=1),
            _layer("text", {"x": x, "y": y, "text": {"field": "label"}}, dy=-12),
        ],
        "width": width - 195,
        "height": {"step": 54},
    }


# A trust's band: how it is named, its shape and its colour.
BANDS = {
    "better": ("better than expected", "triangle-up", UP),
    "about_the_same": ("about as expected", "circle", SOFT),
    "worse": ("worse than expected", "triangle-down", DOWN),
}


def funnel(trusts: Rows, limits: Rows, *, width: int, title: str) -> Spec:
    """Trusts' shares by base, with the country's share and the limits that chance and ordinary differences give.

    `trusts` have base, pct, band (in words, of BANDS), label, above (whether above the country) and tip; `limits` have
    base, low, high and national.
    """
    x: Spec = {
        "field": "base",
        "type": "quantitative",
        "title": "base (persons with a valid answer)",
        "scale": {"zero": False, "nice": True},
        "axis": {"grid": False, "tickCount": 5},
    }
    y: Spec = {
        "field": "pct",
        "type": "quantitative",
        "title": title,
        "scale": {"zero": True},
        "axis": {"tickCount": 5},
    }
    names, shapes, colours = (list(column) for column in zip(*BANDS.values(), strict=True))
    legend = {"columns": 2}
    limit: Spec = {"strokeWidth": 1.5, "color": INK, "opacity": 0.8}
    return {
        "layer": [
            {
                "data": {"values": limits},
                **_layer("line", {"x": x, "y": {**y, "field": "low"}}, strokeDash=[5, 3], **limit),
            },
            {
                "data": {"values": limits},
                **_layer("line", {"x": x, "y": {**y, "field": "high"}}, strokeDash=[5, 3], **limit),
            },
            {"data": {"values": limits}, **_layer("line", {"x": x, "y": {**y, "field": "national"}}, **limit)},
            {
                "data": {"values": trusts},
                **_layer(
                    "point",
                    {
                        "x": x,
                        "y": y,
                        "shape": {"field": "band", "scale": {"domain": names, "range": shapes}, "legend": legend},
                        "color": {"field": "band", "scale": {"domain": names, "range": colours}, "legend": legend},
                    },
                    told=True,
                    size=55,
                    filled=True,
                    opacity=0.9,
                ),
            },
            {
                "data": {"values": trusts},
                "transform": [{"filter": "datum.above"}],
                **_layer("text", {"x": x, "y": y, "text": {"field": "label"}}, dy=-10, fontSize=11),
            },
            {
                "data": {"values": trusts},
                "transform": [{"filter": "!datum.above"}],
                **_layer("text", {"x": x, "y": y, "text": {"field": "label"}}, dy=12, fontSize=11),
            },
        ],
        "width": width - 52,
        "height": 230,
    }


def groups(rows: Rows, *, width: int, columns: int, title: str) -> Spec:
    """Shares of groups of people with their intervals beside the country's, one panel for each `panel`.

    Rows have panel, group, pct, ci_low, ci_high, national, tip.
    """
    panels = list(dict.fromkeys(row["panel"] for row in rows))
    columns = min(columns, len(panels))
    x: Spec = {
        "field": "pct",
        "type": "quantitative",
        "title": title,
        "scale": {"zero": True, "nice": True},
        "axis": {"tickCount": 4},
    }
    y: Spec = {
        "field": "group",
        "type": "nominal",
        "sort": None,
        "title": None,
        "axis": {"ticks": False, "domain": False, "labelColor": INK},
    }
    header = {"labelLimit": 0, "labelExpr": LINES, "labelAnchor": "start", "labelPadding": 6}
    between: Spec = {"x": {**x, "field": "ci_low"}, "x2": {"field": "ci_high"}, "y": y}
    national: Spec = {"x": {"aggregate": "min", "field": "national", "type": "quantitative"}}
    return {
        "data": {"values": rows},
        "facet": {"field": "panel", "type": "nominal", "sort": panels, "header": header},
        "columns": columns,
        "spacing": 22,
        "spec": {
            "layer": [
                _layer("rule", national, color=INK, strokeDash=[2, 3], strokeWidth=1.5),
                {"transform": WITH_INTERVAL, **_layer("rule", between, color=SERIES, strokeWidth=2, opacity=0.6)},
                _layer("point", {"x": x, "y": y}, told=True, size=55, filled=True, color=SERIES, opacity=1),
            ],
            "width": (width - 90 - 22 * (columns - 1)) / columns,
            "height": {"step": 22},
        },
        "resolve": {"scale": {"x": "independent"}},
    }
