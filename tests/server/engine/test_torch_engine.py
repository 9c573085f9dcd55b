from __future__ import annotations

import asyncio
import json
import random
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from homespun_core.errors import ModelError, ServiceError
from homespun_server.engine import torch_engine
from homespun_server.engine.budget import StepCosts
from homespun_server.engine.jobs import EngineStream
from homespun_server.engine.protocol import Draft, Drafter, EngineBusyError, EngineRequest, Tree
from homespun_server.engine.torch_engine import TorchEngine
from tests.server.engine.hash_decoder import FLAT, HashSource, plain, wait_until

IDS = [5, 9, 2, 33, 7]


@pytest.fixture
def small(tiny_models: dict[str, Path]) -> Iterator[TorchEngine]:
    """It runs one request at a time, so that others have to wait."""
    engine = TorchEngine(tiny_models["llama"], dtype="float32", device="cpu", max_queue=2, max_running=1, costs=FLAT)
    yield engine
    engine.close()


class Chain:
    """A drafter that knows what comes, or thinks so."""

    def __init__(self, ids: Sequence[int] = (), before: Callable[[], None] = lambda: None) -> None:
        self._ids, self._before = ids, before

    def propose(self, max_nodes: int, min_chance: float) -> Tree:
        self._before()
        ids = tuple(self._ids[:max_nodes])
        return Tree(ids, tuple(range(-1, len(ids) - 1)))

    def extend(self, ids: Sequence[int]) -> None:
        self._ids = self._ids[len(ids) :]


class Gate:
    """A drafter that holds the engine's thread until it is opened, and counts how often it was asked."""

    def __init__(self) -> None:
        self.reached, self.opened = threading.Event(), threading.Event()
        self.num_asked = 0

    def __call__(self, ids: Sequence[int]) -> Drafter:
        return Chain(before=self._wait)

    def _wait(self) -> None:
        self.num_asked += 1
        self.reached.set()
        assert self.opened.wait(20)


def _noting(order: list[str], name: str) -> Draft:
    return lambda ids: Chain(before=lambda: order.append(name))


async def _reached(gate: Gate) -> None:
    await asyncio.to_thread(gate.reached.wait, 20)


def _request(**changes: object) -> EngineRequest:
    options: dict[str, object] = {"ids": IDS, "max_new_tokens": 8}
    return EngineRequest(**(options | changes))  # type: ignore[arg-type]


async def test_a_stream_yields_what_generate_returns(small: TorchEngine) -> None:
    stream = small.submit(_request())
    tokens = [token async for token in stream]
    again = await asyncio.to_thread(small.generate, _request())
    assert [t.id for t in tokens] == [t.id for t in again.tokens]
    assert [t.logprob for t in tokens] == pytest.approx([t.logprob for t in again.tokens], abs=1e-4)
    assert stream.stats.finish_reason == "length" and stream.stats.completion_tokens == 8


def test_an_end_id_ends_the_completion_and_is_not_part_of_it(small: TorchEngine) -> None:
    plain = [t.id for t in small.generate(_request()).tokens]
    end = plain[3]
    generation = small.generate(_request(end_ids=frozenset([end])))
    assert [t.id for t in generation.tokens] == plain[: plain.index(end)]
    assert generation.stats.finish_reason == "stop"
    drafted = small.generate(_request(end_ids=frozenset([end]), draft=lambda ids: Chain(plain)))
    assert [t.id for t in drafted.tokens] == [t.id for t in generation.tokens]


def test_a_deadline_ends_the_completion_with_what_it_has(small: TorchEngine) -> None:
    deadline = time.monotonic() + 0.2

    slow = Chain(before=lambda: time.sleep(0.05))
    generation = small.generate(_request(max_new_tokens=200, deadline=deadline, draft=lambda ids: slow))
    assert generation.stats.finish_reason == "deadline"
    assert 1 <= len(generation.tokens) < 200


def test_a_deadline_that_has_passed_gives_an_empty_completion(small: TorchEngine) -> None:
    generation = small.generate(_request(deadline=time.monotonic() - 1))
    assert generation.tokens == () and generation.stats.finish_reason == "deadline"


async def test_closing_a_stream_ends_the_work_at_the_next_step(small: TorchEngine) -> None:
    gate = Gate()
    stream = small.submit(_request(max_new_tokens=200, draft=gate))
    await _reached(gate)
    await stream.aclose()
    gate.opened.set()
    await asyncio.to_thread(small.generate, _request())
    assert stream.stats.finish_reason == "cancelled"
    assert gate.num_asked == 1
    assert [token async for token in stream] == []


