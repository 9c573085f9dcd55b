"""Makes the chart's README.md and values.schema.json from values.yaml, whose comments explain each value, and from
Homespun's own settings: `python deploy/helm/generate.py`. Also copies what the chart can't reach outside of itself."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import yaml

from homespun_core.config import SETTINGS
from homespun_core.forges import ForgeKind
from homespun_core.notify import EVENTS
from homespun_core.repositories import KEYS

CHART = Path(__file__).parent / "homespun"
OBSERVABILITY = Path(__file__).parents[1] / "observability"
SECRET = re.compile(r"_(token|secret)$|^database_url$")
"""Settings that never stand in a ConfigMap; the template refuses the same ones."""

_TEXT = {"type": "string"}
_TEXTS = {"type": "array", "items": _TEXT}
_PEERS = {"type": "array", "items": {"type": "object"}}
_EGRESS = {
    "type": "array",
    "items": {
        "type": "object",
        "additionalProperties": False,
        "required": ["cidr", "ports"],
        "properties": {
            "cidr": {"type": "string", "pattern": r"^[0-9a-fA-F.:]+/\d{1,3}$"},
            "ports": {"type": "array", "minItems": 1, "items": {"type": "integer", "minimum": 1, "maximum": 65535}},
        },
    },
}
_COUNT = {"type": "integer", "minimum": 0}
_DIGEST = {"type": "string", "pattern": r"^(sha256:[0-9a-f]{64})?$"}
_MAP = {"type": "object"}
_OR_NULL = {"type": ["integer", "null"], "minimum": 1}

SPECIAL: dict[str, Any] = {
    "mode": {"enum": ["single", "cluster"]},
    "trainer.mode": {"enum": ["cron", "jobs"]},
    "trainer.dispatcher.most": {"type": "integer", "minimum": 1},
    "image.pullPolicy": {"enum": ["IfNotPresent", "Always", "Never"]},
    "image.digest": _DIGEST,
    "image.gatewayDigest": _DIGEST,
    "persistence.accessMode": {"enum": ["ReadWriteOnce", "ReadWriteOncePod", "ReadWriteMany"]},
    "persistence.size": {"type": "string", "pattern": r"^\d+(\.\d+)?(Mi|Gi|Ti)$"},
    "service.type": {"enum": ["ClusterIP", "NodePort", "LoadBalancer"]},
    "service.port": {"type": "integer", "minimum": 1, "maximum": 65535},
    "gateway.autoscaling.targetCPU": {"type": "integer", "minimum": 10, "maximum": 100},
    "vllm.maxLoraRank": {"enum": [1, 8, 16, 32, 64, 128, 256, 320, 512]},
    "podSecurity.runAsUser": _OR_NULL,
    "podSecurity.fsGroup": _OR_NULL,
    "networkPolicy.from": _PEERS,
    "networkPolicy.scrapeFrom": _PEERS,
    **{f"networkPolicy.{name}": _EGRESS for name in ("git", "database", "identity", "kubernetes", "other")},
    "extraObjects": {"type": "array", "items": {"type": ["object", "string"]}},
    "extraEnv": _PEERS,
    "httpRoute.parentRefs": _PEERS,
    **{f"{part}.tolerations": _PEERS for part in ("server", "gateway", "worker", "watcher", "trainer", "vllm")},
    "global": {"type": "object", "properties": {"imageRegistry": _TEXT, "imagePullSecrets": _TEXTS}},
}


def schema(values: Mapping[str, Any]) -> dict[str, Any]:
    tables = {"repositories": _repositories(), "adapters": _adapters(), "forges": _forges(), "notify": _notify()}
    special = SPECIAL | {"settings": _settings()} | tables
    found = _closed(values, "", special)
    return {"$schema": "http://json-schema.org/draft-07/schema#", "title": "Values of the chart homespun", **found}


def _closed(values: Mapping[str, Any], path: str, special: Mapping[str, Any]) -> dict[str, Any]:
    properties = {}
    for name, value in values.items():
        where = f"{path}{name}"
        if where in special:
            properties[name] = special[where]
        elif isinstance(value, dict) and value and not where.endswith(("resources", "Labels")):
            properties[name] = _closed(value, f"{where}.", special)
        else:
            properties[name] = _like(value)
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _like(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"type": "boolean"}
    if isinstance(value, int):
        return _COUNT
    if isinstance(value, list):
        return _TEXTS
    return _MAP if isinstance(value, dict) else _TEXT


def _settings() -> dict[str, Any]:
    types = {"int": "integer", "float": "number", "bool": "boolean", "str": "string"}
    properties = {}
    for name, item in SETTINGS.items():
        if SECRET.search(name) or name in ("data_dir", "host", "port"):  # the chart's own business
            continue
        low, choices = item.metadata["low"], item.metadata["choices"]
        properties[name] = {
            "type": types[str(item.type)],
            **({"enum": list(choices)} if choices else {}),
            **({"minimum": low} if low is not None else {}),
        }
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _repositories() -> dict[str, Any]:
    numbers = ("max_repo_mb", "max_clone_mb", "timeout_s", "index_minutes")
    lists = ("languages", "include", "exclude", "groups")
    properties = {key: _COUNT if key in numbers else _TEXTS if key in lists else _TEXT for key in KEYS}
    properties["keep_completions"] = {"type": "boolean"}
    return _tables(["source"], properties)


def _adapters() -> dict[str, Any]:
    several = {"oneOf": [_TEXTS, {"const": "all"}]}
    return _tables(["name", "repositories"], {"name": _TEXT, "repositories": several, "groups": _TEXTS})


def _forges() -> dict[str, Any]:
    properties = {
        "kind": {"enum": list(get_args(ForgeKind))},
        "url": _TEXT,
        "token_env": _TEXT,
        "token_file": _TEXT,
        "ca_file": _TEXT,
        "minutes": {"type": "number", "exclusiveMinimum": 0},
    }
    return _tables(["kind", "url"], properties)


def _notify() -> dict[str, Any]:
    """Without `secret`: what is secret doesn't stand in a ConfigMap."""
    events = {"type": "array", "items": {"anyOf": [{"enum": list(EVENTS)}, {"type": "string", "pattern": r"[*?\[]"}]}}
    properties = {"url": _TEXT, "events": events, "secret_env": _TEXT, "internal": {"type": "boolean"}}
    return _tables(["url", "secret_env"], properties)


