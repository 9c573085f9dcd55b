"""Somebody's own adapter is served to them and to nobody else, as long as they want it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from homespun_core import personal, registry
from homespun_core.paths import DataDir
from homespun_core.personal import Wish
from homespun_core.types import ModelFiles
from homespun_server.engine.torch_engine import TorchEngine
from homespun_server.live import LiveRepository
from homespun_server.own_adapters import Owned, own_adapter
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
