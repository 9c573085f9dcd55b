"""/openapi.json is complete: every route, what it reads, what it answers; what is left out is listed, with why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from fastapi.routing import iter_route_contexts

from homespun_core.config import Settings
from homespun_core.types import ModelFiles
from tests.server.test_http import Started

PAGES = ("/console", "/assets/", "/setup", "/signin", "/signout", "/oauth/device", "/openapi.json")
"""For browsers, and the document itself."""
BODILESS = {
    "post /v1/health": "Tabby's clients post, and send nothing",
    "post /v1/homespun/jobs/{id}/cancel": "the address says it all",
    "post /v1/homespun/admin/jobs/{id}/cancel": "the address says it all",
    "post /v1/homespun/admin/jobs/{id}/retry": "the address says it all",
    "put /v1/homespun/admin/teams/{name}/members/{user}": "the address says it all",
    "put /v1/homespun/me/adapter": "switches it on",
}
ANY_OBJECT = {
    "get /readyz": "differs by what its reader may see",
    "post /v1/events": "an empty answer",
    "post /v1/homespun/events": "an empty answer",
    "get /v1/homespun/admin/users/{name}/export": "the tables as they are, in whichever version",
    "get /v1/homespun/me/export": "the tables as they are, in whichever version",
    "get /v1/homespun/admin/jobs/events": "a stream",
    "get /.well-known/oauth-authorization-server": "RFC 8414",
    "post /oauth/device/code": "RFC 8628",
    "post /oauth/token": "RFC 6749",
    "post /oauth/revoke": "RFC 7009",
    "get /scim/v2/": "RFC 7643; /scim/v2/Schemas tells it",
    "post /scim/v2/": "RFC 7643",
    "put /scim/v2/": "RFC 7643",
    "patch /scim/v2/": "RFC 7643",
}
"""By operation, those of SCIM by how they begin."""


@pytest.fixture(scope="module")
def started(builtin: ModelFiles, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    settings = Settings(data_dir=str(tmp_path_factory.mktemp("data")), completion_deadline_ms=60_000, max_new_tokens=8)
    made = Started(settings, builtin)
    assert made.loaded.wait(60)
    yield made
    made.runtime.close()


@pytest.fixture
def operations(started: Started) -> Mapping[str, Any]:
    paths = started.app.openapi()["paths"]
    return {f"{method} {path}": operation for path, found in paths.items() for method, operation in found.items()}


def answered(operation: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The schemas of what succeeds with a body."""
    found = [response for code, response in operation["responses"].items() if code[0] == "2" and code != "204"]
    return [content.get("schema", {}) for one in found for content in (one.get("content") or {"": {}}).values()]


def is_any_object(schema: Mapping[str, Any]) -> bool:
    """Of values that are all of one type, that is said."""
    told = schema.keys() & {"properties", "$ref", "anyOf", "items"}
    return not told and not isinstance(schema.get("additionalProperties"), dict) and schema.get("type") != "string"


def test_every_route_but_pages_is_there(started: Started, operations: Mapping[str, Any]) -> None:
    routes = {
        f"{method.lower()} {route.path_format}"
        for route in iter_route_contexts(started.app.routes)
        for method in route.methods or ()
        if not (route.path_format or "").startswith(PAGES) or route.path_format == "/oauth/device/code"
    }
    assert routes - operations.keys() == {"get /"}, "the front door: a browser's way to the console, a word for others"
    assert len(routes) > 70
    assert not [key for key in operations if key.split()[1].startswith(("/console", "/signin", "/setup"))]


def test_what_reads_a_body_says_which(operations: Mapping[str, Any]) -> None:
    without = {
        key
        for key, operation in operations.items()
        if key.split()[0] in ("post", "put", "patch") and "requestBody" not in operation
    }
    assert without == BODILESS.keys()


def test_what_answers_says_with_what(operations: Mapping[str, Any]) -> None:
    vague = {key for key, operation in operations.items() if any(map(is_any_object, answered(operation)[:1]))}
    found = {f"{key.split()[0]} /scim/v2/" if "/scim/v2/" in key else key for key in vague}
    assert found == ANY_OBJECT.keys()


def checked(started: Started, operations: Mapping[str, Any], key: str, told: Any) -> Any:
    (schema,) = answered(operations[key])
    validator = jsonschema_rs.validator_for({**schema, "components": started.app.openapi()["components"]})
    assert [error.message for error in validator.iter_errors(told)] == []
    assert told.keys() <= schema["properties"].keys(), "nothing is there that isn't described"
    return told


async def test_jobs_and_explanations_are_as_described(
    started: Started, operations: Mapping[str, Any], tmp_path: Path
) -> None:
    workers, admin = "/v1/homespun/jobs", "/v1/homespun/admin/jobs"
    bearer = {
        "authorization": f"Bearer {(Path(started.runtime.settings.data_root) / 'worker.token').read_text().strip()}"
    }
    wanted = {"kind": "index", "repository": "https://git.example.com/team/web.git"}
    async with started.client() as client:

        async def ask(key: str, path: str, body: Any = None, headers: Any = None) -> Any:
            answer = await client.request(key.split()[0], path, json=body, headers=headers)
            assert answer.is_success, answer.text
            return checked(started, operations, key, answer.json())

        added = await ask(f"post {admin}", admin, wanted)
        await ask(f"get {workers}/due", f"{workers}/due?kind=index", headers=bearer)
        leased = await ask(f"post {workers}/lease", f"{workers}/lease", {"worker": "w", "kinds": ["index"]}, bearer)
        sign = {"job": leased["id"], "fence": leased["fence"]}
        await ask(f"post {workers}/heartbeat", f"{workers}/heartbeat", sign | {"fraction": 0.5, "words": "on"}, bearer)
        assert (await ask(f"get {admin}", admin))["workers"]
        await ask(f"get {workers}/due", f"{workers}/due?kind=index", headers=bearer)
        await ask(f"get {admin}/{{id}}", f"{admin}/{added['id']}")
        await ask(f"post {workers}/report", f"{workers}/report", sign | {"ending": "failed", "reason": "x"}, bearer)
        for side, headers in ((workers, bearer), (admin, None)):
            await ask(f"get {side}/{{id}}/log", f"{side}/{added['id']}/log", headers=headers)
        await ask(f"post {workers}/ask", f"{workers}/ask", wanted | {"kind": "train"}, bearer)
        body = {"prefix": "def add(a, b):\n    return", "suffix": "\n", "path": "add.py"}
        told = await ask("post /v1/homespun/explain", "/v1/homespun/explain", body)
        assert told["arms"] and told["prompt"]
