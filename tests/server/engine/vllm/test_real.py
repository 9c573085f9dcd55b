"""The engine over two real vLLM servers with the built-in model. `make test-vllm` installs vLLM and runs this."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from homespun_core.errors import HomespunError, ModelError
from homespun_core.types import ModelFiles, Tokenizer
from homespun_server.engine.protocol import EngineRequest
from homespun_server.engine.vllm.engine import VllmEngine
from tests.server.engine.vllm.process import MAX_CONTEXT, PYTHON, TOKEN, VllmProcess

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.timeout(900),
    pytest.mark.skipif(PYTHON not in os.environ, reason="needs vLLM; run `make test-vllm`"),
]

SOURCES = [
    "def ",
    "import os\n\n\ndef read_lines(path):\n    with open(path) as file:\n        return ",
    'class Order:\n    """An order of a customer."""\n\n    def __init__(self, number: int, customer: str) -> None:\n',
    'package main\n\nimport (\n\t"fmt"\n)\n\nfunc main() {\n\tfor i := 0; i < 10; i++ {\n\t\t' * 8,
]
NUM_NEW = 16


@pytest.fixture(scope="module")
def servers(builtin: ModelFiles, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[VllmProcess]]:
    root = tmp_path_factory.mktemp("vllm")
    started = [VllmProcess(Path(builtin.path), root / f"{n}.log") for n in range(2)]
    yield started
    for server in started:
        server.kill()


@pytest.fixture(scope="module")
def pool(servers: list[VllmProcess], builtin: ModelFiles) -> Iterator[VllmEngine]:
    urls = [server.url for server in servers]
    engine = VllmEngine(
        urls, token=TOKEN, base=Path(builtin.path), concurrency=8, max_queue=64, check_s=0.2, patience_s=600
    )
    _until(lambda: len(engine._pool.ready) == 2)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def loras(builtin: ModelFiles, tmp_path_factory: pytest.TempPathFactory, make_lora: Callable[..., Path]) -> list[Path]:
    root = tmp_path_factory.mktemp("loras")
    return [make_lora(Path(builtin.path), root / str(n), seed=n, strength=0.1) for n in (1, 2)]


@pytest.fixture
def adapted(pool: VllmEngine, loras: list[Path]) -> Iterator[VllmEngine]:
    for name, path in zip("ab", loras, strict=True):
        pool.load_adapter(name, path)
    yield pool
    for name in "ab":
        pool.unload_adapter(name)


@pytest.fixture(scope="module")
def prompts(tokenizer: Tokenizer) -> list[list[int]]:
    return [tokenizer.encode(source) for source in SOURCES]


def _until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + 600
    while not is_so():
        assert time.monotonic() < end, "it never became so"
        time.sleep(0.05)


def _request(ids: Sequence[int], **changes: Any) -> EngineRequest:
    options: dict[str, Any] = {"ids": ids, "max_new_tokens": NUM_NEW}
    return EngineRequest(**(options | changes))


def _ids(engine: VllmEngine, ids: Sequence[int], adapter: str | None = None, **changes: Any) -> list[int]:
    return [token.id for token in engine.generate(_request(ids, adapter=adapter, **changes)).tokens]


def _module(builtin: ModelFiles, lora: Path | None = None) -> Any:
    module = AutoModelForCausalLM.from_pretrained(builtin.path, dtype=torch.float32)
    return (module if lora is None else PeftModel.from_pretrained(module, str(lora))).eval()


def _greedy(module: Any, ids: Sequence[int]) -> list[tuple[int, float]]:
    """Without a cache, a token at a time: what any engine has to come to."""
    known, found = [*ids], list[tuple[int, float]]()
    for _ in range(NUM_NEW):
        with torch.inference_mode():
            row = module(input_ids=torch.tensor([known])).logits[0, -1].log_softmax(-1)
        known.append(int(row.argmax()))
        found.append((known[-1], float(row.max())))
    return found


def test_greedy_is_what_transformers_says(pool: VllmEngine, builtin: ModelFiles, prompts: list[list[int]]) -> None:
    module = _module(builtin)
    for prompt in prompts:
        tokens, expected = pool.generate(_request(prompt)).tokens, _greedy(module, prompt)
        assert [token.id for token in tokens] == [id for id, _ in expected]
        assert [token.logprob for token in tokens] == pytest.approx([logprob for _, logprob in expected], abs=1e-3)
    assert pool.max_context == MAX_CONTEXT


def test_an_end_id_ends_it_and_nothing_else_does(pool: VllmEngine, prompts: list[list[int]]) -> None:
    plain = _ids(pool, prompts[1])
    ended = pool.generate(_request(prompts[1], end_ids=frozenset([plain[5]])))
    assert [token.id for token in ended.tokens] == plain[: plain.index(plain[5])]
    assert ended.stats.finish_reason == "stop"
    # Tokens that the model's own configuration calls its end don't end it either.
    assert len(_ids(pool, prompts[0], max_new_tokens=100)) == 100


def test_scores_are_what_transformers_says_up_to_the_whole_context(
    pool: VllmEngine, builtin: ModelFiles, prompts: list[list[int]]
) -> None:
    module = _module(builtin)
    for ids in (prompts[1], (prompts[3] * 9)[:MAX_CONTEXT]):
        with torch.inference_mode():
            rows = module(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
        expected = [float(rows[i, ids[i + 1]]) for i in range(len(ids) - 1)]
        assert pool.score(ids, 1) == pytest.approx(expected, abs=1e-3)
        assert pool.score(ids, len(ids) - 2) == pytest.approx(expected[-2:], abs=1e-3)


def test_a_prompt_as_long_as_the_context_can_be_warmed_and_its_cache_is_its_tenants(
    pool: VllmEngine, prompts: list[list[int]]
) -> None:
    ids = (prompts[2] * 40)[:MAX_CONTEXT]
    warmed = pool.generate(_request(ids, max_new_tokens=0, tenant="red", client="c", priority="warm"))
    assert warmed.tokens == () and warmed.stats.finish_reason == "length"
    # A client's requests go to one server, and a tenant's clients are its own.
    for tenant in ("red", "blue", ""):
        first, second = (_cached(pool, ids[:-NUM_NEW], tenant) for _ in range(2))
        assert bool(first) is (tenant == "red") and second


def _cached(pool: VllmEngine, ids: Sequence[int], tenant: str) -> int:
    return pool.generate(_request(ids, max_new_tokens=1, tenant=tenant, client="c")).stats.cached_tokens


def test_an_adapter_says_what_peft_says_and_b_in_between_changes_nothing(
    adapted: VllmEngine, builtin: ModelFiles, loras: list[Path], prompts: list[list[int]]
) -> None:
    modules = [_module(builtin), *(_module(builtin, lora) for lora in loras)]
    for prompt in prompts:
        expected = dict(zip((None, "a", "b"), ([i for i, _ in _greedy(m, prompt)] for m in modules), strict=True))
        assert len({tuple(ids) for ids in expected.values()}) == 3
        for adapter in ("a", "b", "a", None, "b", "a", None):
            for client in ("one", "two"):
                assert _ids(adapted, prompt, adapter, client=client) == expected[adapter]


def test_adapters_come_and_go_under_load_and_no_request_fails_or_mixes(
    adapted: VllmEngine, loras: list[Path], prompts: list[list[int]]
) -> None:
    expected = {name: [_ids(adapted, prompt, name) for prompt in prompts] for name in (None, "a", "b")}
    num_refused, wrong, is_over = 0, list[str | None](), threading.Event()

    def ask(name: str | None) -> int:
        nonlocal num_refused
        number = 0
        while not is_over.is_set():
            for prompt, ids in zip(prompts, expected[name], strict=True):
                try:
                    if _ids(adapted, prompt, name, client=f"{threading.get_ident()} {number}") != ids:
                        wrong.append(name)
                    number += 1
                except ModelError:
                    assert name == "b"  # unloaded at that moment, and told so before anything was sent
                    num_refused += 1
        return number

    with ThreadPoolExecutor() as threads:
        asking = [threads.submit(ask, name) for name in (None, "a", "a", "b", "b")]
        for _ in range(10):
            adapted.unload_adapter("b")
            time.sleep(0.2)
            adapted.load_adapter("b", loras[1])
            time.sleep(0.3)
        is_over.set()
        numbers = [future.result() for future in asking]
    assert not wrong and min(numbers) > 0 and num_refused


async def test_a_cancelled_request_is_aborted(
    pool: VllmEngine, servers: list[VllmProcess], prompts: list[list[int]]
) -> None:
    stream = pool.submit(_request(prompts[0], max_new_tokens=400))
    for _ in range(3):
        await anext(stream)
    await stream.aclose()
    closed = time.monotonic()
    await asyncio.to_thread(_until, lambda: sum(server.num_running() for server in servers) == 0)
    assert time.monotonic() - closed < 3  # the 400 tokens would have taken longer
    assert stream.stats.finish_reason == "cancelled" and stream.stats.completion_tokens < 100


async def test_a_deadline_aborts_too(pool: VllmEngine, servers: list[VllmProcess], prompts: list[list[int]]) -> None:
    stream = pool.submit(_request(prompts[0], max_new_tokens=400, deadline=time.monotonic() + 0.5))
    tokens = [token async for token in stream]
    assert 0 < len(tokens) < 400 and stream.stats.finish_reason == "deadline"
    await asyncio.to_thread(_until, lambda: sum(server.num_running() for server in servers) == 0)


def test_a_damaged_adapter_is_refused_and_the_servers_live_on(
    pool: VllmEngine, loras: list[Path], tmp_path: Path, prompts: list[list[int]]
) -> None:
    weights = load_file(loras[0] / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_bytes((loras[0] / "adapter_config.json").read_bytes())
    save_file({n: w.fill_(float("nan")) for n, w in weights.items()}, tmp_path / "adapter_model.safetensors")
    with pytest.raises(ModelError):
        pool.load_adapter("bad", tmp_path)
    assert not pool.adapters and len(pool._pool.ready) == 2 and _ids(pool, prompts[0])


def test_kill_9_of_one_server_fails_at_most_what_it_was_saying_and_it_comes_back_with_its_adapters(
    adapted: VllmEngine, servers: list[VllmProcess], prompts: list[list[int]]
) -> None:
    expected = {name: [_ids(adapted, prompt, name) for prompt in prompts] for name in (None, "a", "b")}
    failures: list[str] = []
    wrong: list[str | None] = []
    is_over = threading.Event()

    def ask(name: str | None) -> None:
        number = 0
        while not is_over.is_set():
            number += 1
            for prompt, ids in zip(prompts, expected[name], strict=True):
                try:
                    if _ids(adapted, prompt, name, client=f"{threading.get_ident()} {number}") != ids:
                        wrong.append(name)
                except HomespunError as error:
                    failures.append(str(error))

    before = servers[0].models()
    assert len(before) == 3
    names = (None, "a", "b", "a")
    with ThreadPoolExecutor() as threads:
        asking = [threads.submit(ask, name) for name in names]
        time.sleep(1)
        servers[0].kill()
        time.sleep(2)
        # Of each thread at most the one completion that the server had begun to say.
        assert len(failures) <= len(names) and all("broke" in failure for failure in failures), failures
        servers[0].start()
        _until(lambda: len(adapted._pool.ready) == 2)
        assert servers[0].models() == before
        time.sleep(1)
        is_over.set()
        for future in asking:
            future.result()
    assert not wrong and len(failures) <= len(names)
