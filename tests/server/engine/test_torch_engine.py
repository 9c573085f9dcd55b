from __future__ import annotations

import asyncio
import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from homespun_core.errors import ModelError, ServiceError
from homespun_server.engine.protocol import Draft, EngineBusyError, EngineRequest
from homespun_server.engine.torch_engine import TorchEngine

IDS = [5, 9, 2, 33, 7]


@pytest.fixture
def small(tiny_models: dict[str, Path]) -> Iterator[TorchEngine]:
    engine = TorchEngine(tiny_models["llama"], device="cpu", max_queue=2)
    yield engine
    engine.close()


class Gate:
    """A draft function that holds the engine's thread until it is opened, and notes who came."""

    def __init__(self) -> None:
        self.reached, self.opened = threading.Event(), threading.Event()
        self.seen: list[int] = []

    def __call__(self, ids: Sequence[int]) -> Sequence[int]:
        self.seen.append(len(ids))
        self.reached.set()
        assert self.opened.wait(20)
        return ()


def _noting(order: list[str], name: str) -> Draft:
    def draft(ids: Sequence[int]) -> Sequence[int]:
        order.append(name)
        return ()

    return draft


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
    drafted = small.generate(_request(end_ids=frozenset([end]), draft=lambda ids: plain[len(ids) - len(IDS) :]))
    assert [t.id for t in drafted.tokens] == [t.id for t in generation.tokens]


def test_a_deadline_ends_the_completion_with_what_it_has(small: TorchEngine) -> None:
    deadline = time.monotonic() + 0.2

    def slow(ids: Sequence[int]) -> Sequence[int]:
        time.sleep(0.05)
        return ()

    generation = small.generate(_request(max_new_tokens=200, deadline=deadline, draft=slow))
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
    assert len(gate.seen) == 1
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
    late = small.submit(_request(deadline=now + 60, draft=_noting(order, "late")))
    early = small.submit(_request(deadline=now + 50, draft=_noting(order, "early")))
    gate.opened.set()
    for stream in (running, late, early):
        assert [token async for token in stream]
    assert order[0] == "early" and order[-1] == "late"


def test_a_prompt_that_does_not_fit_is_refused_with_both_numbers(small: TorchEngine) -> None:
    with pytest.raises(ModelError, match=r"258 tokens .* 256"):
        small.generate(_request(ids=[1] * 250))
    assert small.generate(_request(ids=[1] * 248)).stats.completion_tokens == 8


def test_a_failing_draft_fails_its_request_alone(small: TorchEngine, caplog: pytest.LogCaptureFixture) -> None:
    def broken(ids: Sequence[int]) -> Sequence[int]:
        raise IndexError("no such place")

    with pytest.raises(ServiceError, match="IndexError"):
        small.generate(_request(draft=broken))
    assert "a completion failed" in caplog.text
    assert small.generate(_request()).stats.completion_tokens == 8


def test_many_threads_may_call_at_once(tiny_models: dict[str, Path]) -> None:
    engine = TorchEngine(tiny_models["llama"], device="cpu", max_queue=64)
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
    engine, gate = TorchEngine(tiny_models["llama"], device="cpu"), Gate()
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
