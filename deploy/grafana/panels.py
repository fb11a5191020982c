"""What a dashboard is made of, and how it becomes Grafana's JSON model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
RATE = "$__rate_interval"
SERVICE = 'method=~"headshot[.]v1[.].*"'


UP = ((None, "red"), (1.0, "green"))


@dataclass(frozen=True)
class Query:
    """One expression and the legend of its series."""

    expr: str
    legend: str = ""
    instant: bool = False
    heatmap: bool = False


@dataclass(frozen=True)
class Panel:
    """One panel; width is of 24 columns."""

    title: str
    queries: tuple[Query, ...]
    text: str
    kind: str = "timeseries"
    unit: str = "short"
    width: int = 8
    height: int = 8
    stacked: bool = False
    thresholds: tuple[tuple[float | None, str], ...] = ()
    maximum: float | None = None


@dataclass(frozen=True)
class Dashboard:
    """One dashboard: rows of panels."""

    uid: str
    title: str
    rows: tuple[tuple[str, tuple[Panel, ...]], ...]
    variables: tuple[dict[str, Any], ...] = field(default=())


def quantiles(metric: str, by: str = "", match: str = "", window: str = RATE) -> tuple[Query, ...]:
    """Return the median, 95th and 99th percentile of a histogram."""
    group = f"le, {by}" if by else "le"
    label = f" {{{{{by}}}}}" if by else ""
    return tuple(
        Query(
            f"histogram_quantile({q}, sum by ({group})"
            f" (rate({metric}_bucket{{{match}}}[{window}])))",
            f"p{round(q * 100)}{label}",
        )
        for q in (0.5, 0.95, 0.99)
    )


def rate(metric: str, by: str, match: str = "") -> Query:
    """Return the rate of a counter, by a label."""
    return Query(f"sum by ({by}) (rate({metric}{{{match}}}[{RATE}]))", f"{{{{{by}}}}}")


def mean(metric: str, by: str = "", match: str = "") -> Query:
    """Return the mean of a histogram's observations."""
    group = f"sum by ({by}) " if by else "sum"
    return Query(
        f"{group}(rate({metric}_sum{{{match}}}[{RATE}]))"
        f" / ({group}(rate({metric}_count{{{match}}}[{RATE}])) > 0)",
        f"{{{{{by}}}}}" if by else "mean",
    )


def _panel_json(panel: Panel, identifier: int, x: int, y: int) -> dict[str, Any]:
    defaults: dict[str, Any] = {"unit": panel.unit}
    if panel.maximum is not None:
        defaults |= {"min": 0, "max": panel.maximum}
    if panel.thresholds:
        defaults["thresholds"] = {
            "mode": "absolute",
            "steps": [{"value": value, "color": colour} for value, colour in panel.thresholds],
        }
    if panel.kind == "timeseries":
        defaults["custom"] = {
            "fillOpacity": 20 if panel.stacked else 5,
            "stacking": {"mode": "normal" if panel.stacked else "none"},
            "showPoints": "never",
        }
    targets = [
        {
            "refId": chr(ord("A") + index),
            "datasource": DATASOURCE,
            "expr": query.expr,
            "legendFormat": query.legend or "__auto",
            "instant": query.instant,
            "range": not query.instant,
            "exemplar": "_bucket" in query.expr and not query.heatmap,
            "format": "heatmap"
            if query.heatmap
            else ("table" if panel.kind == "table" else "time_series"),
        }
        for index, query in enumerate(panel.queries)
    ]
    return {
        "id": identifier,
        "title": panel.title,
        "description": panel.text,
        "type": panel.kind,
        "datasource": DATASOURCE,
        "gridPos": {"x": x, "y": y, "w": panel.width, "h": panel.height},
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}}
        if panel.kind == "timeseries"
        else {},
        "targets": targets,
    }


def render(dashboard: Dashboard) -> dict[str, Any]:
    """Return a dashboard as Grafana's JSON model."""
    panels: list[dict[str, Any]] = []
    y = 0
    for title, row in dashboard.rows:
        place = {"x": 0, "y": y, "w": 24, "h": 1}
        panels.append(
            {
                "id": len(panels) + 1,
                "type": "row",
                "title": title,
                "gridPos": place,
                "collapsed": False,
                "panels": [],
            }
        )
        y += 1
        x, tallest = 0, 0
        for panel in row:
            if x + panel.width > 24:
                x, y, tallest = 0, y + tallest, 0
            panels.append(_panel_json(panel, len(panels) + 1, x, y))
            x, tallest = x + panel.width, max(tallest, panel.height)
        y += tallest
    source = {
        "name": "datasource",
        "label": "Prometheus",
        "type": "datasource",
        "query": "prometheus",
        "hide": 0,
    }
    return {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "tags": ["headshot"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": [source, *dashboard.variables]},
        "links": [
            {
                "title": "Headshot",
                "type": "dashboards",
                "tags": ["headshot"],
                "asDropdown": True,
                "keepTime": True,
            }
        ],
        "annotations": {"list": []},
        "panels": panels,
    }
