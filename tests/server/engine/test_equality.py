"""Fast equals slow: what was cached, drafted or split never changes a token at temperature 0 (float32)."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

import homespun_core
from homespun_core.fim import FimFormat
from homespun_core.types import ModelFiles, Tokenizer
from homespun_server.drafts import drafter
from homespun_server.engine.protocol import Draft, EngineRequest
from homespun_server.engine.torch_engine import TorchEngine
from tests.server.conftest import TINY, VOCAB

NEW = 24


@pytest.fixture(scope="module", params=list(TINY))
def tiny(request: pytest.FixtureRequest, tiny_models: dict[str, Path]) -> Iterator[tuple[Path, TorchEngine]]:
    path = tiny_models[request.param]
    engine = TorchEngine(path, device="cpu")
    yield path, engine
    engine.close()


def _prompt(seed: int, length: int) -> list[int]:
    return random.Random(seed).choices(range(VOCAB), k=length)


def _decode(
    engine: TorchEngine, ids: Sequence[int], adapter: str | None = None, draft: Draft | None = None
) -> list[int]:
    request = EngineRequest(ids=ids, max_new_tokens=NEW, adapter=adapter, draft=draft)
    return [token.id for token in engine.generate(request).tokens]


def _reference(path: Path, ids: list[int]) -> list[int]:
    model: Any = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    inputs = torch.tensor([ids])
    options = {"max_new_tokens": NEW, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    out = model.generate(inputs, attention_mask=torch.ones_like(inputs), **options)
    return list(out[0, len(ids) :].tolist())


def test_tokens_are_those_of_transformers_own_generate(tiny: tuple[Path, TorchEngine]) -> None:
    path, engine = tiny
    for seed, length in ((0, 1), (1, 20), (2, 150)):
        ids = _prompt(seed, length)
        assert _decode(engine, ids) == _reference(path, ids)


def test_cached_equals_uncached(tiny: tuple[Path, TorchEngine]) -> None:
    """Typing, deleting, jumping to another place and coming back, against an engine that has seen nothing.

    Forking a slot once failed here: rows made in inference mode can't be written outside of it.
    """
    path, engine = tiny
    first, second = _prompt(3, 90), _prompt(4, 90)
    typed = [
        first[:60],
        first[:61],
        first[:80],
        first[:55],
        second[:70],
        [*first[:40], *second],
        first[:90],
        second[:71],
    ]
    for ids in typed:
        fresh = TorchEngine(path, device="cpu")
        assert _decode(engine, ids) == _decode(fresh, ids)
        fresh.close()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 99), data=st.data())
def test_any_draft_leaves_the_tokens_as_they_are(
    tiny: tuple[Path, TorchEngine], seed: int, data: st.DataObject
) -> None:
    _, engine = tiny
    ids = _prompt(seed, 30)
    plain = _decode(engine, ids)
    garbage = data.draw(st.lists(st.lists(st.integers(-3, VOCAB + 3), max_size=12), min_size=1, max_size=5))
    cuts = data.draw(st.lists(st.integers(0, 6), min_size=1, max_size=5))

    def draft(so_far: Sequence[int]) -> Sequence[int]:
        at = len(so_far) - len(ids)
        return [*plain[at : at + cuts[at % len(cuts)]], *garbage[at % len(garbage)]]

    assert _decode(engine, ids, draft=draft) == plain


def test_a_right_draft_saves_steps(tiny: tuple[Path, TorchEngine]) -> None:
    _, engine = tiny
    ids = _prompt(5, 30)
    plain = _decode(engine, ids)
    request = EngineRequest(ids=ids, max_new_tokens=NEW, draft=lambda so_far: plain[len(so_far) - len(ids) :])
    generation = engine.generate(request)
    assert [t.id for t in generation.tokens] == plain
    assert generation.stats.num_steps <= 4 and generation.stats.accepted_tokens >= NEW - 4


def test_scores_are_the_log_probabilities_of_decoding(tiny: tuple[Path, TorchEngine]) -> None:
    _, engine = tiny
    ids = _prompt(6, 40)
    tokens = engine.generate(EngineRequest(ids=ids, max_new_tokens=NEW)).tokens
    scores = engine.score([*ids, *(t.id for t in tokens)], len(ids))
    assert scores == pytest.approx([t.logprob for t in tokens], abs=1e-4)


def _real_prompts(tokenizer: Tokenizer, fim: FimFormat, count: int) -> list[list[int]]:
    """Contiguous suffix-prefix-middle prompts at places of our own source, two places of a file in a row."""
    control = fim.ids
    prompts = []
    chooser = random.Random(0)
    files = sorted(Path(homespun_core.__file__).parent.glob("*.py"))
    for number in range(count):
        text = files[number % len(files)].read_text(encoding="utf-8")
        at = chooser.randrange(len(text) // 4, max(len(text) // 4 + 1, len(text) - 200))
        ids = [control["<|fim_prefix|>"], control["<|fim_suffix|>"], *tokenizer.encode(text[at : at + 200])]
        ids += [control["<|fim_middle|>"], *tokenizer.encode(text[max(0, at - 900) : at])]
        prompts += [ids, ids + tokenizer.encode("self")]
    return prompts


@pytest.mark.parametrize("has_adapter", [False, True])
def test_the_built_in_model_cached_and_drafted_equals_plain_on_real_code(
    engine: TorchEngine,
    builtin: ModelFiles,
    tokenizer: Tokenizer,
    fim: FimFormat,
    tmp_path: Path,
    make_lora: Callable[..., Path],
    has_adapter: bool,
) -> None:
    plain = TorchEngine(Path(builtin.path), device="cpu")
    adapter = "lora" if has_adapter else None
    if adapter is not None:
        lora = make_lora(Path(builtin.path), tmp_path / "lora", strength=0.02)
        for each in (engine, plain):
            each.load_adapter(adapter, lora)
    drafted = 0
    for ids in _real_prompts(tokenizer, fim, 3):
        request = EngineRequest(ids=ids, max_new_tokens=16, adapter=adapter, draft=drafter(None))
        fast = engine.generate(request)
        slow = _decode_without_cache(plain, ids, adapter, 16)
        assert [t.id for t in fast.tokens] == slow
        drafted += fast.stats.accepted_tokens
    assert drafted > 0
    engine.unload_adapter("lora")
    plain.close()


def _decode_without_cache(engine: TorchEngine, ids: list[int], adapter: str | None, count: int) -> list[int]:
    """The prompt is computed whole: a request of other ids in between takes every slot's rows away."""
    for filler in range(4):
        engine.generate(EngineRequest(ids=[filler + 10], max_new_tokens=1, adapter=adapter))
    generation = engine.generate(EngineRequest(ids=ids, max_new_tokens=count, adapter=adapter))
    assert generation.stats.cached_tokens == 0
    return [token.id for token in generation.tokens]
