from __future__ import annotations

import json
import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from homespun_core import nudges, registry, storage
from homespun_core.paths import DataDir
from homespun_core.types import ModelFiles, SearchQuery, Tokenizer
from homespun_server.access.guarding import AdapterGroups
from homespun_server.engine.torch_engine import TorchEngine
from homespun_server.live import LiveRepository, pick
from homespun_server.snapshots import SnapshotWatcher
from tests.server.conftest import Indexed

MakeWatcher = Callable[..., SnapshotWatcher]


@pytest.fixture
def data(indexed: Indexed, tmp_path: Path) -> DataDir:
    """A data directory of its own with the index in it."""
    shutil.copytree(indexed.data.index_root, tmp_path / "data" / "index")
    return DataDir(tmp_path / "data")


@pytest.fixture
def make_watcher(
    data: DataDir, tokenizer: Tokenizer, engine: TorchEngine, builtin: ModelFiles
) -> Iterator[MakeWatcher]:
    made: list[SnapshotWatcher] = []

    def make(
        canary_percent: float = 0.0, asked: list[str] | None = None, groups: AdapterGroups | None = None
    ) -> SnapshotWatcher:
        watcher = SnapshotWatcher(
            data,
            tokenizer=tokenizer,
            engine=engine,
            base_digest=builtin.digest,
            canary_percent=canary_percent,
            ask_for_index=None if asked is None else asked.append,
            adapter_groups=groups,
            poll_s=0.02,
            grace_s=0.0,
        )
        made.append(watcher)
        return watcher

    yield make
    for watcher in made:
        watcher.close()
    for name in engine.adapters:
        engine.unload_adapter(name)


def publish(adapters: Path, lora: Path, *, base: str, mark: str, live: bool = True, saw: str = "") -> str:
    version = registry.new_version(mark * 8)
    with registry.publish_adapter(
        adapters / version, fingerprint=mark * 8, sources={"base_model": base, "repositories": saw}, report={}
    ) as tmp:
        for file in ("adapter_config.json", "adapter_model.safetensors"):
            shutil.copy(lora / file, tmp / file)
    if live:
        registry.promote(adapters, version)
    return version


def _only(watcher: SnapshotWatcher) -> LiveRepository:
    (repository,) = watcher.repositories
    return repository


def _segment(snapshot: Path) -> Path:
    (segment,) = (path for path in snapshot.iterdir() if path.suffix != ".json")
    return segment


def test_what_is_there_at_start_is_live_and_can_be_searched(make_watcher: MakeWatcher, indexed: Indexed) -> None:
    watcher = make_watcher()
    watcher.scan()
    live = _only(watcher)
    assert live.name == "loom" and live.identity == str(indexed.work_tree)
    assert live.state()["commit"] == indexed.repository.head and live.adapter is None
    assert live.reader is not None
    query = SearchQuery(prefix='with span("invoice.find_by_customer")', suffix="", path="new.py", language="python")
    assert any("span(" in snippet.text for snippet in live.reader.search(query, 3))


def test_a_shared_adapter_is_lent_until_there_is_an_own_one(
    make_watcher: MakeWatcher,
    data: DataDir,
    indexed: Indexed,
    make_lora: Callable[..., Path],
    builtin: ModelFiles,
    engine: TorchEngine,
    tmp_path: Path,
) -> None:
    repo, lora = indexed.repository.id, make_lora(Path(builtin.path), tmp_path / "lora")
    shared = publish(data.adapters("@team"), lora, base=builtin.digest, mark="a", saw=repo)
    watcher = make_watcher()
    watcher.scan()
    assert _only(watcher).adapter == f"@team/{shared}" and watcher.problems == []
    own = publish(data.adapters(repo), lora, base=builtin.digest, mark="b", saw=repo)
    watcher.scan()
    assert _only(watcher).adapter == f"{repo}/{own}"
    assert f"@team/{shared}" in engine.adapters  # for the others
    registry.rollback(data.adapters(repo), by="ann")
    watcher.scan()
    assert _only(watcher).adapter == f"@team/{shared}"
    registry.retire(data.adapters("@team"), [shared], by="ann")
    watcher.scan()
    assert _only(watcher).adapter is None


