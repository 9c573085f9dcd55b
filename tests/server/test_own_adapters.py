"""Somebody's own adapter is served to them and to nobody else, as long as they want it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homespun_core import personal, registry
from homespun_core.config import Settings
from homespun_core.paths import DataDir
from homespun_core.personal import Wish
from homespun_core.types import ModelFiles
from homespun_indexer.reader import IndexReader
from homespun_server.access.decisions import readable_by
from homespun_server.access.records import Person
from homespun_server.access.rights import may_have
from homespun_server.engine.torch_engine import TorchEngine
from homespun_server.live import LiveRepository, lent
from homespun_server.own_adapters import Owned, own_adapter, why_not_served
from homespun_trainer import own
from tests.server.access.test_decisions import person
from tests.server.conftest import Indexed
from tests.server.test_snapshots import MakeWatcher, data, make_watcher, publish  # noqa: F401

OWNED = {("u1", "shop-1"): Owned(adapter="+u1+shop-1/v1", on_top_of="shop-1/v7", saw=frozenset(("shop-1",)))}


@pytest.mark.parametrize(
    ("account", "repository", "everybodys", "readable", "is_served"),
    [
        ("u1", "shop-1", "shop-1/v7", None, True),
        ("u1", "shop-1", "shop-1/v7", {"shop-1"}, True),
        ("u2", "shop-1", "shop-1/v7", {"shop-1"}, False),
        (None, "shop-1", "shop-1/v7", None, False),
        ("u1", "web-2", "shop-1/v7", None, False),
        ("u1", "shop-1", "shop-1/v8", None, False),  # a newer one is live
        ("u1", "shop-1", None, None, False),  # the one below was rolled back, or may not be read
        ("u1", "shop-1", "shop-1/v7", {"web-2"}, False),  # they may not read it any more
    ],
)
def test_whose_it_is_and_when(
    account: str | None, repository: str, everybodys: str | None, readable: set[str] | None, is_served: bool
) -> None:
    found = own_adapter(OWNED, account, repository, everybodys, None if readable is None else frozenset(readable))
    assert (found is not None) is is_served


def test_one_that_does_not_say_what_it_saw_is_not_served() -> None:
    silent = {("u1", "shop-1"): Owned(adapter="x", on_top_of=None, saw=frozenset())}
    assert own_adapter(silent, "u1", "shop-1", None, None) is None


class Shop:
    """A watcher with everybody's adapter and Ada's on top of it."""

    def __init__(self, root: DataDir, make: MakeWatcher, indexed: Indexed, lora: Path, base: str) -> None:
        self.data, self.repo = root, indexed.repository.id
        self.below = publish(root.adapters(self.repo), lora, base=base, mark="a", saw=self.repo)
        personal.want(root, Wish(user="u1", name="ada", authors=("00",), since=1.0))
        self.id = personal.personal_id("u1", self.repo)
        version = registry.new_version("b" * 8)
        place = root.adapters(self.id)
        sources = {"base_model": base, "repositories": self.repo, "on_top_of": f"{self.repo}/{self.below}"}
        with registry.publish_adapter(place / version, fingerprint="b" * 8, sources=sources, report={}) as tmp:
            for file in ("adapter_config.json", "adapter_model.safetensors"):
                shutil.copy(lora / file, tmp / file)
        registry.promote(place, version)
        self.own = f"{self.id}/{version}"
        self.watcher = make()
        self.watcher.scan()

    def served(self, account: str | None) -> str | None:
        self.watcher.scan()
        (repository,) = self.watcher.repositories
        assert isinstance(repository, LiveRepository)
        return self.watcher.own_adapter(account, repository, None)


@pytest.fixture
def shop(
    data: DataDir,  # noqa: F811
    make_watcher: MakeWatcher,  # noqa: F811
    indexed: Indexed,
    make_lora: Callable[..., Path],
    builtin: ModelFiles,
    tmp_path: Path,
) -> Shop:
    return Shop(data, make_watcher, indexed, make_lora(Path(builtin.path), tmp_path / "lora"), builtin.digest)


def test_it_is_its_owners_and_no_repository_of_its_own(shop: Shop) -> None:
    assert shop.served("u1") == shop.own and shop.served("u2") is None and shop.served(None) is None
    assert [r.id for r in shop.watcher.repositories] == [shop.repo]
    assert [g.id for g in shop.watcher.guarded] == [shop.repo]
    assert [r.id for r in shop.watcher.visible_to(frozenset((shop.repo, shop.id)))] == [shop.repo]


def test_taken_back_it_is_gone_from_service_disk_and_memory(shop: Shop, engine: TorchEngine) -> None:
    assert shop.own in engine.adapters
    assert personal.take_back(shop.data, "u1") == [shop.repo]
    assert shop.served("u1") is None and not shop.data.adapters(shop.id).exists()
    shop.watcher.scan()
    assert shop.own not in engine.adapters


def test_without_the_wish_it_is_not_served_though_it_be_on_the_disk(shop: Shop) -> None:
    """Killed between the deletion of the wish and of the rest."""
    personal.wish_file(shop.data, "u1").unlink()
    assert shop.served("u1") is None and shop.data.adapters(shop.id).exists()


def test_when_the_adapter_below_is_rolled_back_it_is_not_served(shop: Shop) -> None:
    registry.rollback(shop.data.adapters(shop.repo), by="ann")
    assert shop.served("u1") is None


IDS = st.frozensets(st.sampled_from(["shop-1", "web-2", "api-3"]), min_size=1)
READER = cast(IndexReader, object())  # only whether there is one counts here


@settings(max_examples=30, deadline=None)
@given(
    live=st.dictionaries(st.sampled_from(["shop-1", "@x", "@y"]), IDS),
    readable=st.frozensets(st.sampled_from(["web-2", "api-3", "@x", "@y"])),
)
def test_it_is_trained_on_what_its_owner_is_served(
    live: dict[str, frozenset[str]], readable: frozenset[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The trainer stood it on the closest shared adapter, whoever its owner was: where that one is for a group, or saw
    what they may not read, theirs was trained, called live, and never served."""
    root, readable = DataDir(tmp_path_factory.mktemp("world")), readable | {"shop-1"}
    wish = Wish(user="u1", name="ada", authors=("00",), since=1.0, may_have=tuple(sorted(readable)))
    found = [LiveRepository(id=id, reader=READER) for id in ("web-2", "api-3")]
    for id in ("shop-1", "@x", "@y"):
        repository = LiveRepository(id=id, reader=READER if id == "shop-1" else None)
        if id in live:
            path = root.adapters(id) / "v1"
            sources = {"base_model": "base", "repositories": " ".join(live[id])}
            with registry.publish_adapter(path, fingerprint="f", sources=sources, report={}):
                pass
            registry.promote(path.parent, "v1")
            repository = replace(repository, adapter=f"{id}/v1", adapter_path=path, adapter_saw=live[id])
        found.append(repository)
    served, _ = lent(r for r in found if r.id in readable)
    everybodys = next(r.adapter for r in served if r.id == "shop-1")
    below = own.served(root, "shop-1", "base", wish)
    assert own.served_as(below.path if below else None) == (everybodys or "")
    saw = frozenset(("shop-1",)) | (below.repositories if below else frozenset())
    assert why_not_served(Owned(adapter="x", on_top_of=everybodys, saw=saw), everybodys, readable) is None


