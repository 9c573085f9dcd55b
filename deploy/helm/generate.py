"""Makes the chart's README.md and values.schema.json from values.yaml, whose comments explain each value, and from
Homespun's own settings: `python deploy/helm/generate.py`. Also copies what the chart can't reach outside of itself."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml

from homespun_core.config import SETTINGS
from homespun_core.forges import ForgeKind
from homespun_core.notify import EVENTS
from homespun_core.prompt_versions import VARIED
from homespun_core.repositories import KEYS

CHART = Path(__file__).parent / "homespun"
OBSERVABILITY = Path(__file__).parents[1] / "observability"
SECRET = re.compile(r"_(token|secret)$|^database_url$")
"""Settings that never stand in a ConfigMap; the template refuses the same ones."""

_TEXT = {"type": "string"}
_TEXTS = {"type": "array", "items": _TEXT}
_TEXTS_BY_NAME = {"type": "object", "additionalProperties": _TEXT}
_COUNT = {"type": "integer", "minimum": 0}
_SOME = {"type": "integer", "minimum": 1}


def _object(properties: Mapping[str, Any], required: Sequence[str] = (), **more: Any) -> dict[str, Any]:
    needed = {"required": list(required)} if required else {}
    return {"type": "object", "additionalProperties": False, **needed, "properties": properties, **more}


def _objects(properties: Mapping[str, Any], required: Sequence[str] = (), **more: Any) -> dict[str, Any]:
    return {"type": "array", "items": _object(properties, required, **more)}


_CIDR = {"type": "string", "pattern": r"^[0-9a-fA-F.:]+/\d{1,3}$"}
_PORT = {"type": "integer", "minimum": 1, "maximum": 65535}
_PORTS = {"type": "array", "minItems": 1, "items": _PORT}
_EGRESS = _objects({"cidr": _CIDR, "ports": _PORTS}, ["cidr", "ports"])
_EXPRESSIONS = _objects({"key": _TEXT, "operator": _TEXT, "values": _TEXTS}, ["key", "operator"])
_SELECTOR = _object({"matchLabels": _TEXTS_BY_NAME, "matchExpressions": _EXPRESSIONS})
_BLOCK = _object({"cidr": _CIDR, "except": {"type": "array", "items": _CIDR}}, ["cidr"])
_PEERS = _objects({"namespaceSelector": _SELECTOR, "podSelector": _SELECTOR, "ipBlock": _BLOCK}, minProperties=1)
_QUANTITIES = {
    "type": "object",
    "additionalProperties": False,
    "patternProperties": {
        r"^(cpu|memory|ephemeral-storage|hugepages-.+|.+/.+)$": {
            "type": ["number", "string"],
            "pattern": r"^\d+(\.\d+)?(m|k|[MGTPE]|[KMGTPE]i)?$",
        }
    },
}
_RESOURCES = _object({"requests": _QUANTITIES, "limits": _QUANTITIES})
_TOLERATION = dict.fromkeys(("key", "operator", "value", "effect"), _TEXT) | {"tolerationSeconds": {"type": "integer"}}
_GATEWAY = dict.fromkeys(("group", "kind", "namespace", "name", "sectionName"), _TEXT) | {"port": _PORT}
_PLACED = ("server", "gateway", "worker", "watcher", "trainer", "vllm")
_DIGEST = {"type": "string", "pattern": r"^(sha256:[0-9a-f]{64})?$"}
_OR_NULL = {"type": ["integer", "null"], "minimum": 1}

SPECIAL: dict[str, Any] = {
    "mode": {"enum": ["single", "cluster"]},
    "trainer.mode": {"enum": ["cron", "jobs"]},
    "trainer.dispatcher.most": _SOME,
    "image.pullPolicy": {"enum": ["IfNotPresent", "Always", "Never"]},
    "image.digest": _DIGEST,
    "image.gatewayDigest": _DIGEST,
    "persistence.accessMode": {"enum": ["ReadWriteOnce", "ReadWriteOncePod", "ReadWriteMany"]},
    "persistence.size": {"type": "string", "pattern": r"^\d+(\.\d+)?(Mi|Gi|Ti)$"},
    "service.type": {"enum": ["ClusterIP", "NodePort", "LoadBalancer"]},
    "service.port": _PORT,
    "gateway.autoscaling.targetCPU": {"type": "integer", "minimum": 10, "maximum": 100},
    "vllm.maxLoraRank": {"enum": [1, 8, 16, 32, 64, 128, 256, 320, 512]},
    "podSecurity.runAsUser": _OR_NULL,
    "podSecurity.fsGroup": _OR_NULL,
    "networkPolicy.from": _PEERS,
    "networkPolicy.scrapeFrom": _PEERS,
    # A rule without where to or which ports is open to everything.
    "networkPolicy.dns": _object({"to": _PEERS | {"minItems": 1}, "ports": _PORTS}, ["to", "ports"]),
    **{f"networkPolicy.{name}": _EGRESS for name in ("git", "database", "identity", "kubernetes", "other")},
    "extraObjects": {"type": "array", "items": {"type": ["object", "string"]}},
    "extraEnv": _objects({"name": _TEXT, "value": _TEXT, "valueFrom": {"type": "object"}}, ["name"]),
    "httpRoute.parentRefs": _objects(_GATEWAY, ["name"]),
    **{f"{part}.tolerations": _objects(_TOLERATION) for part in _PLACED},
    **{f"{part}.resources": _RESOURCES for part in _PLACED},
    **{f"{part}.affinity": {"type": "object"} for part in ("server", "gateway")},
    **{
        f"{part}.{end}": _SOME for part in ("gateway.autoscaling", "vllm.hpa") for end in ("minReplicas", "maxReplicas")
    },
}


def schema(values: Mapping[str, Any]) -> dict[str, Any]:
    tables = {
        "repositories": _repositories(),
        "adapters": _adapters(),
        "forges": _forges(),
        "notify": _notify(),
        "prompts": _prompts(),
    }
    special = SPECIAL | {"settings": _settings()} | tables
    found = _closed(values, "", special)
    return {"$schema": "http://json-schema.org/draft-07/schema#", "title": "Values of the chart homespun", **found}


def _closed(values: Mapping[str, Any], path: str, special: Mapping[str, Any]) -> dict[str, Any]:
    properties = {}
    for name, value in values.items():
        where = f"{path}{name}"
        if where in special:
            properties[name] = special[where]
        elif isinstance(value, dict) and value and not where.endswith("Labels"):
            properties[name] = _closed(value, f"{where}.", special)
        else:
            properties[name] = _like(value)
    return _object(properties)


def _like(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"type": "boolean"}
    if isinstance(value, int):
        return _COUNT
    if isinstance(value, list):
        return _TEXTS
    return _TEXTS_BY_NAME if isinstance(value, dict) else _TEXT


def _settings() -> dict[str, Any]:
    types = {"int": "integer", "float": "number", "bool": "boolean", "str": "string"}
    properties = {}
    for name, item in SETTINGS.items():
        if SECRET.search(name) or name in ("data_dir", "host", "port"):  # the chart's own business
            continue
        low, high, choices = item.metadata["low"], item.metadata["high"], item.metadata["choices"]
        properties[name] = {
            "type": types[str(item.type)],
            **({"enum": list(choices)} if choices else {}),
            **({"minimum": low} if low is not None else {}),
            **({"maximum": high} if high is not None else {}),
        }
    return _object(properties)


def _repositories() -> dict[str, Any]:
    numbers = ("max_repo_mb", "max_clone_mb", "timeout_s", "index_minutes")
    lists = ("languages", "include", "exclude", "groups")
    properties = {key: _COUNT if key in numbers else _TEXTS if key in lists else _TEXT for key in KEYS}
    properties["keep_completions"] = {"type": "boolean"}
    return _objects(properties, ["source"])


def _adapters() -> dict[str, Any]:
    several = {"oneOf": [_TEXTS, {"const": "all"}]}
    return _objects({"name": _TEXT, "repositories": several, "groups": _TEXTS}, ["name", "repositories"])


def _forges() -> dict[str, Any]:
    properties = {
        "kind": {"enum": list(get_args(ForgeKind))},
        "url": _TEXT,
        "token_env": _TEXT,
        "token_file": _TEXT,
        "ca_file": _TEXT,
        "minutes": {"type": "number", "exclusiveMinimum": 0},
    }
    return _objects(properties, ["kind", "url"])


def _notify() -> dict[str, Any]:
    """Without `secret`: what is secret doesn't stand in a ConfigMap."""
    events = {"type": "array", "items": {"anyOf": [{"enum": list(EVENTS)}, {"type": "string", "pattern": r"[*?\[]"}]}}
    properties = {"url": _TEXT, "events": events, "secret_env": _TEXT, "internal": {"type": "boolean"}}
    return _objects(properties, ["url", "secret_env"])


def _prompts() -> dict[str, Any]:
    percent = {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 100}
    settings = _settings()["properties"]
    properties = {"name": _TEXT, "percent": percent, **{name: settings[name] for name in VARIED}}
    return _objects(properties, ["name"])


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