async def test_a_full_queue_is_refused_and_cancelled_requests_dont_fill_it(small: TorchEngine) -> None:
    gate = Gate()
    running = small.submit(_request(draft=gate))
    await _reached(gate)
    waiting = [small.submit(_request()) for _ in range(2)]
    assert small.num_waiting == 2
    with pytest.raises(EngineBusyError) as refused:
        small.submit(_request())
    assert refused.value.retry_after_s >= 1
    await waiting[0].aclose()
    small.submit(_request())
    gate.opened.set()
    assert len([token async for token in running]) == 8


async def test_the_earliest_deadline_goes_first(small: TorchEngine) -> None:
    gate, order = Gate(), list[str]()
    running = small.submit(_request(draft=gate))
    await _reached(gate)
    now = time.monotonic()
    late = small.submit(_request(ids=[1], deadline=now + 60, draft=_noting(order, "late")))
    early = small.submit(_request(ids=[2], deadline=now + 50, draft=_noting(order, "early")))
    gate.opened.set()
    for stream in (running, late, early):
        assert [token async for token in stream]
    assert order[0] == "early" and order[-1] == "late"


def test_a_prompt_that_does_not_fit_is_refused_with_both_numbers(small: TorchEngine) -> None:
    with pytest.raises(ModelError, match=r"258 tokens .* 256"):
        small.generate(_request(ids=[1] * 250))
    assert small.generate(_request(ids=[1] * 248)).stats.completion_tokens == 8


def test_a_failing_drafter_costs_the_drafts_only(small: TorchEngine, caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> None:
        raise IndexError("no such place")

    def never(ids: Sequence[int]) -> Drafter:
        raise IndexError("no such text")

    plain = small.generate(_request(tenant="plain"))
    drafts: list[Draft] = [never, lambda ids: Chain(before=broken)]
    for number, draft in enumerate(drafts):
        drafted = small.generate(_request(draft=draft, tenant=str(number)))
        assert [t.id for t in drafted.tokens] == [t.id for t in plain.tokens]
    assert caplog.text.count("IndexError") == 2


def test_many_threads_may_call_at_once(tiny_models: dict[str, Path]) -> None:
    engine = TorchEngine(tiny_models["llama"], dtype="float32", device="cpu", max_queue=64)
    expected = [t.id for t in engine.generate(_request()).tokens]
    results: list[list[int]] = []

    def ask() -> None:
        results.append([t.id for t in engine.generate(_request()).tokens])

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [expected] * 16
    engine.close()


async def test_closing_the_engine_ends_what_runs_and_refuses_what_comes(tiny_models: dict[str, Path]) -> None:
    engine, gate = TorchEngine(tiny_models["llama"], dtype="float32", device="cpu", max_running=1, costs=FLAT), Gate()
    running, waiting = engine.submit(_request(max_new_tokens=200, draft=gate)), engine.submit(_request())
    await _reached(gate)
    closing = asyncio.create_task(asyncio.to_thread(engine.close))
    gate.opened.set()
    assert len([token async for token in running]) < 200
    with pytest.raises(ServiceError, match="shut down"):
        await anext(waiting)
    await closing
    with pytest.raises(ServiceError, match="shut down"):
        engine.submit(_request())


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path: (path / "model.safetensors").write_bytes(b"nothing"), "can't be loaded"),
        (lambda path: (path / "model.safetensors").rename(path / "pytorch_model.bin"), "can't be loaded"),
        (lambda path: (path / "config.json").write_text("{"), "can't be read"),
        (lambda path: (path / "config.json").unlink(), "can't be read"),
    ],
)
def test_a_damaged_model_is_refused_in_one_line(
    tiny_models: dict[str, Path], tmp_path: Path, damage: Callable[[Path], object], reason: str
) -> None:
    path = shutil.copytree(tiny_models["llama"], tmp_path / "model")
    damage(path)
    with pytest.raises(ModelError, match=reason) as raised:
        TorchEngine(path, device="cpu")
    assert "\n" not in str(raised.value)


