"""The shadow beside real completions, with the real engine: nobody sees it, and it costs a set share of the time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from homespun_core.config import Settings
from homespun_core.errors import ModelError
from homespun_core.fim import FimFormat
from homespun_core.paths import DataDir
from homespun_core.types import CompletionRequest, ModelFiles, Tokenizer
from homespun_server.engine.torch_engine import TorchEngine
from homespun_server.live import LiveRepository
from homespun_server.metrics import Metrics
from homespun_server.services import Completer
from homespun_server.shadow import facts, shadowing
from homespun_server.shadow.shadowing import Shadow
from tests.server.test_services import PREFIX, Live

ASKED = CompletionRequest(
    prefix=PREFIX, suffix="\n", path="invoice.py", language="python", max_new_tokens=16, user="ada"
)
LIVE = LiveRepository(
    id="shop-1", name="shop", candidate="shop-1/v2", candidate_path=Path("v2"), candidate_saw=frozenset(("shop-1",))
)


class Scene:
    def __init__(self, engine: TorchEngine, tokenizer: Tokenizer, fim: FimFormat, data: DataDir) -> None:
        data.adapters("shop-1").mkdir(parents=True)
        self.data = data
        self.shadow = Shadow(engine, tokenizer, data, 100.0, share=1.0)
        self.completer = Completer(
            engine=engine,
            tokenizer=tokenizer,
            format=fim,
            repositories=Live((LIVE,)),
            settings=Settings(completion_deadline_ms=60_000),
            metrics=Metrics(),
            shadow=self.shadow,
        )

    async def ask(self, request: CompletionRequest = ASKED) -> str:
        made = await self.completer.complete(request, "id")
        await self.shadow.idle()
        self.shadow._free_at = 0.0
        return made.text

    @property
    def kept(self) -> list[facts.ShadowFact]:
        return facts.read(self.data.adapters("shop-1"), "v2", None)


@pytest.fixture
def scene(
    engine: TorchEngine,
    tokenizer: Tokenizer,
    fim: FimFormat,
    make_lora: Callable[..., Path],
    builtin: ModelFiles,
    tmp_path: Path,
) -> Iterator[Scene]:
    engine.load_adapter("shop-1/v2", make_lora(Path(builtin.path), tmp_path / "lora", strength=0.2))
    made = Scene(engine, tokenizer, fim, DataDir(tmp_path / "data"))
    yield made
    made.completer.close()
    if "shop-1/v2" in engine.adapters:
        engine.unload_adapter("shop-1/v2")


async def test_both_are_held_against_what_was_written_and_the_user_sees_the_live_one(scene: Scene) -> None:
    shown = await scene.ask()
    line = shown.partition("\n")[0].rstrip()
    again = await scene.ask(replace(ASKED, prefix=PREFIX + line + "\n"))
    (fact,) = scene.kept
    assert fact.candidate == "v2" and fact.champion is None and not fact.failed
    assert fact.written is not None and fact.written.champion_right and fact.written.bytes == len(line.encode())
    assert fact.written.champion_bits != fact.written.candidate_bits
    assert fact.champion_ms is not None and fact.candidate_ms is not None
    alone = replace(LIVE, candidate=None)
    scene.completer._repositories = scene.completer._attempts._repositories = Live((alone,))
    assert (shown, again) == (await scene.ask(), await scene.ask(replace(ASKED, prefix=PREFIX + line + "\n")))


async def test_nothing_of_the_code_is_on_the_disk(scene: Scene) -> None:
    await scene.ask()
    await scene.ask(replace(ASKED, prefix=PREFIX + "unmistakable\n"))
    text = (scene.data.adapters("shop-1") / facts.FILE).read_text()
    assert "unmistakable" not in text and "session" not in text and "ada" not in text


async def test_a_candidate_that_fails_is_noted_and_the_user_does_not_notice(
    scene: Scene, engine: TorchEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit = engine.submit

    def failing(request: object) -> object:
        if getattr(request, "adapter", None) == "shop-1/v2":
            raise ModelError("its weights are broken")
        return submit(request)  # type: ignore[arg-type]

    monkeypatch.setattr(engine, "submit", failing)
    assert await scene.ask()
    assert [fact.failed for fact in scene.kept] == [True]


async def test_after_each_one_it_pauses(scene: Scene) -> None:
    scene.shadow._pause = 1_000.0
    await scene.completer.complete(ASKED, "1")
    await scene.shadow.idle()
    await scene.completer.complete(replace(ASKED, path="other.py"), "2")
    assert scene.shadow._task is None and len(scene.shadow._places) == 1


async def test_while_somebody_waits_nothing_is_done(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Shadow, "_is_idle", lambda self: False)
    await scene.ask()
    assert not scene.shadow._places and not scene.kept


async def test_only_a_share_of_the_places_is_taken(scene: Scene) -> None:
    scene.shadow._percent = 0.0
    await scene.ask()
    assert not scene.shadow._places


async def test_places_that_nobody_comes_back_to_are_kept_without_what_was_written(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    await scene.ask()
    monkeypatch.setattr(shadowing, "_MAX_AGE_S", -1.0)
    scene.shadow._expire()
    for _ in range(100):
        if scene.kept:
            break
        await asyncio.sleep(0.02)
    assert [fact.written for fact in scene.kept] == [None] and not scene.shadow._places
