"""How the pool takes failures, with servers that fail as they are told to."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from homespun_core.errors import ConfigError, HomespunError, ModelError, ServiceError
from homespun_server.engine.protocol import EngineBusyError, EngineRequest, Generation
from homespun_server.engine.vllm.engine import VllmEngine
from tests.server.engine.vllm.fake_server import FIRST_ID, FakeVllm

TOKEN = "vllm-secret-token"
IDS = [11, 12, 13]
Make = Callable[..., VllmEngine]


@pytest.fixture
def pool() -> Iterator[list[FakeVllm]]:
    servers = [FakeVllm(), FakeVllm()]
    yield servers
    for server in servers:
        server.kill()


@pytest.fixture
def make(pool: list[FakeVllm]) -> Iterator[Make]:
    made: list[VllmEngine] = []

    def make(servers: list[FakeVllm] = pool, **options: Any) -> VllmEngine:
        defaults: dict[str, Any] = {"token": TOKEN, "patience_s": 5, "check_s": 0.02}
        made.append(VllmEngine([server.url for server in servers], **(defaults | options)))
        _until(lambda: len(made[-1]._pool.ready) == len(servers))
        return made[-1]

    yield make
    for engine in made:
        engine.close()


@pytest.fixture
def lora(tiny_models: dict[str, Path], tmp_path: Path, make_lora: Callable[..., Path]) -> Path:
    return make_lora(tiny_models["llama"], tmp_path / "lora")


def _request(**changes: Any) -> EngineRequest:
    options: dict[str, Any] = {"ids": IDS, "max_new_tokens": 4}
    return EngineRequest(**(options | changes))


def _ids(generation: Generation, first: int = FIRST_ID) -> list[int]:
    return [token.id - first for token in generation.tokens]


def _until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < end, "it never became so"
        time.sleep(0.005)


async def _until_soon(is_so: Callable[[], bool]) -> None:
    await asyncio.to_thread(_until, is_so)


def _plan(pool: list[FakeVllm], *words: str) -> None:
    for server in pool:
        server.plan.extend(words)


async def test_a_stream_yields_what_generate_returns(make: Make) -> None:
    engine = make()
    stream = engine.submit(_request())
    assert [token.id async for token in stream] == [1000, 1001, 1002, 1003]
    again = await asyncio.to_thread(engine.generate, _request())
    assert _ids(again) == [0, 1, 2, 3] and again.tokens[0].logprob == -0.5
    for stats in (stream.stats, again.stats):
        assert (stats.finish_reason, stats.completion_tokens, stats.num_steps) == ("length", 4, 4)
        assert (stats.prompt_tokens, stats.cached_tokens) == (3, 16)


def test_an_end_id_ends_the_completion_and_is_not_part_of_it(make: Make) -> None:
    generation = make().generate(_request(end_ids=frozenset([1002])))
    assert _ids(generation) == [0, 1] and generation.stats.finish_reason == "stop"


def test_filling_the_cache_yields_nothing(make: Make) -> None:
    generation = make().generate(_request(max_new_tokens=0))
    assert generation.tokens == () and generation.stats.finish_reason == "length"


def test_score_is_from_start_on(make: Make) -> None:
    engine = make()
    assert engine.score([4, 5, 6], 1) == [-2.0, -3.0] and engine.score([4, 5, 6], 2) == [-3.0]
    with pytest.raises(ModelError, match="65 tokens don't fit"):
        engine.score([1] * 65, 1)


@pytest.mark.parametrize("failure", ["500", "502", "404", "307", "429", "503", "drop", "garbage", "event"])
def test_a_request_goes_on_at_another_server_while_nothing_was_yielded(
    make: Make, pool: list[FakeVllm], failure: str
) -> None:
    engine = make(check_s=60)
    engine.generate(_request(client="me"))
    home, other = sorted(pool, key=lambda server: -len(server.bodies))
    home.plan.append(failure)
    assert _ids(engine.generate(_request(client="me"))) == [0, 1, 2, 3]
    assert (len(home.bodies), len(other.bodies)) == (2, 1)
    assert all(server.tokens_seen == {f"Bearer {TOKEN}"} for server in pool)


def test_once_something_was_yielded_a_failure_is_told(make: Make, pool: list[FakeVllm]) -> None:
    engine = make()
    _plan(pool, "cut")

    async def read() -> list[int]:
        tokens: list[int] = []
        with pytest.raises(ServiceError, match="broke"):
            async for token in engine.submit(_request()):
                tokens.append(token.id)  # noqa: PERF401  (the comprehension would lose them)
        return tokens

    assert asyncio.run(read()) == [1000, 1001]
    assert sum(len(server.bodies) for server in pool) == 1


def test_a_refused_request_is_not_repeated_and_its_prompt_stays_out_of_the_message(
    make: Make, pool: list[FakeVllm], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    engine = make()
    _plan(pool, "400")
    with pytest.raises(ServiceError, match="status 400") as refused:
        engine.generate(_request(ids=[77123, 77124]))
    assert sum(len(server.bodies) for server in pool) == 1
    for text in (str(refused.value), caplog.text):
        assert "77123" not in text and TOKEN not in text


def test_where_all_are_full_the_caller_is_told_when_to_come_again(make: Make, pool: list[FakeVllm]) -> None:
    engine = make()
    _plan(pool, "503")
    with pytest.raises(EngineBusyError) as busy:
        engine.generate(_request())
    assert busy.value.retry_after_s == 7
    assert _ids(engine.generate(_request())) == [0, 1, 2, 3]


async def test_what_only_fills_the_caches_keeps_nobody_out_of_the_queue(make: Make, pool: list[FakeVllm]) -> None:
    engine = make(pool[:1], concurrency=1, max_queue=2)
    _plan(pool, "held")
    running = engine.submit(_request())
    await anext(running)
    warm = [engine.submit(_request(max_new_tokens=0, priority="warm")) for _ in range(2)]
    with pytest.raises(EngineBusyError):
        engine.submit(_request(max_new_tokens=0, priority="warm"))
    waiting = [engine.submit(_request()) for _ in range(2)]
    pool[0].released.set()
    for stream in (running, *waiting):
        assert [token.id async for token in stream][-1] == 1003
    for stream in warm:
        assert [token async for token in stream] == []


async def test_the_queue_is_bounded_and_who_left_it_takes_no_place(make: Make, pool: list[FakeVllm]) -> None:
    engine = make(pool[:1], concurrency=1, max_queue=2)
    _plan(pool, "held")
    running = engine.submit(_request())
    await anext(running)
    waiting = [engine.submit(_request()) for _ in range(2)]
    assert engine.num_waiting == 2 and engine.load().num_running == 1
    with pytest.raises(EngineBusyError, match="2 completions are waiting"):
        engine.submit(_request())
    await waiting[0].aclose()
    late = engine.submit(_request())
    pool[0].released.set()
    for stream in (running, waiting[1], late):
        assert [token.id async for token in stream][-1] == 1003
    assert [token async for token in waiting[0]] == [] and waiting[0].stats.finish_reason == "cancelled"
    assert len(pool[0].bodies) == 3 and engine.num_waiting == 0


async def test_who_asked_by_hand_goes_first_then_the_earliest_deadline(make: Make, pool: list[FakeVllm]) -> None:
    engine = make(pool[:1], concurrency=1)
    _plan(pool, "held")
    running = engine.submit(_request())
    await anext(running)
    soon, later = time.monotonic() + 50, time.monotonic() + 60
    order: list[tuple[int, Any, float]] = [(4, "warm", soon), (3, "ahead", soon), (2, "typed", later)]
    order += [(1, "typed", soon), (0, "invoked", later)]
    streams = [
        engine.submit(_request(ids=[place], priority=priority, deadline=deadline))
        for place, priority, deadline in order
    ]
    pool[0].released.set()
    for stream in (running, *streams):
        assert [token async for token in stream]
    assert [body["prompt"][0] for body in pool[0].bodies[1:]] == [0, 1, 2, 3, 4]
    assert [body["priority"] for body in pool[0].bodies[1:]] == [0, 1, 1, 2, 3]


async def test_a_deadline_ends_with_what_there_is(make: Make, pool: list[FakeVllm]) -> None:
    engine = make()
    _plan(pool, "held")
    stream = engine.submit(_request(deadline=time.monotonic() + 0.3))
    assert [token.id async for token in stream] == [1000] and stream.stats.finish_reason == "deadline"
    await _until_soon(lambda: sum(server.num_aborted for server in pool) == 1)
    passed = engine.submit(_request(deadline=time.monotonic() - 1))
    assert [token async for token in passed] == [] and passed.stats.finish_reason == "deadline"
    assert sum(len(server.bodies) for server in pool) == 1


async def test_closing_a_stream_closes_its_connection(make: Make, pool: list[FakeVllm]) -> None:
    engine = make()
    _plan(pool, "held")
    stream = engine.submit(_request())
    await anext(stream)
    await stream.aclose()
    await stream.aclose()
    await _until_soon(lambda: sum(server.num_aborted for server in pool) == 1)
    assert stream.stats.finish_reason == "cancelled" and engine.load().num_running == 0


async def test_a_newer_request_of_the_same_client_replaces_the_older(make: Make, pool: list[FakeVllm]) -> None:
    engine = make()
    for server in pool:
        server.plan.extend(["held", "held"])
    old = engine.submit(_request(client="me", tenant="red"))
    other = engine.submit(_request(client="me", tenant="blue"))
    await anext(old)
    await anext(other)
    for server in pool:
        server.plan.clear()
    new = engine.submit(_request(client="me", tenant="red"))
    assert [token.id async for token in old] == [] and old.stats.finish_reason == "superseded"
    assert [token.id async for token in new] == [1000, 1001, 1002, 1003]
    for server in pool:
        server.released.set()
    assert len([token async for token in other]) == 3 and other.stats.finish_reason == "length"


def test_a_server_that_keeps_failing_is_left_alone(make: Make, pool: list[FakeVllm]) -> None:
    engine = make(pool[:1], check_s=60)
    _plan(pool, *["500"] * 20)
    failures: list[str] = []
    for _ in range(3):
        with pytest.raises(ServiceError) as failed:
            engine.generate(_request())
        failures.append(str(failed.value))
    assert len(pool[0].bodies) == 3  # the first request tried it three times, the others not at all
    assert "status 500" in failures[0] and "left alone" in failures[2]


def test_a_silent_server_is_found_out_by_deadlines(make: Make, pool: list[FakeVllm]) -> None:
    engine = make(pool[:1], check_s=60, silence_s=0.05)
    _plan(pool, *["mute"] * 3)
    for _ in range(3):
        generation = engine.generate(_request(deadline=time.monotonic() + 0.1))
        assert generation.tokens == () and generation.stats.finish_reason == "deadline"
    with pytest.raises(ServiceError, match="left alone"):
        engine.generate(_request())


def test_a_stalled_completion_fails(make: Make, pool: list[FakeVllm]) -> None:
    engine = make(pool[:1], stall_s=0.1)
    _plan(pool, *["mute"] * 3)
    with pytest.raises(ServiceError, match="answer in time"):
        engine.generate(_request())


def test_without_a_server_completions_fail_at_once_and_resume_when_one_is_back(
    make: Make, pool: list[FakeVllm], caplog: pytest.LogCaptureFixture
) -> None:
    engine = make()
    for server in pool:
        server.kill()
    _until(lambda: not engine._pool.ready)
    with pytest.raises(ServiceError, match="can't be reached"):
        engine.generate(_request(deadline=time.monotonic() + 60))
    pool[1].start()
    _until(lambda: bool(engine._pool.ready))
    assert _ids(engine.generate(_request())) == [0, 1, 2, 3]
    assert sum("can't be reached" in line for line in caplog.messages) == 2  # once for each, not for every check


def test_an_unhealthy_server_gets_nothing(make: Make, pool: list[FakeVllm]) -> None:
    engine = make()
    pool[0].health = 500
    _until(lambda: len(engine._pool.ready) == 1)
    for n in range(10):
        engine.generate(_request(client=str(n)))
    assert not pool[0].bodies


def test_clients_are_spread_and_stay_where_they_are(make: Make, pool: list[FakeVllm]) -> None:
    engine = make()
    for n in range(40):
        engine.generate(_request(client=str(n % 20), ids=[n % 20]))
    seen = [{body["prompt"][0] for body in server.bodies} for server in pool]
    assert seen[0] and seen[1] and not seen[0] & seen[1]


def test_a_server_of_another_model_is_not_used() -> None:
    ours, other = FakeVllm(), FakeVllm("other")
    engine = VllmEngine([ours.url], token=TOKEN, check_s=0.02)
    engine.close()
    both = VllmEngine([ours.url, other.url], token=TOKEN, check_s=0.02, patience_s=5)
    _until(lambda: len(both._pool._problems) == 1)
    assert len(both._pool.ready) == 1 and "serve the same model" in str(both._pool._problems)
    both.close()
    for server in (ours, other):
        server.kill()


def test_adapters_are_on_every_server_under_a_name_of_their_own(make: Make, pool: list[FakeVllm], lora: Path) -> None:
    engine = make()
    engine.load_adapter("repo/1", lora)
    engine.load_adapter("repo/1", lora)
    (name,) = pool[0].adapters
    assert pool[0].adapters == pool[1].adapters and "repo" not in name and engine.adapters == {"repo/1"}
    assert _ids(engine.generate(_request(adapter="repo/1")), 2000) == [0, 1, 2, 3]
    with pytest.raises(ModelError, match="unload it before"):
        engine.load_adapter("repo/1", lora.parent)
    engine.unload_adapter("repo/1")
    engine.unload_adapter("repo/1")
    _until(lambda: not pool[0].adapters and not pool[1].adapters)
    with pytest.raises(ModelError, match="not loaded"):
        engine.generate(_request(adapter="repo/1"))


def test_an_adapter_that_one_server_refuses_is_on_none(make: Make, pool: list[FakeVllm], lora: Path) -> None:
    engine = make()
    pool[1].is_refusing_adapters = True
    with pytest.raises(ModelError, match="the rank is too large") as refused:
        engine.load_adapter("a", lora)
    assert "\n" not in str(refused.value) and not engine.adapters
    _until(lambda: not pool[0].adapters)


def test_two_versions_may_be_the_same_weights(make: Make, pool: list[FakeVllm], lora: Path) -> None:
    engine = make()
    engine.load_adapter("a", lora)
    engine.load_adapter("b", lora)
    engine.unload_adapter("a")
    assert _ids(engine.generate(_request(adapter="b")), 2000) == [0, 1, 2, 3]
    assert len(pool[0].adapters) == 1


async def test_an_adapter_is_unloaded_after_its_last_request(make: Make, pool: list[FakeVllm], lora: Path) -> None:
    engine = make(pool[:1])
    await asyncio.to_thread(engine.load_adapter, "a", lora)
    _plan(pool, "held")
    stream = engine.submit(_request(adapter="a"))
    await anext(stream)
    engine.unload_adapter("a")
    assert engine.adapters == frozenset()
    await asyncio.sleep(0.1)
    assert pool[0].adapters
    pool[0].released.set()
    assert [token.id async for token in stream] == [2001, 2002, 2003]
    await _until_soon(lambda: not pool[0].adapters)


def test_a_server_that_comes_back_has_its_adapters_before_any_request(
    make: Make, pool: list[FakeVllm], lora: Path
) -> None:
    engine = make()
    engine.load_adapter("a", lora)
    pool[0].kill()
    for n in range(10):
        assert _ids(engine.generate(_request(adapter="a", client=str(n))), 2000) == [0, 1, 2, 3]
    _until(lambda: len(engine._pool.ready) == 1)
    pool[0].start()
    _until(lambda: len(engine._pool.ready) == 2)
    assert pool[0].adapters == pool[1].adapters and len(pool[0].adapters) == 1


def test_an_adapter_that_is_gone_from_a_server_is_loaded_again(make: Make, pool: list[FakeVllm], lora: Path) -> None:
    """As after a restart that was quicker than the checks."""
    engine = make(check_s=60)
    engine.load_adapter("a", lora)
    for server in pool:
        server.adapters.clear()
        with ThreadPoolExecutor() as threads:
            results = [*threads.map(lambda n: _tried(engine, str(n)), range(8))]
        assert all(isinstance(r, HomespunError) or _ids(r, 2000) == [0, 1, 2, 3] for r in results)
        _until(lambda: bool(pool[0].adapters) and bool(pool[1].adapters))


def _tried(engine: VllmEngine, client: str) -> Generation | HomespunError:
    try:
        return engine.generate(_request(adapter="a", client=client))
    except HomespunError as error:
        return error


def test_no_server_no_engine() -> None:
    with pytest.raises(ServiceError, match=r"no vLLM server is ready: http://127.0.0.1:9 can't be reached"):
        VllmEngine(["http://127.0.0.1:9"], token=TOKEN, patience_s=0.2)
    with pytest.raises(ConfigError, match="names no server"):
        VllmEngine([])
    with pytest.raises(ConfigError, match="http or https"):
        VllmEngine(["ftp://gpu"])


def test_a_wrong_token_is_named_as_such(pool: list[FakeVllm]) -> None:
    pool[0].health = 401
    with pytest.raises(ServiceError, match="HOMESPUN_VLLM_TOKEN") as refused:
        VllmEngine([pool[0].url], token=TOKEN, patience_s=0.2)
    assert TOKEN not in str(refused.value)


async def test_closing_ends_what_runs_and_refuses_what_comes(make: Make, pool: list[FakeVllm]) -> None:
    engine = make(pool[:1], concurrency=1)
    _plan(pool, "held")
    running = engine.submit(_request())
    await anext(running)
    waiting = engine.submit(_request())
    await asyncio.to_thread(engine.close)
    assert [token async for token in running] == [] and running.stats.finish_reason == "cancelled"
    with pytest.raises(ServiceError, match="shut down"):
        await anext(waiting)
    with pytest.raises(ServiceError, match="shut down"):
        engine.submit(_request())
    with pytest.raises(ServiceError, match="shut down"):
        engine.score(IDS, 1)
    await running.aclose()


def test_a_prompt_that_does_not_fit_is_refused(make: Make) -> None:
    with pytest.raises(ModelError, match=r"68 tokens .* 64"):
        make().generate(_request(ids=[1] * 64))
