from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from homespun_server.engine.protocol import Chances, Expectation, Ids, Token
from homespun_server.engine.sampling import Decided, Sampler, nucleus
from homespun_server.engine.trees import Branches, chain

VOCAB = 5


def _logits(rows: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, VOCAB, generator=torch.Generator().manual_seed(seed)) * 2


def _ids(decided: Decided) -> list[int]:
    return [token.id for token in decided.tokens]


def _one(sampler: Sampler, logits: torch.Tensor) -> Token:
    [token] = sampler.decide(logits, Branches()).tokens
    return token


def test_a_draft_is_kept_as_far_as_it_is_what_the_model_would_have_said() -> None:
    logits = torch.zeros(4, VOCAB)
    logits[range(4), [3, 1, 4, 2]] = 9.0
    for draft, expected in (([3, 1, 0], [3, 1, 4]), ([3, 1, 4], [3, 1, 4, 2]), ([0, 1, 4], [3])):
        decided = Sampler(0.0, None).decide(logits, chain(draft))
        assert _ids(decided) == expected and decided.path == [*range(len(expected) - 1)]


def test_in_a_tree_the_walk_goes_on_in_the_child_that_is_right() -> None:
    tree = Branches()
    for parent, token in ((-1, 1), (-1, 3), (0, 2), (1, 4), (1, 0), (4, 2)):
        tree.add(parent, token)
    logits = torch.zeros(7, VOCAB)
    logits[[0, 2, 5, 6], [3, 0, 2, 1]] = 9.0  # the root says 3 (node 1), that 0 (node 4), that 2 (node 5), that 1
    decided = Sampler(0.0, None).decide(logits, tree)
    assert _ids(decided) == [3, 0, 2, 1] and decided.path == [1, 4, 5]


def test_log_probabilities_are_the_models_own_at_any_temperature() -> None:
    logits = _logits(1)
    token = _one(Sampler(1.7, 3), logits)
    assert math.isclose(token.logprob, float(logits.log_softmax(-1)[0, token.id]), rel_tol=1e-5)
    high = _one(Sampler(0.0, None), logits + 1e4)
    assert math.isclose(high.logprob, float(logits.log_softmax(-1).max()), rel_tol=1e-2)


def test_alternatives_are_the_likeliest_with_their_own_log_probabilities() -> None:
    logits = _logits(1)
    [token] = Sampler(0.0, None, num_alternatives=3).decide(logits, Branches()).tokens
    best = logits.log_softmax(-1)[0].topk(3)
    assert [i for i, _ in token.alternatives] == best.indices.tolist()
    assert all(
        math.isclose(a, b, rel_tol=1e-5) for (_, a), b in zip(token.alternatives, best.values.tolist(), strict=True)
    )
    assert token.alternatives[0] == (token.id, token.logprob) and _one(Sampler(0.0, None), logits).alternatives == ()


@settings(max_examples=50, deadline=None)
@given(draft=st.lists(st.integers(0, VOCAB - 1), max_size=6), seed=st.integers(0, 999))
def test_a_seed_samples_the_same_tokens_with_and_without_a_draft(draft: Sequence[int], seed: int) -> None:
    logits = _logits(len(draft) + 1, seed)
    plain, one_by_one = Sampler(0.8, seed), list[int]()
    for row in range(len(draft) + 1):
        one_by_one.append(_one(plain, logits[row : row + 1]).id)
        if row == len(draft) or one_by_one[-1] != draft[row]:
            break
    assert _ids(Sampler(0.8, seed).decide(logits, chain(draft))) == one_by_one


def test_sampling_follows_the_distribution() -> None:
    logits, draws = _logits(1, 7), 20_000
    sampler = Sampler(0.7, 1)
    counts = torch.zeros(VOCAB)
    for _ in range(draws):
        counts[_one(sampler, logits).id] += 1
    expected = (logits[0] / 0.7).softmax(-1) * draws
    chi_square = float(((counts - expected) ** 2 / expected).sum())
    assert chi_square < 18.5  # 4 degrees of freedom, p = 0.001; the seed makes it repeatable


@settings(max_examples=50, deadline=None)
@given(
    draft=st.lists(st.integers(0, VOCAB - 1), max_size=6),
    seed=st.integers(0, 999),
    top_p=st.floats(0, 1),
    top_k=st.integers(0, VOCAB + 1),
)
def test_so_it_does_from_a_part_of_the_tokens(draft: Sequence[int], seed: int, top_p: float, top_k: int) -> None:
    logits = _logits(len(draft) + 1, seed)
    plain, one_by_one = Sampler(0.8, seed, top_p=top_p, top_k=top_k), list[int]()
    for row in range(len(draft) + 1):
        one_by_one.append(_one(plain, logits[row : row + 1]).id)
        if row == len(draft) or one_by_one[-1] != draft[row]:
            break
    assert _ids(Sampler(0.8, seed, top_p=top_p, top_k=top_k).decide(logits, chain(draft))) == one_by_one


