"""Asking for an adapter of one's own, and taking it back, over HTTP."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from homespun_core import personal, registry
from homespun_core.config import Settings
from homespun_core.paths import DataDir
from homespun_core.personal import Wish
from homespun_core.scopes import UNKNOWN
from homespun_core.types import ModelFiles, Tokenizer
from homespun_indexer.people import author_hash
from homespun_server.access import reading, rights
from homespun_server.access.changing import changing
from homespun_server.access.principal import Scope
from tests.server.access.conftest import ADMIN, Served
from tests.server.conftest import Indexed

PLACE = "/v1/homespun/me/adapter"
NONE: dict[str, object] = {"wanted": False, "since": None, "adapters": {}, "not_served": {}}


def data(served: Served) -> DataDir:
    return DataDir(served.runtime.settings.data_root)


async def test_on_look_and_off(served: Served) -> None:
    with changing(served.runtime.database, ADMIN) as change:
        ada = change.add_user("ada", email="Ada@example.com")
    token = served.token("ada")
    assert (await served.ask("GET", PLACE, token)).json() == NONE
    assert (await served.ask("PUT", PLACE, token)).json()["wanted"] is True
    wish = personal.wish_of(data(served), "ada")
    assert wish.user == ada.id and wish.authors == (author_hash(data(served))("ada@example.com"),)
    place = data(served).adapters(personal.personal_id(ada.id, "shop-1"))
    (place / "v1").mkdir(parents=True)
    assert (await served.ask("GET", PLACE, token)).json()["adapters"] == {"shop-1": None}
    assert (await served.ask("DELETE", PLACE, token)).json() == {"deleted": ["shop-1"]}
    assert not place.exists() and not personal.is_wanted(data(served), ada.id)


async def test_nobody_sees_or_deletes_anothers(served: Served) -> None:
    with changing(served.runtime.database, ADMIN) as change:
        change.add_user("ada", email="ada@example.com")
    ada, root = served.token("ada"), served.token("root", "admin", ["admin", "complete"])
    await served.ask("PUT", PLACE, ada)
    assert (await served.ask("GET", PLACE, root)).json()["wanted"] is False
    await served.ask("DELETE", PLACE, root)
    assert (await served.ask("GET", PLACE, ada)).json()["wanted"] is True


@pytest.mark.parametrize(
    ("scopes", "may"),
    [(["complete"], True), (["admin"], True), (["index:read"], False)],
    ids=["editor", "admin", "only-looks"],
)
async def test_an_editors_token_acts_for_its_person_and_one_that_only_looks_does_not(
    served: Served, scopes: list[Scope], may: bool
) -> None:
    with changing(served.runtime.database, ADMIN) as change:
        change.add_user("ada", email="ada@example.com")
    token = served.token("ada", scopes=scopes)
    for method in ("PUT", "DELETE"):
        assert (await served.ask(method, PLACE, token)).status_code == (200 if may else 403)
    assert (await served.ask("GET", PLACE, token)).status_code == 200


async def test_the_token_that_everybody_shares_is_nobodys(
    builtin: ModelFiles, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    shared = Served(Settings(data_dir=str(tmp_path / "data"), api_token="shared"), builtin, tokenizer)
    with changing(shared.runtime.database, ADMIN) as change:
        ada = change.add_user("ada", email="ada@example.com")
    personal.want(data(shared), Wish(user=ada.id, name="ada", authors=("00",), since=1.0))
    for method in ("GET", "PUT", "DELETE"):
        answer = await shared.ask(method, PLACE, "shared")
        assert answer.status_code == 404 and "belongs to no account" in answer.text
    assert personal.is_wanted(data(shared), ada.id)
    shared.runtime.close()


async def test_an_account_without_an_address_is_told_why(served: Served) -> None:
    response = await served.ask("PUT", PLACE, served.token("bob"))
    assert response.status_code == 400 and "no e-mail address" in response.text
    assert personal.wishes(data(served)) == []


async def test_it_is_noted_who_wanted_what(served: Served) -> None:
    with changing(served.runtime.database, ADMIN) as change:
        change.add_user("ada", email="ada@example.com")
    token, root = served.token("ada"), served.token("root", "admin", ["admin", "complete"])
    for method in ("PUT", "DELETE"):
        assert (await served.ask(method, PLACE, token)).status_code == 200
    log = (await served.ask("GET", "/v1/homespun/admin/audit", root)).text
    assert "personal.want" in log and "personal.take-back" in log


async def test_who_is_erased_keeps_no_adapter(served: Served) -> None:
    with changing(served.runtime.database, ADMIN) as change:
        change.add_user("ada", email="ada@example.com")
    root = served.token("root", "admin", ["admin", "complete"])
    await served.ask("PUT", PLACE, served.token("ada"))
    with served.runtime.database.connect() as connection:
        ada = reading.user_named(connection, "ada")
    assert ada is not None and personal.is_wanted(data(served), ada.id)
    assert (await served.ask("DELETE", "/v1/homespun/admin/users/ada", root)).status_code == 200
    assert not personal.is_wanted(data(served), ada.id)


async def test_without_accounts_there_is_nobody_to_have_one(served: Served) -> None:
    assert (await served.ask("PUT", PLACE)).status_code == 404


def publish(place: Path, version: str, base: str, saw: str) -> None:
    sources = {"base_model": base, "repositories": saw}
    with registry.publish_adapter(place / version, fingerprint="f", sources=sources, report={}):
        pass
    registry.promote(place, version)


@pytest.fixture
def with_code(builtin: ModelFiles, tokenizer: Tokenizer, indexed: Indexed, tmp_path: Path) -> Iterator[Served]:
    """A server that has one repository, for whoever is granted it."""
    root = tmp_path / "data"
    shutil.copytree(indexed.data.index_root, DataDir(root).index_root)
    settings = Settings(data_dir=str(root), requests_per_minute=0, default_access="nobody")
    made = Served(settings, builtin, tokenizer)
    yield made
    made.runtime.close()


async def test_one_that_is_not_served_says_why(with_code: Served, indexed: Indexed, builtin: ModelFiles) -> None:
    """It was said to be live."""
    repo = indexed.repository.id
    with changing(with_code.runtime.database, ADMIN) as change:
        ada = change.add_user("ada", email="ada@example.com")
        change.grant(ada, repo)
    token = with_code.token("ada")
    await with_code.ask("PUT", PLACE, token)
    place, loaded = data(with_code).adapters(personal.personal_id(ada.id, repo)), with_code.runtime.loaded
    assert loaded is not None
    publish(place, "v1", builtin.digest, f"{repo} secret-9")
    loaded.watcher.scan()
    answer = (await with_code.ask("GET", PLACE, token)).json()
    assert answer["adapters"] == {repo: "v1"} and "that you may not read" in answer["not_served"][repo]
    assert "secret-9" not in json.dumps(answer)
    publish(place, "v2", builtin.digest, repo)
    loaded.watcher.scan()
    answer = (await with_code.ask("GET", PLACE, token)).json()
    assert answer["adapters"] == {repo: "v2"} and answer["not_served"] == {}


async def test_what_its_owner_may_have_is_written_down_for_training_and_kept_up_to_date(
    with_code: Served, indexed: Indexed
) -> None:
    runtime, repo = with_code.runtime, indexed.repository.id
    with changing(runtime.database, ADMIN) as change:
        ada, bob = (change.add_user(name, email=f"{name}@example.com") for name in ("ada", "bob"))
        change.grant(ada, repo)
    for name in ("ada", "bob"):
        await with_code.ask("PUT", PLACE, with_code.token(name))

    def written() -> dict[str, tuple[str, ...] | None]:
        return {wish.name: wish.may_have for wish in personal.wishes(data(with_code))}

    assert written() == {"ada": (repo,), "bob": ()}
    before = personal.wish_of(data(with_code), "ada")
    with changing(runtime.database, ADMIN) as change:
        change.revoke_grants(ada, repo)
        change.set_role(bob, "admin")
    rights.noting(runtime.settings, runtime.database, runtime.guarded)()
    assert written() == {"ada": (), "bob": (UNKNOWN, repo)}
    assert personal.wish_of(data(with_code), "ada") == replace(before, may_have=()), "it is the same wish"
    rights.noting(runtime.settings, runtime.database, lambda: ())()
    assert written()["bob"] == (UNKNOWN, repo), "a server that still loads knows nothing"
