"""People and rights over HTTP."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator

import pytest
from sqlalchemy import text

from homespun_core.config import Settings
from homespun_core.types import ModelFiles, Tokenizer
from homespun_server.access.principal import ALL_SCOPES, Role
from tests.server.access.conftest import Served

ADMIN = "/v1/homespun/admin"
ME = "/v1/homespun/me"
BODY = {"prompt": "def add(a, b):\n    return", "max_tokens": 8}


@pytest.fixture
def root(served: Served) -> str:
    return served.token("root", "admin", scopes=sorted(ALL_SCOPES))


@pytest.fixture(scope="module")
def standing(builtin: ModelFiles, tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """For tests that change nothing, or somebody of their own."""
    data = tmp_path_factory.mktemp("data")
    made = Served(Settings(data_dir=str(data), requests_per_minute=0), builtin, tokenizer)
    yield made
    made.runtime.close()


async def test_nobody_needs_a_token_until_there_is_an_account(served: Served) -> None:
    assert (await served.ask("GET", ME)).json()["name"] == "local"
    assert (await served.ask("POST", f"{ADMIN}/users", json={"name": "root", "role": "admin"})).status_code == 201
    for path in (ME, f"{ADMIN}/users", "/v1/models", "/metrics"):
        assert (await served.ask("GET", path)).status_code == 401
    assert (await served.ask("POST", "/v1/completions", json=BODY)).status_code == 401


async def test_an_admin_makes_people_teams_tokens_and_grants(served: Served, root: str) -> None:
    async def done(method: str, path: str, status: int, body: object = None) -> object:
        response = await served.ask(method, f"{ADMIN}{path}", root, json=body)
        assert response.status_code == status, response.text
        return response.json() if response.content else None

    await done("POST", "/teams", 201, {"name": "shop developers"})
    await done("POST", "/users", 201, {"name": "Ada", "teams": ["shop developers"], "email": "ada@example.com"})
    made = await done("POST", "/tokens", 201, {"user": "ada", "name": "laptop"})
    assert isinstance(made, dict)
    assert (await served.ask("POST", "/v1/completions", made["token"], json=BODY)).status_code == 200
    await done("POST", "/grants", 201, {"user": "ada", "repository": "web-*"})
    await done("POST", "/grants", 201, {"team": "shop developers", "repository": "shop"})
    found = await done("GET", "/grants", 200)
    assert isinstance(found, list)
    assert [(g["subject"], g["repository"]) for g in found] == [
        ("user:ada", "web-*"),
        ("team:shop developers", "shop"),
    ]
    await done("DELETE", f"/grants/{found[0]['id']}", 204)
    await done("DELETE", "/teams/shop developers/members/ada", 204)
    await done("PUT", "/teams/shop developers/members/ada", 204)
    changed = await done("PATCH", "/users/ada", 200, {"role": "repo-admin"})
    assert isinstance(changed, dict)
    assert (changed["role"], changed["email"], changed["teams"]) == (
        "repo-admin",
        "ada@example.com",
        ["shop developers"],
    )
    await done("DELETE", f"/tokens/{made['id']}", 204)
    assert (await served.ask("POST", "/v1/completions", made["token"], json=BODY)).status_code == 401
    exported = await done("GET", "/users/ada/export", 200)
    assert made["token"].split("_", 2)[2] not in str(exported)
    await done("DELETE", "/users/ada", 200)
    told = str(await done("GET", "/users", 200)) + str(await done("GET", "/audit", 200))
    assert not re.search(r"'ada\b", told), "as a word: an id may begin with these letters"
    chain = await done("GET", "/audit/verification", 200)
    assert isinstance(chain, dict) and chain["problem"] is None and chain["entries"] > 10


async def test_deactivating_ends_every_token_at_once(served: Served, root: str) -> None:
    ada = served.token("ada")
    assert (await served.ask("POST", "/v1/completions", ada, json=BODY)).status_code == 200
    await served.ask("PATCH", f"{ADMIN}/users/ada", root, json={"active": False})
    assert (await served.ask("POST", "/v1/completions", ada, json=BODY)).status_code == 401


async def test_the_last_admin_stays(served: Served, root: str) -> None:
    for changes in ({"active": False}, {"role": "developer"}):
        refused = await served.ask("PATCH", f"{ADMIN}/users/root", root, json=changes)
        assert refused.status_code == 400 and "last admin" in refused.json()["error"]["message"]
    assert (await served.ask("DELETE", f"{ADMIN}/users/root", root)).status_code == 400
    assert (await served.ask("GET", ME, root)).json()["role"] == "admin"


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/users", {"name": "two words"}, 400),
        ("POST", "/users", {"name": "ada", "role": "king"}, 400),
        ("POST", "/users", {"name": "ada", "rolle": "admin"}, 400),
        ("POST", "/users", {"name": "root"}, 400),
        ("POST", "/users", {"name": "ada", "email": "nowhere"}, 400),
        ("POST", "/users", {"name": "ada", "teams": ["nobody's"]}, 404),
        ("GET", "/users/nobody", None, 404),
        ("DELETE", "/teams/nobody", None, 404),
        ("POST", "/grants", {"repository": "x"}, 400),
        ("POST", "/grants", {"user": "root", "team": "x", "repository": "x"}, 400),
        ("POST", "/tokens", {"user": "root", "name": "x", "scopes": ["everything"]}, 400),
        ("POST", "/tokens", {"user": "root", "name": "x", "days": 0}, 400),
        ("DELETE", "/tokens/none", None, 404),
        ("GET", "/audit?newest=x", None, 400),
    ],
)
async def test_what_makes_no_sense_is_refused_and_changes_nothing(
    standing: Served, method: str, path: str, body: object, status: int
) -> None:
    served, root = standing, standing.token("root", "admin", scopes=sorted(ALL_SCOPES))
    before = (await served.ask("GET", f"{ADMIN}/users", root)).json()
    response = await served.ask(method, f"{ADMIN}{path}", root, json=body)
    assert response.status_code == status, response.text
    assert response.json()["error"].keys() == {"message", "type", "code", "param"}
    assert (await served.ask("GET", f"{ADMIN}/users", root)).json() == before


@pytest.mark.parametrize("role", ["developer", "repo-admin", "auditor"])
async def test_others_can_change_nobody_and_their_trying_is_noted(standing: Served, role: Role) -> None:
    served, root = standing, standing.token("root", "admin", scopes=sorted(ALL_SCOPES))
    token = served.token(f"mallory-{role}", role, scopes=sorted(ALL_SCOPES))
    for method, path, body in (
        ("GET", "/users", None),
        ("GET", "/users/nobody", None),
        ("POST", "/users", {"name": "x", "role": "admin"}),
        ("PATCH", f"/users/mallory-{role}", {"role": "admin"}),
        ("DELETE", "/users/root", None),
        ("POST", "/tokens", {"user": "root", "name": "x", "scopes": ["admin"]}),
        ("POST", "/grants", {"user": f"mallory-{role}", "repository": "*"}),
    ):
        response = await served.ask(method, f"{ADMIN}{path}", token, json=body)
        assert response.status_code == 403 and response.json()["error"]["code"] == "forbidden"
    assert (await served.ask("GET", f"{ADMIN}/audit", token)).status_code == (200 if role == "auditor" else 403)
    entries = (await served.ask("GET", f"{ADMIN}/audit", root)).json()
    me = (await served.ask("GET", ME, token)).json()["id"]
    denied = [entry for entry in entries if entry["decision"] == "denied" and entry["actor"] == me]
    assert denied and all(entry["action"] in ("manage-people", "read-audit") for entry in denied)


async def test_an_admins_editor_token_does_no_administration(served: Served, root: str) -> None:
    editor = served.token("root")
    assert (await served.ask("GET", f"{ADMIN}/users", editor)).status_code == 403
    assert (await served.ask("POST", f"{ME}/tokens", editor, json={"name": "more"})).status_code == 403
    assert (await served.ask("GET", "/metrics", editor)).status_code == 403
    assert (await served.ask("POST", "/v1/completions", editor, json=BODY)).status_code == 200


async def test_one_makes_and_revokes_ones_own_tokens_with_no_more_rights(served: Served, root: str) -> None:
    ada = served.token("ada", scopes=("complete", "admin"))
    made = (await served.ask("POST", f"{ME}/tokens", ada, json={"name": "laptop"})).json()
    assert (await served.ask("GET", ME, made["token"])).json()["name"] == "ada"
    more = await served.ask("POST", f"{ME}/tokens", ada, json={"name": "x", "scopes": ["index:read"]})
    assert more.status_code == 403
    assert (await served.ask("DELETE", f"{ME}/tokens/{root.split('_')[1]}", ada)).status_code == 404
    assert (await served.ask("DELETE", f"{ME}/tokens/{made['id']}", ada)).status_code == 204
    assert (await served.ask("GET", ME, made["token"])).status_code == 401
    assert "ada" in str((await served.ask("GET", f"{ME}/export", ada)).json())


async def test_auditors_get_no_completions(served: Served) -> None:
    token = served.token("aud", "auditor", scopes=sorted(ALL_SCOPES))
    for path in ("/v1/completions", "/v1/homespun/events"):
        assert (await served.ask("POST", path, token, json=BODY | {"events": []})).status_code == 403


async def test_nothing_is_changed_that_the_audit_log_does_not_take(served: Served, root: str) -> None:
    with served.runtime.database.begin() as connection:
        connection.execute(
            text("CREATE TRIGGER audit_is_full BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'full'); END")
        )
    refused = await served.ask("POST", f"{ADMIN}/users", root, json={"name": "ada"})
    assert refused.status_code == 503 and "nothing was changed" in refused.json()["error"]["message"]
    assert [user["name"] for user in (await served.ask("GET", f"{ADMIN}/users", root)).json()] == ["root"]
    assert (await served.ask("POST", "/v1/completions", root, json=BODY)).status_code == 200


async def test_nobody_says_what_became_of_anothers_completion(served: Served) -> None:
    ada, bob = served.token("ada"), served.token("bob")
    id = (await served.ask("POST", "/v1/completions", ada, json=BODY)).json()["id"]
    for token, kind in ((bob, "dismissed"), (ada, "shown")):
        events = {"events": [{"completion": id, "kind": kind}]}
        assert (await served.ask("POST", "/v1/homespun/events", token, json=events)).status_code == 200
    for _ in range(100):
        await asyncio.sleep(0.05)
        with served.runtime.database.connect() as connection:
            kinds = connection.execute(text("SELECT kind FROM events")).scalars().all()
        if kinds:
            break
    assert kinds == ["shown"]


async def test_a_client_cannot_pass_for_another_user(served: Served) -> None:
    ada = served.token("ada")
    await served.ask("POST", "/v1/completions", ada, json=BODY | {"homespun": {"user": "bob", "client": "x"}})
    me = (await served.ask("GET", ME, ada)).json()["id"]
    for _ in range(100):
        await asyncio.sleep(0.05)
        with served.runtime.database.connect() as connection:
            users = connection.execute(text('SELECT "user" FROM completions')).scalars().all()
        if users:
            break
    assert users == [me]
