"""A whole rollout: the real server in process, two adapters, users who ask over HTTP and say what became of it."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx
import pytest

from homespun_core import registry
from homespun_core.aliases import MANUAL
from homespun_core.config import Settings
from homespun_core.outcomes import Outcome
from homespun_core.paths import DataDir
from homespun_core.types import ModelFiles
from homespun_server.feedback.store import FeedbackStore
from homespun_server.rollout.arms import is_in_share
from homespun_server.rollout.follower import RolloutFollower
from homespun_server.rollout.stages import Limits
from homespun_server.snapshots import SnapshotWatcher
from tests.server.test_http import BODY, Started

REPO, CANARY_PERCENT, TURNS = "shop-1a2b3c4d", 40.0, 3
USERS = [f"user {i}" for i in range(48)]
MakeLora = Callable[..., Path]


def _publish(place: Path, version: str, lora: Path, base: str) -> None:
    with registry.publish_adapter(
        place / version, fingerprint=version, sources={"base_model": base}, report={}
    ) as folder:
        for file in ("adapter_config.json", "adapter_model.safetensors"):
            shutil.copy(lora / file, folder / file)


@pytest.fixture
def place(tmp_path: Path, builtin: ModelFiles, make_lora: MakeLora) -> Path:
    place = DataDir(tmp_path / "data").adapters(REPO)
    for seed, version in enumerate(("v1", "v2")):
        _publish(place, version, make_lora(Path(builtin.path), tmp_path / version, seed=seed), builtin.digest)
    registry.promote(place, "v1")
    registry.offer(place, "v2", MANUAL)
    return place


def _version(user: str, percent: float) -> str:
    return "v2" if is_in_share(user, f"{REPO}/v2", percent) else "v1"


async def _ask(client: httpx.AsyncClient, user: str) -> str:
    """As an editor's run (`client`) of a person (`user`): it is the person who counts."""
    extra = {"repo": REPO, "user": user, "client": f"{user}'s editor {time.monotonic_ns()}"}
    body = BODY | {"max_tokens": 2, "homespun": extra}
    return str((await client.post("/v1/completions", json=body)).json()["id"])


async def _work(client: httpx.AsyncClient, percent: float, accepted: dict[str, int]) -> None:
    """Each user asks `TURNS` times, and takes the first so many of an adapter; every fourth user one less."""
    events = []
    for number, user in enumerate(USERS):
        for turn in range(TURNS):
            id = await _ask(client, user)
            if turn < accepted[_version(user, percent)] - (number % 4 == 0):
                events.append({"completion": id, "kind": "accepted", "characters": 1})
    assert (await client.post("/v1/homespun/events", json={"events": events})).status_code == 200


async def _written(store: FeedbackStore, since: float, number: int, num_accepted: int) -> Sequence[Outcome]:
    while True:
        found = store.outcomes(REPO, since, time.time() + 1)
        if len(found) == number and sum(o.is_accepted for o in found) == num_accepted:
            return found
        await asyncio.sleep(0.05)


async def _served(client: httpx.AsyncClient, candidate: str | None) -> None:
    while True:
        if (await client.get("/readyz")).json()["repositories"][0]["candidate"] == candidate:
            return
        await asyncio.sleep(0.05)


async def _shared(watcher: SnapshotWatcher, percent: float) -> None:
    while True:
        if watcher.repositories[0].canary_percent == percent:
            return
        await asyncio.sleep(0.05)


def _num_accepted(percent: float, accepted: dict[str, int]) -> int:
    return sum(max(0, accepted[_version(user, percent)] - (n % 4 == 0)) for n, user in enumerate(USERS))


async def test_a_candidate_goes_to_its_share_then_to_half_and_is_gone_at_once_when_users_lose_by_it(
    builtin: ModelFiles, tmp_path: Path, place: Path
) -> None:
    settings = Settings(
        data_dir=str(tmp_path / "data"), canary_percent=CANARY_PERCENT, completion_deadline_ms=60_000, target_ms=60_000
    )
    started = Started(settings, builtin)
    assert started.loaded.wait(60) and started.runtime.loaded and started.runtime.recorder
    assert started.runtime.rollout is None
    store, watcher = started.runtime.recorder.store, started.runtime.loaded.watcher
    limits = Limits(min_days=0.0, min_outcomes=20, settled_s=0.0)
    follower = RolloutFollower(
        DataDir(tmp_path / "data"), store, canary_percent=CANARY_PERCENT, watch_days=7, limits=limits
    )
    async with started.client() as client:
        await _served(client, "v2")
        began = time.time()
        follower.look()
        same, worse = {"v1": 2, "v2": 2}, {"v1": 3, "v2": 1}
        await _work(client, CANARY_PERCENT, same)
        first = await _written(store, began, len(USERS) * TURNS, _num_accepted(CANARY_PERCENT, same))
        assert {(o.user, o.adapter) for o in first} == {(user, _version(user, CANARY_PERCENT)) for user in USERS}
        follower.look()
        await _shared(watcher, 50.0)
        widened = time.time()
        await _work(client, 50.0, worse)
        second = await _written(store, widened, len(USERS) * TURNS, _num_accepted(50.0, worse))
        assert {(o.user, o.adapter) for o in second} == {(user, _version(user, 50.0)) for user in USERS}
        follower.look()
        assert registry.history(place)[-1].what == "reject" and registry.history(place)[-1].by == "rollout"
        await _served(client, None)
        rejected = time.time()
        for user in USERS:
            await _ask(client, user)
        last = await _written(store, rejected, len(USERS), 0)
        assert {o.adapter for o in last} == {"v1"}
    started.runtime.close()


def test_the_server_decides_by_itself_only_where_that_is_wanted_and_possible(
    builtin: ModelFiles, tmp_path: Path
) -> None:
    started = Started(Settings(data_dir=str(tmp_path), rollout="automatic"), builtin)
    assert started.loaded.wait(60) and started.runtime.rollout is not None
    started.runtime.close()
    blind = Started(Settings(data_dir=str(tmp_path), rollout="automatic", feedback_days=0), builtin)
    assert blind.loaded.wait(60)
    assert blind.runtime.error is not None and "feedback_days" in blind.runtime.error
    blind.runtime.close()