@settings(max_examples=200, deadline=None)
@given(weights=st.lists(st.floats(1e-9, 1), min_size=1, max_size=8), top_p=st.floats(0, 1), top_k=st.integers(0, 9))
def test_a_nucleus_is_the_fewest_of_the_likeliest_that_have_its_share(
    weights: list[float], top_p: float, top_k: int
) -> None:
    given_weights = np.array(weights)
    found = nucleus(given_weights, top_p, top_k)
    kept = np.flatnonzero(found)
    assert len(kept) >= 1 and (found[kept] == given_weights[kept]).all()
    assert not top_k or len(kept) <= top_k
    rest = np.delete(given_weights, kept)
    assert not len(rest) or rest.max() <= found[kept].min()
    within = np.sort(given_weights)[::-1][: top_k or None].sum()
    assert found.sum() >= top_p * within * (1 - 1e-12) or len(kept) == min(len(weights), top_k or len(weights))
    assert len(kept) == 1 or found.sum() - found[kept].min() < top_p * within * (1 + 1e-12)


def test_sampling_from_a_nucleus_follows_its_distribution() -> None:
    logits, draws = _logits(1, 7), 20_000
    sampler = Sampler(0.7, 1, top_p=0.9)
    counts = torch.zeros(VOCAB)
    for _ in range(draws):
        counts[_one(sampler, logits).id] += 1
    weights = (logits[0] / 0.7).softmax(-1)
    kept = torch.from_numpy(nucleus(weights.double().numpy(), 0.9, 0))
    expected = kept / kept.sum() * draws
    assert 1 < int((expected > 0).sum()) < VOCAB and not counts[expected == 0].any()
    some = expected > 0
    assert float(((counts[some] - expected[some]) ** 2 / expected[some]).sum()) < 16.3  # 3 degrees of freedom at most


def test_a_tiny_temperature_is_greedy_and_no_overflow() -> None:
    logits = _logits(1, 3) * 100
    assert _one(Sampler(1e-9, 0), logits).id == int(logits.argmax())


class Voice:
    """Expects one token at each step, as surely as it is told."""

    def __init__(self, tokens: Sequence[int], weight: float, ends: Sequence[int] = ()) -> None:
        self._tokens, self._weight, self.ends = [*tokens], weight, np.array(ends, dtype=np.int64)
        self.heard: list[int] = []

    def expects(self, chances: Chances, allowed: Ids | None) -> Expectation | None:
        at = len(self.heard)
        return Expectation(self._weight, {self._tokens[at]: 1.0}) if at < len(self._tokens) else None

    def extend(self, token: int) -> None:
        self.heard.append(token)


def _row(*chances: float) -> torch.Tensor:
    return torch.tensor([chances]).log()


def test_what_is_mixed_in_decides_where_it_is_surer_than_the_model() -> None:
    row = _row(0.5, 0.2, 0.1, 0.1, 0.1)
    for weight, expected in ((0.1, 0), (0.5, 3)):
        token = _one(Sampler(0.0, None, mixer=Voice([3], weight)), row)
        chance = (1 - weight) * float(row.exp()[0, token.id]) + weight * (token.id == 3)
        assert token.id == expected and math.isclose(token.logprob, math.log(chance), abs_tol=1e-6)


def test_ends_count_together_and_the_one_that_the_model_likes_is_taken() -> None:
    row = _row(0.4, 0.3, 0.2, 0.05, 0.05)
    assert _one(Sampler(0.0, None, mixer=Voice([4], 0.0001, [1, 2])), row).id == 1, "together likelier than the first"
    token = _one(Sampler(0.0, None, mixer=Voice([3], 0.5, [2, 3])), row)
    assert token.id == 2 and math.isclose(token.logprob, math.log(0.5 * 0.25 + 0.5), abs_tol=1e-6)


def test_what_is_mixed_in_stays_within_what_is_allowed() -> None:
    class Only:
        def allowed(self) -> Ids:
            return np.array([1, 2])

        def advance(self, token: int) -> None: ...

    row = _row(0.5, 0.1, 0.2, 0.1, 0.1)
    assert _one(Sampler(0.0, None, Only(), mixer=Voice([3], 0.9)), row).id == 2
    assert _one(Sampler(0.0, None, Only(), mixer=Voice([1], 0.9)), row).id == 1


def test_nothing_is_mixed_into_what_is_drawn_and_a_voice_that_fails_is_left_out() -> None:
    class Broken(Voice):
        def expects(self, chances: Chances, allowed: Ids | None) -> Expectation | None:
            raise IndexError("damaged")

    logits = _logits(4, seed=3)
    plain = _ids(Sampler(0.0, None).decide(logits, chain([0, 1, 2])))
    assert _ids(Sampler(0.0, None, mixer=Broken([3], 0.9)).decide(logits, chain([0, 1, 2]))) == plain
    drawn = _ids(Sampler(1.0, 5).decide(logits, chain([0, 1, 2])))
    assert _ids(Sampler(1.0, 5, mixer=Voice([3] * 9, 0.99)).decide(logits, chain([0, 1, 2]))) == drawn


def test_a_draft_is_kept_as_far_as_it_is_what_the_mixture_says() -> None:
    logits = _row(0.5, 0.2, 0.1, 0.1, 0.1).repeat(4, 1)
    voice = Voice([3, 4, 3, 4], 0.9)
    decided = Sampler(0.0, None, mixer=voice).decide(logits, chain([3, 4, 0]))
    assert _ids(decided) == [3, 4, 3] and decided.path == [0, 1] and voice.heard == [3, 4, 3]
