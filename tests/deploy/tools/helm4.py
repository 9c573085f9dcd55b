"""Renders a chart with Helm 4's engine; run by the environment that has it. Reads JSON, [{"files": [values...],
"set": words}], and prints [{"objects": {template: text}} or {"problem": text}] likewise."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import helm_python  # type: ignore[import-not-found]  # lives in that environment


def merged(below: Any, above: Any) -> Any:
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    return below | {key: merged(below.get(key), value) for key, value in above.items()}


def rendered(chart: Any, wanted: dict[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for file in wanted["files"]:
        values = merged(values, helm_python.values_from_yaml(Path(file).read_text(encoding="utf-8")))
    for words in wanted["set"]:
        values = merged(values, helm_python.parse_set_string(words))
    try:
        return {"objects": chart.render(values, name="demo", namespace="code")}
    except helm_python.errors.HelmError as error:
        return {"problem": str(error)}


with helm_python.Chart.load(sys.argv[1]) as chart:
    print(json.dumps([rendered(chart, wanted) for wanted in json.load(sys.stdin)]))