class Company:
    """Two repositories, an adapter that they share for one group, and whoever wants one of their own."""

    def __init__(self, root: DataDir, make: MakeWatcher, indexed: Indexed, lora: Path, base: str) -> None:
        self.data, self.repo, self._lora, self._base = root, indexed.repository.id, lora, base
        shutil.copytree(root.index(self.repo), root.index("web-2"))
        self.team = publish(root.adapters("@team"), lora, base=base, mark="a", saw=f"{self.repo} web-2")
        self.watcher = make(groups={"@team": frozenset(("core",))})
        self.watcher.scan()

    def wants(self, who: Person) -> Wish:
        """As a server writes it down."""
        wish = Wish(user=who.user.id, name="ada", authors=("00",), since=1.0)
        personal.want(self.data, replace(wish, may_have=may_have(who, self.watcher.guarded, SETTINGS)))
        return personal.wish_of(self.data, "ada")

    def trained_for(self, wish: Wish) -> str:
        """As the trainer publishes it. By its name in the engine."""
        below = own.served(self.data, self.repo, self._base, wish)
        place = self.data.adapters(personal.personal_id(wish.user, self.repo))
        saw = frozenset((self.repo,)) | (below.repositories if below else frozenset())
        version = registry.new_version("b" * 8, place)
        sources = {
            "base_model": self._base,
            "repositories": " ".join(saw),
            "on_top_of": own.served_as(below.path if below else None),
        }
        with registry.publish_adapter(place / version, fingerprint="b" * 8, sources=sources, report={}) as tmp:
            for file in ("adapter_config.json", "adapter_model.safetensors"):
                shutil.copy(self._lora / file, tmp / file)
        registry.promote(place, version)
        self.watcher.scan()
        return f"{place.name}/{version}"

    def readable(self, who: Person) -> frozenset[str] | None:
        return readable_by(who, self.watcher.guarded, True, 0.0)

    def served(self, who: Person, readable: frozenset[str] | None) -> str | None:
        repository = next(r for r in self.watcher.visible_to(readable) if r.id == self.repo)
        return self.watcher.own_adapter(who.user.id, repository, readable)


