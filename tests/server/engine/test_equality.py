"""Fast equals slow: what was cached, drafted or split never changes a token at temperature 0 (float32)."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

import homespun_core
from homespun_core.fim import FimFormat
from homespun_core.types import ModelFiles, Tokenizer
from homespun_server.drafts import drafter
from homespun_server.engine.protocol import Draft, EngineRequest, Mix, Tree
from homespun_server.engine.torch_engine import TorchEngine
from homespun_server.mixing import Around, mixer
from tests.server.conftest import TINY, VOCAB
from tests.server.engine.hash_decoder import FLAT

NEW = 24


@pytest.fixture(scope="module", params=itertools.product(TINY, ("float32", "int8")), ids="-".join)
def tiny(request: pytest.FixtureRequest, tiny_models: dict[str, Path]) -> Iterator[tuple[Path, TorchEngine]]:
    family, dtype = request.param
    engine = TorchEngine(tiny_models[family], dtype=dtype, device="cpu", costs=FLAT)
    yield tiny_models[family], engine
    engine.close()


def _prompt(seed: int, length: int) -> list[int]:
    return random.Random(seed).choices(range(VOCAB), k=length)


_fresh = map(str, itertools.count())


def _decode(
    engine: TorchEngine,
    ids: Sequence[int],
    adapter: str | None = None,
    draft: Draft | None = None,
    tenant: str | None = None,
    count: int = NEW,
    mix: Mix | None = None,
) -> list[int]:
    """Without a tenant, as one that nothing is cached for."""
    tenant = next(_fresh) if tenant is None else tenant
    request = EngineRequest(ids=ids, max_new_tokens=count, adapter=adapter, draft=draft, mix=mix, tenant=tenant)
    return [token.id for token in engine.generate(request).tokens]


class Drafting:
    """Knows the text, mixes in garbage, and counts on both being sorted out."""

    def __init__(
        self, text: Sequence[int], garbage: Sequence[tuple[list[int], list[int]]], cuts: Sequence[int]
    ) -> None:
        self._text, self._garbage, self._cuts = list(text), garbage, cuts
        self._num_asked = 0

    def propose(self, max_nodes: int, min_chance: float) -> Tree:
        self._num_asked += 1
        ids, parents = self._garbage[self._num_asked % len(self._garbage)]
        right = self._text[: self._cuts[self._num_asked % len(self._cuts)]]
        offset = len(right)
        return Tree(
            (*right, *ids),
            (*range(-1, offset - 1), *(offset + parent if parent >= 0 else parent for parent in parents)),
        )

    def extend(self, ids: Sequence[int]) -> None:
        del self._text[: len(ids)]


def _right(text: Sequence[int]) -> Draft:
    return lambda ids: Drafting(text, [([], [])], [8])


def _reference(path: Path, ids: list[int]) -> list[int]:
    model: Any = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    inputs = torch.tensor([ids])
    options = {"max_new_tokens": NEW, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    out = model.generate(inputs, attention_mask=torch.ones_like(inputs), **options)
    return list(out[0, len(ids) :].tolist())


@pytest.mark.parametrize("family", TINY)
def test_tokens_are_those_of_transformers_own_generate(tiny_models: dict[str, Path], family: str) -> None:
    """In floating point; `test_native_decoder` compares 8 bits with the same arithmetic in PyTorch."""
    path = tiny_models[family]
    engine = TorchEngine(path, dtype="float32", device="cpu", costs=FLAT)
    for seed, length in ((0, 1), (1, 20), (2, 150)):
        ids = _prompt(seed, length)
        assert _decode(engine, ids) == _reference(path, ids)
    engine.close()


def test_cached_equals_uncached(tiny: tuple[Path, TorchEngine]) -> None:
    """Typing, deleting, jumping to another place and coming back, against a tenant that nothing is known of.

    Forking a slot once failed here: rows made in inference mode can't be written outside of it.
    """
    _, engine = tiny
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
        assert _decode(engine, ids, tenant="typist") == _decode(engine, ids)


def test_typing_along_a_suggestion_gives_what_asking_anew_would(tiny: tuple[Path, TorchEngine]) -> None:
    _, engine = tiny
    ids = _prompt(7, 50)
    text = _decode(engine, ids, tenant="along")
    for typed in (1, 2, 7, 20, 24):
        assert _decode(engine, [*ids, *text[:typed]], tenant="along") == _decode(engine, [*ids, *text[:typed]])


trees = st.lists(
    st.tuples(st.lists(st.integers(-3, VOCAB + 3), max_size=12), st.lists(st.integers(-2, 12), max_size=12)),
    min_size=1,
    max_size=5,
)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 99), garbage=trees, cuts=st.lists(st.integers(0, 6), min_size=1, max_size=5))
def test_any_draft_leaves_the_tokens_as_they_are(
    tiny: tuple[Path, TorchEngine], seed: int, garbage: list[tuple[list[int], list[int]]], cuts: list[int]
) -> None:
    _, engine = tiny
    ids = _prompt(seed, 30)
    plain = _decode(engine, ids)
    assert _decode(engine, ids, draft=lambda _: Drafting(plain, garbage, cuts)) == plain


def test_a_draft_at_the_end_of_the_context_has_no_more_rows_than_there_is_room_for(
    tiny: tuple[Path, TorchEngine],
) -> None:
    """No path was too long, but all branches together: the kernels refused that forward, and with it whoever else had
    a part in it."""
    _, engine = tiny
    ids, branches = _prompt(8, 256 - NEW), ([*range(14)], [-1] * 14)
    plain = _decode(engine, ids)
    assert _decode(engine, ids, draft=lambda _: Drafting(plain, [branches], [2])) == plain


def test_with_voices_drafts_leave_the_tokens_as_they_are(
    tiny: tuple[Path, TorchEngine], caplog: pytest.LogCaptureFixture
) -> None:
    def lookup(ids: Sequence[int]) -> tuple[int, Mapping[int, int]]:
        return (0, {}) if sum(ids[-3:]) % 3 == 0 else (1 + sum(ids[-3:]) % 40, {sum(ids[-5:]) % VOCAB: 2, ids[-1]: 1})

    engine = tiny[1]
    for seed in range(6):
        ids = _prompt(seed, 40)
        mix = mixer(Around(ids, _prompt(seed + 6, 40)), lookup, np.array([1, 2]))
        plain = _decode(engine, ids, mix=mix)
        assert plain != _decode(engine, ids), "it has no say"
        wrong = Drafting(_decode(engine, ids), [([3, 4], [-1, 0])], [2, 0])
        for draft in (_right(plain), lambda _, wrong=wrong: wrong, drafter()):
            assert _decode(engine, ids, mix=mix, draft=draft) == plain
        assert _decode(engine, ids, mix=mix, tenant="kept") == _decode(engine, ids, mix=mix, tenant="kept") == plain
    assert "a mixer failed" not in caplog.text


def test_a_right_draft_saves_steps(tiny: tuple[Path, TorchEngine]) -> None:
    _, engine = tiny
    ids = _prompt(5, 30)
    plain = _decode(engine, ids)
    request = EngineRequest(ids=ids, max_new_tokens=NEW, draft=_right(plain), tenant="drafted")
    generation = engine.generate(request)
    assert [t.id for t in generation.tokens] == plain
    assert generation.stats.num_steps <= 5 and generation.stats.accepted_tokens >= NEW - 5


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_together_equals_alone_with_and_without_caches_drafts_and_adapters(
    tiny_models: dict[str, Path], tmp_path: Path, make_lora: Callable[..., Path], dtype: str
) -> None:
    """Everything at once: 24 requests of two tenants on three sets of weights, half of them drafted, against each of
    them alone with nothing cached."""
    path = tiny_models["llama"]
    engine = TorchEngine(path, dtype=dtype, device="cpu", costs=FLAT, max_queue=64)
    for name in "ab":
        engine.load_adapter(name, make_lora(path, tmp_path / name, seed=ord(name), strength=0.3))
    prompts = [_prompt(seed, length) for seed, length in ((11, 5), (12, 40), (13, 130))]
    prompts.append([*prompts[2][:100], *prompts[1]])
    weights = (None, "a", "b")
    plain = {(a, n): _decode(engine, ids, a) for a in weights for n, ids in enumerate(prompts)}
    assert len({tuple(plain[a, 2]) for a in weights}) == 3
    made: list[tuple[list[int], list[int]]] = []

    def ask(adapter: str | None, number: int, tenant: str) -> None:
        expected = plain[adapter, number]
        drafts = (None, _right(expected), None)
        made.extend((_decode(engine, prompts[number], adapter, draft, tenant), expected) for draft in drafts)

    keys = [(a, n, tenant) for a, n in plain for tenant in "xy"]
    threads = [threading.Thread(target=ask, args=key) for key in keys]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    engine.close()
    assert len(made) == 72 and all(written == expected for written, expected in made)


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
    adapter = "lora" if has_adapter else None
    if adapter is not None:
        engine.load_adapter(adapter, make_lora(Path(builtin.path), tmp_path / "lora", strength=0.02))
    drafted = 0
    for ids in _real_prompts(tokenizer, fim, 3):
        request = EngineRequest(ids=ids, max_new_tokens=16, adapter=adapter, draft=drafter(None), tenant="real")
        fast = engine.generate(request)
        assert [t.id for t in fast.tokens] == _decode(engine, ids, adapter, count=16)
        drafted += fast.stats.accepted_tokens
    assert drafted > 0
    engine.unload_adapter("lora")
