"""The HTTP API's page, made of the server's own OpenAPI document."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from homespun_core.config import Settings
from homespun_indexer.model_files import resolve_base_model
from homespun_server.app import build_app

Schema = Mapping[str, Any]

_GROUPS = {
    "/v1/homespun/events": "What became of completions",
    "/v1/events": "What became of completions",
    "/hooks": "Push hooks",
    "/healthz": "Health and metrics",
    "/readyz": "Health and metrics",
    "/metrics": "Health and metrics",
}
"""Of routes without a tag; what isn't here is about completions."""
_ANYWHERE = {"400", "401", "403", "404", "413", "429", "503"}
_SHOWN_DEPTH = 2


def document() -> dict[str, Any]:
    """What a server answers to GET /openapi.json; none is started."""
    with tempfile.TemporaryDirectory() as folder:
        app = build_app(Settings(data_dir=folder), resolve_base_model("builtin", "auto"))
        try:
            return app.openapi()
        finally:
            app.state.runtime.close()


def page(api: Mapping[str, Any]) -> str:
    """A section for each group of routes, and one below it for each route."""
    groups: dict[str, list[str]] = {}
    for path, operations in api["paths"].items():
        for method, operation in operations.items():
            groups.setdefault(_group(path, operation), []).append(_route(api, path, method.upper(), operation))
    return "\n\n".join(f"## {group}\n\n" + "\n\n".join(routes) for group, routes in groups.items())


def _group(path: str, operation: Mapping[str, Any]) -> str:
    tag = next(iter(operation.get("tags", [])), "")
    return str(tag).capitalize() or next(
        (name for start, name in _GROUPS.items() if path.startswith(start)), "Completions"
    )


def _route(api: Mapping[str, Any], path: str, method: str, operation: Mapping[str, Any]) -> str:
    said = (operation["summary"].rstrip("."), " ".join(operation.get("description", "").split()).rstrip("."))
    body = operation.get("requestBody", {}).get("content", {})
    parts = [f"### {method} {path}", ". ".join(filter(None, said)) + "."]
    parts += [_parameters(operation["parameters"])] if operation.get("parameters") else []
    parts += [
        f"Body ({kind}):\n\n{_fields(api, content['schema'])}" for kind, content in body.items() if "schema" in content
    ]
    parts.append(_answers(api, operation["responses"]))
    return "\n\n".join(filter(None, parts))


def _parameters(parameters: list[Mapping[str, Any]]) -> str:
    rows = [(p["name"], p["in"], _kind(p["schema"]), "yes" if p.get("required") else "no") for p in parameters]
    return _table(("parameter", "in", "type", "needed"), rows)


def _fields(api: Mapping[str, Any], schema: Schema) -> str:
    """A table for each form that the body may have."""
    forms = [_resolved(api, form) for form in _resolved(api, schema).get("anyOf", [schema])]
    tables = [_table(("field", "type", "needed"), list(_rows(api, form))) for form in forms if form.get("properties")]
    return "\n\nor:\n\n".join(tables) or f"`{_kind(schema)}`"


def _rows(api: Mapping[str, Any], schema: Schema, before: str = "", depth: int = 1) -> Iterator[tuple[str, str, str]]:
    for name, field in schema.get("properties", {}).items():
        yield f"{before}{name}", _kind(field), "yes" if name in schema.get("required", []) else "no"
        below = _object_in(api, field)
        if below is not None and depth < _SHOWN_DEPTH:
            yield from _rows(api, below, f"{before}{name}.", depth + 1)


def _object_in(api: Mapping[str, Any], field: Schema) -> Schema | None:
    """The object that a field is, or a list or union holds."""
    field = _resolved(api, field)
    if "properties" in field:
        return field
    inside = [*field.get("anyOf", []), *([field["items"]] if "items" in field else [])]
    return next((found for found in (_object_in(api, one) for one in inside) if found is not None), None)


def _answers(api: Mapping[str, Any], responses: Mapping[str, Any]) -> str:
    """Those of its own: what any route may refuse stands at the head of the page."""
    own = {code: _answer(api, answer) for code, answer in responses.items() if code not in _ANYWHERE}
    shown = [f"`{code}` {said}".strip() for code, said in own.items()]
    return "Answers: " + "; ".join(shown) + "." if any(own.values()) else ""


def _answer(api: Mapping[str, Any], answer: Mapping[str, Any]) -> str:
    schemas = [content["schema"] for content in answer.get("content", {}).values() if content.get("schema")]
    names = [f"`{name}`" for schema in schemas for name in (_object_in(api, schema) or {}).get("properties", {})]
    said = answer["description"].rstrip(".")
    return (f"with {', '.join(names)}" if names else "") if said == "Successful Response" else said


def _kind(schema: Schema) -> str:
    if "$ref" in schema:
        return "object"
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_kind(one) for one in schema["anyOf"]))
    if "const" in schema or "enum" in schema:
        return " or ".join(json.dumps(value) for value in schema.get("enum", [schema.get("const")]))
    limits = [f"{sign} {schema[key]:g}" for key, sign in (("minimum", "≥"), ("maximum", "≤")) if key in schema]
    kind = f"list of {_kind(schema['items'])}" if "items" in schema else schema.get("type", "anything")
    return " ".join([str(kind), *limits])


def _resolved(api: Mapping[str, Any], schema: Schema) -> Schema:
    reference = schema.get("$ref")
    return api["components"]["schemas"][reference.rsplit("/", 1)[-1]] if reference else schema


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [f"| `{name}` | {' | '.join(cell.replace('|', '&#124;') for cell in rest)} |" for name, *rest in rows]
    return "\n".join([f"| {' | '.join(head)} |", "|" + "---|" * len(head), *lines])