SETTINGS = Settings(default_access="everyone")


@pytest.fixture
def company(
    data: DataDir,  # noqa: F811
    make_watcher: MakeWatcher,  # noqa: F811
    indexed: Indexed,
    make_lora: Callable[..., Path],
    builtin: ModelFiles,
    tmp_path: Path,
) -> Company:
    return Company(data, make_watcher, indexed, make_lora(Path(builtin.path), tmp_path / "lora"), builtin.digest)


@pytest.mark.parametrize("is_in_the_group", [True, False])
def test_over_a_team_adapter_for_a_group_it_stands_on_what_its_owner_may_have(
    company: Company, is_in_the_group: bool
) -> None:
    ada = person(teams=("core",) if is_in_the_group else ())
    wish = company.wants(ada)
    made = company.trained_for(wish)
    on = registry.load_adapter(company.data.adapters("any").parent / made).on_top_of
    assert on == (f"@team/{company.team}" if is_in_the_group else None)
    assert company.served(ada, company.readable(ada)) == made
    assert company.watcher.why_not_own("u1", company.repo, company.readable(ada)) is None


def test_who_leaves_the_group_is_served_again_once_it_is_trained_again(company: Company) -> None:
    member, left = person(teams=("core",)), person()
    company.trained_for(company.wants(member))
    readable = company.readable(left)
    assert company.served(left, readable) is None
    why = company.watcher.why_not_own("u1", company.repo, readable)
    assert why is not None and "the base model" in why and "the next training is on that" in why
    personal.note_rights(company.data, "u1", may_have(left, company.watcher.guarded, SETTINGS))
    made = company.trained_for(personal.wish_of(company.data, "ada"))
    assert company.served(left, readable) == made


def test_who_may_not_read_one_of_the_teams_repositories_any_more_has_it_no_more_and_is_told_why(
    company: Company,
) -> None:
    ada = person(teams=("core",))
    made = company.trained_for(company.wants(ada))
    readable = company.readable(ada)
    assert readable is not None and company.served(ada, readable) == made
    assert company.served(ada, readable - {"web-2"}) is None
    why = company.watcher.why_not_own("u1", company.repo, readable - {"web-2"})
    assert why is not None and "that you may not read" in why and "web-2" not in why
    why = company.watcher.why_not_own("u1", company.repo, readable - {company.repo})
    assert why == "is for a repository that you may not read"


def test_one_that_the_server_cannot_load_is_said_not_to_be_served(company: Company) -> None:
    ada = person()
    company.wants(ada)
    why = company.watcher.why_not_own("u1", company.repo, company.readable(ada))
    assert why is not None and "can't be used by this server" in why
