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
    ("Places prepared for a first key", "ops", {"{{outcome}}": "sum by (outcome) (rate(homespun_prepared_total[5m]))"}),
    ("Waiting for the engine", "short", {"{{instance}}": "homespun_queue_depth"}),
    ("Tokens a second, by kind", "ops", {"{{kind}}": "sum by (kind) (rate(homespun_tokens_total[5m]))"}),
    ("Age of the oldest index", "s", {"{{instance}}": "homespun_index_age_seconds"}),
    ("Indexes put live, by why", "ops", {"{{state}}": "sum by (state) (rate(homespun_indexes_total[1h]))"}),
    ("Push hooks, by outcome", "ops", {"{{outcome}}": "sum by (outcome) (rate(homespun_hooks_total[1h]))"}),
    ("Live adapters", "short", {"{{instance}}": "homespun_adapters"}),
    ("Adapters loaded again, so far", "short", {"{{instance}}": "homespun_adapter_loads"}),
    ("Jobs, by kind and state", "short", {"{{kind}}, {{state}}": "max by (kind, state) (homespun_jobs)"}),
    (
        "Lost on the way to the database, by why",
        "ops",
        {"{{reason}}": "sum by (reason) (rate(homespun_feedback_lost_total[5m]))"},
    ),
    ("Entries of the audit log", "short", {"entries": "max(homespun_audit_entries)"}),
    ("Tokens that are nobody's, a second", "ops", {"{{instance}}": "rate(homespun_refused_tokens_total[5m])"}),
    (
        "Finding snippets, and the first token of the model (95th percentile)",
        "s",
        {
            "snippets": "histogram_quantile(0.95, sum by (le) (rate(homespun_retrieval_seconds_bucket[5m])))",
            "first token": "histogram_quantile(0.95, sum by (le) (rate(homespun_ttft_seconds_bucket[5m])))",
        },
    ),
    (
        "vLLM: completions",
        "short",
        {
            "{{instance}} computes": "vllm:num_requests_running",
            "{{instance}} has waiting": "vllm:num_requests_waiting",
        },
    ),
    (
        "vLLM: cache",
        "percentunit",
        {
            "{{instance}} in use": "vllm:kv_cache_usage_perc",
            "{{instance}} found there": "rate(vllm:prefix_cache_hits_total[5m])"
            " / rate(vllm:prefix_cache_queries_total[5m])",
        },
    ),
]
"""Title, unit, and the lines: legend and query. Gauges of the database are the same on every gateway; what vLLM counts
is there where Prometheus asks it, too."""


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