def test_a_shared_adapter_that_saw_more_than_is_here_is_not_served_and_says_why(
    make_watcher: MakeWatcher,
    data: DataDir,
    indexed: Indexed,
    make_lora: Callable[..., Path],
    builtin: ModelFiles,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    lora, saw = make_lora(Path(builtin.path), tmp_path / "lora"), f"{indexed.repository.id} secret-1"
    publish(data.adapters("@team"), lora, base=builtin.digest, mark="a", saw=saw)
    watcher = make_watcher()
    with caplog.at_level(logging.WARNING):
        watcher.scan()
        watcher.scan()
    assert _only(watcher).adapter is None
    (why,) = watcher.problems
    assert "trained on secret-1" in why and caplog.text.count("is not served") == 1


def test_a_new_generation_goes_live_while_the_old_one_is_in_use(
    make_watcher: MakeWatcher, data: DataDir, indexed: Indexed
) -> None:
    watcher = make_watcher()
    watcher.start()
    old = _only(watcher)
    (indexed.work_tree / "extra.py").write_text("def brand_new_function() -> int:\n    return 1\n")
    try:
        indexed.build(data)
        _wait_until(lambda: _only(watcher).index_path != old.index_path)
    finally:
        (indexed.work_tree / "extra.py").unlink()
    assert _only(watcher).reader is not old.reader


def test_a_damaged_index_is_logged_once_and_the_old_one_keeps_serving(
    make_watcher: MakeWatcher, data: DataDir, caplog: pytest.LogCaptureFixture
) -> None:
    watcher = make_watcher()
    watcher.scan()
    old = _only(watcher)
    assert old.index_path is not None
    broken = shutil.copytree(old.index_path, old.index_path.parent / "0123456789abcdef")
    (broken / "segments.json").write_bytes(b"[]")  # segments themselves are shared with the reader that has them open
    storage.set_current(broken.parent, broken.name)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            watcher.scan()
    assert _only(watcher).reader is old.reader
    (warning,) = caplog.messages
    assert "segments.json" in warning and "damaged" in warning and "\n" not in warning
    assert len(watcher.problems) == 1


def test_an_index_that_is_built_again_after_damage_goes_live(make_watcher: MakeWatcher, data: DataDir) -> None:
    (index,) = data.index_root.iterdir()
    good = storage.current(index)
    assert good is not None
    whole = _segment(good).read_bytes()
    _segment(good).write_bytes(b"x")
    watcher = make_watcher()
    watcher.scan()
    assert watcher.repositories == () and watcher.problems
    _segment(good).write_bytes(whole)
    manifest = good / storage.MANIFEST
    manifest.write_text(manifest.read_text() + "\n")  # written again, as a new build does
    watcher.scan()
    assert _only(watcher).reader is not None and not watcher.problems


def test_an_adapter_goes_live_is_replaced_rolled_back_and_withdrawn(
    make_watcher: MakeWatcher,
    data: DataDir,
    engine: TorchEngine,
    builtin: ModelFiles,
    tmp_path: Path,
    make_lora: Callable[..., Path],
) -> None:
    watcher = make_watcher()
    watcher.scan()
    repo = _only(watcher).id
    adapters, lora = data.adapters(repo), make_lora(Path(builtin.path), tmp_path / "lora")
    first = publish(adapters, lora, base=builtin.digest, mark="a")
    watcher.scan()
    assert _only(watcher).adapter == f"{repo}/{first}" and _only(watcher).reader is not None
    second = publish(adapters, lora, base=builtin.digest, mark="b")
    watcher.scan()
    assert _only(watcher).adapter == f"{repo}/{second}"
    registry.rollback(adapters, by="ann")
    watcher.scan()
    watcher.scan()
    assert _only(watcher).adapter == f"{repo}/{first}" and engine.adapters == {f"{repo}/{first}"}
    registry.rollback(adapters, by="ann")
    watcher.scan()
    watcher.scan()
    assert _only(watcher).adapter is None and engine.adapters == frozenset()


def test_a_candidate_is_loaded_beside_the_live_adapter_and_gone_at_once_when_rejected(
    make_watcher: MakeWatcher,
    data: DataDir,
    engine: TorchEngine,
    builtin: ModelFiles,
    tmp_path: Path,
    make_lora: Callable[..., Path],
) -> None:
    watcher = make_watcher(canary_percent=25.0)
    watcher.scan()
    repo = _only(watcher).id
    adapters, lora = data.adapters(repo), make_lora(Path(builtin.path), tmp_path / "lora")
    first = publish(adapters, lora, base=builtin.digest, mark="a")
    second = publish(adapters, lora, base=builtin.digest, mark="b", live=False)
    registry.offer(adapters, second, "manual")
    watcher.scan()
    both = {f"{repo}/{first}", f"{repo}/{second}"}
    assert _only(watcher).adapters == engine.adapters == both
    assert {_only(watcher).adapter_for(f"user {i}") for i in range(100)} == both
    assert _only(watcher).state()["candidate"] == second
    registry.reject(adapters, by="ada")
    watcher.scan()
    assert {_only(watcher).adapter_for(f"user {i}") for i in range(100)} == {f"{repo}/{first}"}
    watcher.scan()
    assert engine.adapters == {f"{repo}/{first}"}


def test_an_approved_candidate_is_everybodys_and_stays_loaded(
    make_watcher: MakeWatcher,
    data: DataDir,
    engine: TorchEngine,
    builtin: ModelFiles,
    tmp_path: Path,
    make_lora: Callable[..., Path],
) -> None:
    watcher = make_watcher(canary_percent=25.0)
    watcher.scan()
    repo = _only(watcher).id
    adapters, lora = data.adapters(repo), make_lora(Path(builtin.path), tmp_path / "lora")
    version = publish(adapters, lora, base=builtin.digest, mark="a", live=False)
    registry.offer(adapters, version, "manual")
    watcher.scan()
    assert _only(watcher).adapter is None and _only(watcher).candidate == f"{repo}/{version}"
    registry.approve(adapters, by="ada")
    watcher.scan()
    watcher.scan()
    assert _only(watcher).adapter_for(None) == f"{repo}/{version}" and _only(watcher).candidate is None
    assert engine.adapters == {f"{repo}/{version}"}


def test_without_a_share_a_candidate_is_nobodys(
    make_watcher: MakeWatcher, data: DataDir, builtin: ModelFiles, tmp_path: Path, make_lora: Callable[..., Path]
) -> None:
    watcher = make_watcher()
    watcher.scan()
    adapters, lora = data.adapters(_only(watcher).id), make_lora(Path(builtin.path), tmp_path / "lora")
    registry.offer(adapters, publish(adapters, lora, base=builtin.digest, mark="a", live=False), "manual")
    watcher.scan()
    assert not _only(watcher).adapters


def test_an_adapter_of_another_base_model_is_not_loaded(
    make_watcher: MakeWatcher, data: DataDir, builtin: ModelFiles, tmp_path: Path, make_lora: Callable[..., Path]
) -> None:
    watcher = make_watcher()
    watcher.scan()
    lora = make_lora(Path(builtin.path), tmp_path / "lora")
    publish(data.adapters(_only(watcher).id), lora, base="0" * 64, mark="c")
    watcher.scan()
    assert _only(watcher).adapter is None
    assert "another base model" in watcher.problems[0]


def test_a_repository_that_was_removed_is_no_longer_served(make_watcher: MakeWatcher, data: DataDir) -> None:
    watcher = make_watcher()
    watcher.scan()
    shutil.rmtree(data.index_root)
    watcher.scan()
    assert watcher.repositories == ()


def test_nothing_published_is_fine(make_watcher: MakeWatcher, data: DataDir) -> None:
    shutil.rmtree(data.root)
    watcher = make_watcher()
    watcher.start()
    assert watcher.repositories == () and watcher.index_age_s() is None


LOOM = LiveRepository(
    id="loom-1", identity="/src/loom", name="loom", remotes=frozenset(["git.example.com/loomworks/loom"])
)
OTHER = LiveRepository(id="other-2", identity="git.example.com/a/other", name="other")
TWIN = LiveRepository(id="loom-3", identity="/src/copy/loom", name="loom")


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("loom", LOOM),
        ("/src/loom", LOOM),
        ("file:///src/loom/", LOOM),
        ("git@git.example.com:loomworks/loom.git", LOOM),
        ("https://user:secret@git.example.com/loomworks/loom", LOOM),
        ("https://git.example.com/a/other.git", OTHER),
        ("nothing-like-it", None),
        ("~nobody/x", None),
        ("a\0b", None),
        (None, None),
        ("", None),
    ],
)
def test_a_repository_is_known_by_name_path_and_remote(wanted: str | None, expected: LiveRepository | None) -> None:
    assert pick([LOOM, OTHER], wanted) is expected


