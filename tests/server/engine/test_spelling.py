"""Completions that must begin with given bytes, against trying every token."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from homespun_core.types import Tokenizer
from homespun_server.engine.protocol import EngineRequest
from homespun_server.engine.sampling import Sampler
from homespun_server.engine.spelling import Vocabulary
from homespun_server.engine.torch_engine import TorchEngine
from homespun_server.engine.trees import Branches, chain
from tests.server.conftest import VOCAB
from tests.server.engine.hash_decoder import FLAT
from tests.server.engine.test_equality import Drafting

SPELLED: list[bytes | None] = [
    None,
    *(bytes([97 + i % 3]) * (1 + i // 3) for i in range(12)),
    *(b"ab", b"abc", b"ba", b""),
]
SPELLED += [bytes([97 + i % 3, 97 + i // 3 % 3, 97 + i // 9 % 3]) for i in range(VOCAB - len(SPELLED))]
WORDS = Vocabulary(SPELLED)
openings = st.text("abc", min_size=1, max_size=7).map(str.encode)


def fits(spelled: bytes | None, rest: bytes) -> bool:
    return spelled is not None and spelled != b"" and (spelled.startswith(rest) or rest.startswith(spelled))


@given(openings)
def test_what_is_allowed_is_what_spells_a_part_of_the_rest_or_more(opening: bytes) -> None:
    allowed = WORDS.beginning(opening)().allowed()
    assert allowed is not None
    assert sorted(allowed.tolist()) == [i for i, spelled in enumerate(SPELLED) if fits(spelled, opening)]


@given(openings, st.randoms(use_true_random=False))
def test_any_allowed_walk_spells_the_opening_and_is_then_free(opening: bytes, chooser: np.random.Generator) -> None:
    spelling, text = WORDS.beginning(opening)(), b""
    while (allowed := spelling.allowed()) is not None:
        token = int(chooser.choice(allowed.tolist()))
        spelling.advance(token)
        text += SPELLED[token] or b""
    assert text.startswith(opening)


def test_bytes_that_no_token_spells_restrict_nothing() -> None:
    assert WORDS.beginning(b"xyz")().allowed() is None
    assert WORDS.beginning(b"")().allowed() is None


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_draft_changes_nothing_under_a_constraint(temperature: float) -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(6, VOCAB, generator=generator) * 3

    def decided(tree: Branches, logits: torch.Tensor) -> list[int]:
        sampler = Sampler(temperature, 7, WORDS.beginning(b"abca")())
        return [token.id for token in sampler.decide(logits, tree).tokens]

    plain = list[int]()
    sampler = Sampler(temperature, 7, WORDS.beginning(b"abca")())
    for row in rows:
        plain += [token.id for token in sampler.decide(row[None], chain([])).tokens]
    assert decided(chain(plain[:5]), rows) == plain
    assert b"".join(SPELLED[i] or b"" for i in plain).startswith(b"abca")


@settings(max_examples=15, deadline=None)
@given(opening=openings, prompt=st.lists(st.integers(1, VOCAB - 1), min_size=1, max_size=20))
def test_cached_and_drafted_equal_plain_under_a_constraint(
    spelling_engine: TorchEngine, opening: bytes, prompt: list[int]
) -> None:
    def decode(tenant: str, draft: Sequence[int] | None = None) -> list[int]:
        request = EngineRequest(
            ids=prompt,
            max_new_tokens=12,
            constraint=WORDS.beginning(opening),
            draft=None if draft is None else lambda ids: Drafting(draft, [([3, 5], [-1, 0])], [3]),
            tenant=tenant,
        )
        return [token.id for token in spelling_engine.generate(request).tokens]

    plain = decode(f"new {opening!r} {prompt}")
    assert b"".join(SPELLED[i] or b"" for i in plain).startswith(opening)
    assert decode(f"{prompt}") == decode(f"{prompt}") == decode(f"drafted {prompt}", plain) == plain


def test_an_end_inside_the_opening_ends_nothing(spelling_engine: TorchEngine) -> None:
    """Line breaks end a completion in an evaluation, and an opening may hold one."""
    ends = frozenset(i for i, spelled in enumerate(SPELLED) if spelled)
    request = EngineRequest(ids=[1, 2], max_new_tokens=12, constraint=WORDS.beginning(b"abcab"), end_ids=ends)
    made = spelling_engine.generate(request)
    text = b"".join(SPELLED[token.id] or b"" for token in made.tokens)
    assert text.startswith(b"abcab") and made.stats.finish_reason in ("stop", "length")


@pytest.fixture(scope="module")
def spelling_engine(tiny_models: dict[str, Path]) -> TorchEngine:
    return TorchEngine(tiny_models["llama"], dtype="int8", device="cpu", costs=FLAT)


def test_the_built_in_vocabulary_spells_all_text(tokenizer: Tokenizer) -> None:
    for text in ("def f(x):\n\treturn 'é 😀'\r\n", "   \x00\x7f", "größer"):
        spelled = [tokenizer.spelled[i] for i in tokenizer.encode(text)]
        assert b"".join(piece or b"" for piece in spelled) == text.encode()
    assert tokenizer.control_id("<|fim_middle|>") == 2 and tokenizer.spelled[2] is None


def test_a_forbidden_token_far_more_likely_leaves_the_others_their_chances() -> None:
    """Their weights were taken against the forbidden one's, and all became 0."""
    logits = torch.full((1, VOCAB), -50.0)
    best, other = SPELLED.index(b"abc"), SPELLED.index(b"ab")
    logits[0, best], logits[0, other], logits[0, SPELLED.index(b"ba")] = 9.0, 1.0, 400.0
    for seed in range(20):
        sampler = Sampler(0.03, seed, WORDS.beginning(b"ab")())
        assert [token.id for token in sampler.decide(logits, chain([])).tokens] == [best]


def test_tokens_that_spell_the_opening_do_not_count_as_new(spelling_engine: TorchEngine) -> None:
    for opening in (b"a", b"abcabcabc"):
        request = EngineRequest(ids=[1, 2, 3], max_new_tokens=2, constraint=WORDS.beginning(opening))
        made = spelling_engine.generate(request)
        text = b"".join(SPELLED[token.id] or b"" for token in made.tokens)
        free = len(made.tokens) - sum(
            len(b"".join(SPELLED[t.id] or b"" for t in made.tokens[:n])) < len(opening) for n in range(len(made.tokens))
        )
        assert text.startswith(opening) and free == 2
