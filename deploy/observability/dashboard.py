"""Makes dashboard.json for Grafana: `python deploy/observability/dashboard.py > dashboard.json`, in its place."""

from __future__ import annotations

import json
import sys
from typing import Any

_WIDTH, _HEIGHT = 12, 8
_TOTAL = "homespun_completion_duration_seconds_bucket{stage='total'}"

PANELS: list[tuple[str, str, dict[str, str]]] = [
    (
        "Completions a second, by outcome",
        "ops",
        {"{{outcome}}": "sum by (outcome) (rate(homespun_completions_total[5m]))"},
    ),
    (
        "Time of a completion",
        "s",
        {f"p{q}": f"histogram_quantile(0.{q}, sum by (le) (rate({_TOTAL}[5m])))" for q in (50, 95, 99)},
    ),
    (
        "Where the time goes (95th percentile by stage)",
        "s",
        {
            "{{stage}}": "histogram_quantile(0.95, sum by (le, stage)"
            " (rate(homespun_completion_duration_seconds_bucket{stage!='total'}[5m])))"
        },
    ),
    (
        "Accepted of what was shown",
        "percentunit",
        {
            "accepted": "sum(rate(homespun_events_total{kind='accepted'}[1h]))"
            " / sum(rate(homespun_events_total{kind='shown'}[1h]))"
        },
    ),
    ("Went without something, by reason", "ops", {"{{reason}}": "sum by (reason) (rate(homespun_degraded_total[5m]))"}),
    ("Refused, by reason", "ops", {"{{reason}}": "sum by (reason) (rate(homespun_shed_total[5m]))"}),
    ("Waiting for the engine", "short", {"{{instance}}": "homespun_queue_depth"}),
    ("Tokens a second, by kind", "ops", {"{{kind}}": "sum by (kind) (rate(homespun_tokens_total[5m]))"}),
    ("Age of the oldest index", "s", {"{{instance}}": "homespun_index_age_seconds"}),
    ("Indexes put live, by why", "ops", {"{{state}}": "sum by (state) (rate(homespun_indexes_total[1h]))"}),
    ("Push hooks, by outcome", "ops", {"{{outcome}}": "sum by (outcome) (rate(homespun_hooks_total[1h]))"}),
    ("Live adapters", "short", {"{{instance}}": "homespun_adapters"}),
]
"""Title, unit, and the lines: legend and query."""


def dashboard() -> dict[str, Any]:
    return {
        "title": "Homespun",
        "uid": "homespun",
        "schemaVersion": 39,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {
            "list": [{"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Data source"}]
        },
        "panels": [_panel(number, *panel) for number, panel in enumerate(PANELS)],
    }


def _panel(number: int, title: str, unit: str, lines: dict[str, str]) -> dict[str, Any]:
    source = {"type": "prometheus", "uid": "${datasource}"}
    return {
        "id": number + 1,
        "title": title,
        "type": "timeseries",
        "datasource": source,
        "gridPos": {"x": _WIDTH * (number % 2), "y": _HEIGHT * (number // 2), "w": _WIDTH, "h": _HEIGHT},
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + n), "datasource": source, "expr": expr, "legendFormat": legend}
            for n, (legend, expr) in enumerate(lines.items())
        ],
    }


if __name__ == "__main__":
    json.dump(dashboard(), sys.stdout, indent=1)
    print()