@pytest.mark.parametrize("wanted", ["~root/x", "/a/../" * 100, "/src/" + "loom/" * 400_000])
def test_what_a_client_says_is_not_looked_for_on_this_disk(wanted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Following links takes the square of a path's length, and nobody else is served meanwhile."""
    for method in ("expanduser", "resolve"):
        monkeypatch.setattr(Path, method, lambda path: pytest.fail(f"looked for {str(path)[:20]}"))
    assert pick([LOOM, OTHER], wanted) is None


def test_a_name_of_any_length_is_nobodys() -> None:
    long = replace(LOOM, name="x" * 1_001)
    assert pick([long, OTHER], long.name) is None


def test_the_only_repository_serves_clients_that_name_none_and_unknown_or_ambiguous_names_get_none() -> None:
    assert pick([LOOM], None) is LOOM and pick([LOOM], "unknown") is None
    assert pick([LOOM, TWIN], "loom") is None and pick([LOOM, TWIN], "/src/copy/loom") is TWIN
    assert pick([], "loom") is None


def _wait_until(is_true: Callable[[], bool], timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size - 1)


def _flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("damage", [_cut, _flip])
def test_where_the_current_index_is_damaged_at_start_the_one_before_serves_and_another_is_asked_for(
    make_watcher: MakeWatcher, data: DataDir, damage: Callable[[Path], None]
) -> None:
    (index,) = data.index_root.iterdir()
    good, asked = storage.current(index), list[str]()
    assert good is not None
    broken = shutil.copytree(good, index / "0123456789abcdef")
    damage(_segment(broken))
    storage.set_current(index, broken.name)
    watcher = make_watcher(asked=asked)
    watcher.scan()
    watcher.scan()
    assert _only(watcher).index_path == good and len(watcher.problems) == 1
    assert nudges.stamp(data, index.name) is not None and asked == [index.name]
    with nudges.reading(data, index.name):  # whoever watches it builds it again without a job
        make_watcher(asked=asked).scan()
    assert asked == [index.name]
    manifest = json.loads((good / storage.MANIFEST).read_text())
    manifest["sources"]["groups"] = "others"
    (good / storage.MANIFEST).write_text(json.dumps(manifest))
    strict = make_watcher()
    strict.scan()
    assert strict.repositories == ()


def _nan(lora: Path) -> None:
    file = lora / "adapter_model.safetensors"
    save_file({name: torch.full_like(tensor, torch.nan) for name, tensor in load_file(file).items()}, file)


def _other_rank(lora: Path) -> None:
    config = lora / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"r": 2}))


