from __future__ import annotations

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from homespun_server.engine.sampling import Sampler

VOCAB = 5


def _logits(rows: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, VOCAB, generator=torch.Generator().manual_seed(seed)) * 2


def test_a_draft_is_kept_as_far_as_it_is_what_the_model_would_have_said() -> None:
    logits = torch.zeros(4, VOCAB)
    logits[range(4), [3, 1, 4, 2]] = 9.0
    assert [t.id for t in Sampler(0.0, None).choose(logits, [3, 1, 0])] == [3, 1, 4]
    assert [t.id for t in Sampler(0.0, None).choose(logits, [3, 1, 4])] == [3, 1, 4, 2]
    assert [t.id for t in Sampler(0.0, None).choose(logits, [0, 1, 4])] == [3]


def test_log_probabilities_are_the_models_own_at_any_temperature() -> None:
    logits = _logits(1)
    token = Sampler(1.7, 3).choose(logits, [])[0]
    assert math.isclose(token.logprob, float(logits.log_softmax(-1)[0, token.id]), rel_tol=1e-5)


@settings(max_examples=50, deadline=None)
@given(draft=st.lists(st.integers(0, VOCAB - 1), max_size=6), seed=st.integers(0, 999))
def test_a_seed_samples_the_same_tokens_with_and_without_a_draft(draft: list[int], seed: int) -> None:
    logits = _logits(len(draft) + 1, seed)
    plain, one_by_one = Sampler(0.8, seed), []
    for row in range(len(draft) + 1):
        one_by_one += plain.choose(logits[row : row + 1], [])
        if row == len(draft) or one_by_one[-1].id != draft[row]:
            break
    assert [t.id for t in Sampler(0.8, seed).choose(logits, draft)] == [t.id for t in one_by_one]


def test_sampling_follows_the_distribution() -> None:
    logits, draws = _logits(1, 7), 20_000
    sampler = Sampler(0.7, 1)
    counts = torch.zeros(VOCAB)
    for _ in range(draws):
        counts[sampler.choose(logits, [])[0].id] += 1
    expected = (logits[0] / 0.7).softmax(-1) * draws
    chi_square = float(((counts - expected) ** 2 / expected).sum())
    assert chi_square < 18.5  # 4 degrees of freedom, p = 0.001; the seed makes it repeatable


def test_a_tiny_temperature_is_greedy_and_no_overflow() -> None:
    logits = _logits(1, 3) * 100
    assert Sampler(1e-9, 0).choose(logits, [])[0].id == int(logits.argmax())