def test_a_model_that_wants_to_run_its_own_code_is_refused(tiny_models: dict[str, Path], tmp_path: Path) -> None:
    path = shutil.copytree(tiny_models["llama"], tmp_path / "model")
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoModelForCausalLM": "modeling.Model"}}))
    with pytest.raises(ModelError, match="own code"):
        TorchEngine(path, device="cpu")


def test_bfloat16_runs(tiny_models: dict[str, Path]) -> None:
    engine = TorchEngine(tiny_models["llama"], dtype="bfloat16", device="cpu")
    assert engine.dtype == "bfloat16" and len(engine.generate(_request()).tokens) == 8
    engine.close()


async def test_a_newer_request_of_a_client_ends_its_older_one(small: TorchEngine) -> None:
    gate = Gate()
    older = small.submit(_request(max_new_tokens=200, draft=gate, client="editor"))
    await _reached(gate)
    newer = small.submit(_request(client="editor"))
    gate.opened.set()
    assert len([token async for token in older]) < 200 and older.stats.finish_reason == "superseded"
    assert len([token async for token in newer]) == 8


def test_filling_the_cache_gives_no_tokens_and_saves_the_prompt(small: TorchEngine) -> None:
    filled = small.generate(_request(max_new_tokens=0, priority="warm"))
    assert filled.tokens == () and filled.stats.finish_reason == "length"
    assert small.generate(_request()).stats.cached_tokens == len(IDS) - 1


def test_work_for_an_event_loop_that_is_gone_ends() -> None:
    source = HashSource()
    engine = TorchEngine(Path(), source=source, costs=FLAT)
    source.made[0].before = lambda batch: time.sleep(0.002)

    async def ask_and_leave() -> EngineStream:
        return engine.submit(_request(ids=[1], max_new_tokens=400))

    stream = asyncio.run(ask_and_leave())
    wait_until(lambda: not engine._live)
    assert stream.stats.finish_reason == "cancelled" and stream.stats.completion_tokens < 400
    engine.close()


def test_costs_that_were_measured_on_a_busy_machine_are_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """They were measured once, and whoever started the server beside an indexer had no drafts until it ended."""
    for name in ("_AGAIN_S", "_PAUSE_S"):
        monkeypatch.setattr(torch_engine, name, 0.01)
    busy = StepCosts(rows=((1, 50.0), (32, 1600.0)), prefill=((64, 200.0),))
    monkeypatch.setattr(torch_engine, "measure_costs", lambda decoder: busy)
    engine = TorchEngine(Path(), source=HashSource())
    wait_until(lambda: engine.load().step_ms < 50.0)
    assert engine._turns.budget.prefill_chunk > 32
    assert [t.id for t in engine.generate(_request(ids=[1, 2, 3])).tokens] == plain(0, [1, 2, 3], 8)
    engine.close()


def test_costs_are_measured_again_only_where_nobody_waits_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = StepCosts(rows=((1, 500.0),), prefill=((64, 9_000.0),))
    monkeypatch.setattr(torch_engine, "measure_costs", lambda decoder: slow)
    engine = TorchEngine(Path(), source=HashSource())
    assert engine._pause_s() is None
    engine.close()


def test_closing_leaves_no_threads() -> None:
    before = set(threading.enumerate())
    engine = TorchEngine(Path(), source=HashSource(), costs=FLAT)
    engine.load_adapter("a", Path("a"))
    assert engine.generate(_request(ids=[1, 2, 3], adapter="a")).stats.completion_tokens == 8
    engine.close()
    engine.close()
    assert set(threading.enumerate()) == before


def test_many_threads_with_many_clients_get_what_plain_decoding_gives() -> None:
    """The engine's own thread, with real interleavings; `test_turns` has the repeatable ones."""
    engine = TorchEngine(Path(), source=HashSource(), costs=FLAT, max_queue=100)
    wrong: list[str] = []

    def ask(number: int) -> None:
        chooser = random.Random(number)
        for _ in range(30):
            ids = [chooser.randrange(3)] * chooser.randrange(1, 80)
            client = chooser.choice([None, "shared"])
            made = engine.generate(_request(ids=ids, max_new_tokens=20, client=client, tenant=str(number % 2)))
            text = plain(0, ids, 20)
            written = [t.id for t in made.tokens]
            if written != text and (made.stats.finish_reason != "superseded" or written != text[: len(written)]):
                wrong.append(f"{ids}: {written}")

    threads = [threading.Thread(target=ask, args=[n]) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    engine.close()
    assert not wrong and not engine._live
