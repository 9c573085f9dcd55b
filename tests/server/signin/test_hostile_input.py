"""Whatever strangers and providers send, there is an answer, and it isn't that the server failed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from homespun_core.config import Settings
from homespun_core.types import ModelFiles
from homespun_server.app import build_app
from homespun_server.runtime import load_torch_engine
from tests.server.signin.certified import OURS

TOKEN = "a-token-for-provisioning"
USER = "urn:ietf:params:scim:schemas:core:2.0:User"
PATCH = "urn:ietf:params:scim:api:messages:2.0:PatchOp"

text = st.text(max_size=20) | st.sampled_from(["\x00", "\ud800", "a" * 5_000, "İ", "../..", "' OR 1=1 --", "%00"])
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)
names = st.sampled_from(
    ["userName", "externalId", "active", "emails", "name", "displayName", "members", "schemas", "id"]
)
bodies = st.dictionaries(names, values, max_size=5).map(lambda fields: {"schemas": [USER], "userName": "ada"} | fields)
paths = st.sampled_from(["active", "emails", 'emails[type eq "work"].value', "name.givenName", "userName"]) | text
kinds = {"op": st.sampled_from(["add", "Replace", "remove"])}
operations = st.fixed_dictionaries(kinds, optional={"path": paths, "value": values})
often = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, builtin: ModelFiles) -> Iterator[TestClient]:
    data = str(tmp_path_factory.mktemp("data"))
    app = build_app(Settings(data_dir=data, scim_token=TOKEN, api_token="t"), builtin, load_torch_engine)
    yield TestClient(app, base_url=OURS, raise_server_exceptions=True, follow_redirects=False)
    app.state.signin.close()
    app.state.runtime.close()


@pytest.fixture(scope="module")
def ada(client: TestClient) -> str:
    answer = client.post("/scim/v2/Users", json={"schemas": [USER], "userName": "somebody"}, headers=_shown())
    return str(answer.json()["id"])


@often
@given(body=bodies)
@example(body={"schemas": [USER], "userName": "eve", "displayName": "\ud800"})
@example(body={"schemas": [USER], "userName": "eve", "emails": [{"value": "\ud800@example.com", "primary": True}]})
@example(body={"schemas": [USER], "userName": "eve", "name": {"givenName": "\x00"}})
@example(body={"schemas": [USER], "userName": "\ud800", "displayName": "\x00"})
def test_resources(client: TestClient, body: Any) -> None:
    _answered(client.post("/scim/v2/Users", content=_json(body), headers=_shown()))
    _answered(client.post("/scim/v2/Groups", content=_json(body), headers=_shown()))


@often
@given(found=st.lists(operations, max_size=3))
@example(found=[{"op": "replace", "path": "displayName", "value": "\ud800"}])
@example(found=[{"op": "replace", "path": 'emails[type eq "\ud800"].value', "value": "x"}])
def test_patches(client: TestClient, ada: str, found: Any) -> None:
    content = _json({"schemas": [PATCH], "Operations": found})
    _answered(client.patch(f"/scim/v2/Users/{ada}", content=content, headers=_shown()))


@often
@given(query=st.dictionaries(st.sampled_from(["filter", "count", "startIndex", "sortBy", "attributes"]), text))
@example(query={"filter": "(" * 2_000})
@example(query={"filter": "not " * 2_000 + "active pr"})
@example(query={"count": "-1"})
@example(query={"startIndex": "-5", "count": "9" * 400})
def test_queries(client: TestClient, query: dict[str, str]) -> None:
    shown = {name: value.encode("utf-8", "replace") for name, value in query.items()}
    for kind in ("Users", "Groups"):
        _answered(client.get(f"/scim/v2/{kind}", params=shown, headers=_shown()))


@often
@given(fields=st.dictionaries(st.sampled_from(["client_id", "scope", "device_code", "grant_type", "token"]), text))
def test_oauth(client: TestClient, fields: dict[str, str]) -> None:
    sent = {"client_id": "homespun-editor", "grant_type": "urn:ietf:params:oauth:grant-type:device_code"} | fields
    shown = {name: value.encode("utf-8", "replace") for name, value in sent.items()}
    for path in ("device/code", "token", "revoke"):
        _answered(client.post(f"/oauth/{path}", data=shown))


@often
@given(content=st.binary(max_size=200))
def test_forms(client: TestClient, content: bytes) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Origin": OURS}
    for path in ("/oauth/token", "/signin/token", "/oauth/device", "/signout"):
        _answered(client.post(path, content=content, headers=headers))


@often
@given(
    query=st.dictionaries(st.sampled_from(["next", "state", "code", "error", "iss", "user_code"]), text), cookie=text
)
def test_pages(client: TestClient, query: dict[str, str], cookie: str) -> None:
    shown = {name: value.encode("utf-8", "replace") for name, value in query.items()}
    sent = cookie.encode("latin-1", "replace").replace(b"\n", b"").replace(b"\r", b"").replace(b"\x00", b"")
    headers = {b"Cookie": b"homespun-session=" + sent + b"; homespun-attempt=" + sent}
    for path in ("/signin", "/signin/start", "/signin/callback", "/oauth/device"):
        _answered(client.get(path, params=shown, headers=headers))


def _answered(answer: Any) -> None:
    assert answer.status_code < 500 or answer.status_code == 501, (answer.status_code, answer.text)


def _shown() -> dict[str, str]:
    return {"Authorization": f"Bearer {TOKEN}"}


def _json(value: Any) -> bytes:
    """With what JSON can't have and Python writes nevertheless: NaN, lone surrogates."""
    return json.dumps(value).encode()