@pytest.mark.parametrize("is_at_start", [True, False], ids=["at start", "while serving"])
@pytest.mark.parametrize(
    ("before", "after", "why"),
    [
        (None, _flip, "damaged"),
        (None, _cut, "damaged"),
        (_nan, None, "NaN|finite"),
        (_other_rank, None, "shape"),
    ],
    ids=["a flipped bit", "cut off", "no numbers", "another rank"],
)
def test_an_adapter_that_cannot_be_served_leaves_the_champion_before_in_its_place(
    make_watcher: MakeWatcher,
    data: DataDir,
    builtin: ModelFiles,
    engine: TorchEngine,
    tmp_path: Path,
    make_lora: Callable[..., Path],
    before: Callable[[Path], None] | None,
    after: Callable[[Path], None] | None,
    why: str,
    is_at_start: bool,
) -> None:
    """What was damaged before it was published has the checksums that its manifest says: the engine refuses it."""
    lora = make_lora(Path(builtin.path), tmp_path / "lora")
    (repo,) = (path.name for path in data.index_root.iterdir())
    first = publish(data.adapters(repo), lora, base=builtin.digest, mark="a")
    watcher = make_watcher()
    if not is_at_start:
        watcher.scan()
    if before is not None:
        before(lora)
    second = publish(data.adapters(repo), lora, base=builtin.digest, mark="b")
    if after is not None:
        after(data.adapters(repo) / second / "adapter_model.safetensors")
    watcher.scan()
    live = _only(watcher)
    assert live.adapter == f"{repo}/{first}" and engine.adapters == {live.adapter}
    (problem,) = watcher.problems
    assert re.search(why, problem) and "\n" not in problem
    watcher.scan()
    assert _only(watcher) == live
