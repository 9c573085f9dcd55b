"""What a runbook says first: the rule itself, as it stands in deploy/observability/alerts.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml


def rules(path: Path) -> dict[str, dict[str, Any]]:
    groups = yaml.safe_load(path.read_text("utf-8"))["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def shown(rule: dict[str, Any]) -> str:
    notes = rule["annotations"]
    said = f"**{_plain(notes['summary'])}** Severity `{rule['labels']['severity']}`, after {rule['for']}."
    return f"{said} In short: {notes['action']}\n\n```promql\n{rule['expr']}\n```"


def _plain(summary: str) -> str:
    """Without Prometheus' templates."""
    return summary.replace("{{ $labels.instance }}", "A server").rstrip(".") + "."