def _tables(required: list[str], properties: Mapping[str, Any]) -> dict[str, Any]:
    item = {"type": "object", "additionalProperties": False, "required": required, "properties": properties}
    return {"type": "array", "items": item}


def readme(text: str, values: Mapping[str, Any]) -> str:
    lines = [
        "# The Helm chart",
        "",
        "How to install it: [deploy](../../README.md). This page is made by `deploy/helm/generate.py`; the values' own",
        "explanations are in `values.yaml`, examples for six sizes in `examples/`.",
    ]
    for kind, name, said in _documented(text):
        if kind == "section":
            lines += ["", f"## {said}", "", "| value | default | |", "|---|---|---|"]
        else:
            lines.append(f"| `{name}` | `{json.dumps(_at(values, name))}` | {said} |")
    return "\n".join(lines) + "\n"


def _documented(text: str) -> Iterator[tuple[str, str, str]]:
    for line in text.splitlines():
        if match := re.match(r"\s*## @section (.+)", line):
            yield "section", "", match[1]
        elif match := re.match(r"\s*## @param (\S+) ?(.*)", line):
            yield "param", match[1], match[2].replace("|", "\\|")


def _at(values: Mapping[str, Any], name: str) -> Any:
    found: Any = values
    for part in name.split("."):
        found = found[part]
    return found


def main() -> None:
    text = (CHART / "values.yaml").read_text()
    values = yaml.safe_load(text)
    (CHART / "values.schema.json").write_text(json.dumps(schema(values), indent=1) + "\n")
    (CHART / "README.md").write_text(readme(text, values))
    for name in ("alerts.yaml", "dashboard.json"):
        shutil.copy(OBSERVABILITY / name, CHART / "files" / name)


if __name__ == "__main__":
    main()
