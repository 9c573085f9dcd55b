from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence

from homespun_core.prompt import PromptBuilder
from homespun_core.types import SearchQuery, Snippet
from homespun_trainer.pretrain.samples import (
    ORDERS,
    PHASES,
    Phase,
    Sample,
    builders,
    draw,
    drawn,
    is_held_out,
    wanted_tokens,
)
from tests.trainer.pretrain.rows import SNIPPET, TOKENIZER, documents

FIRST, SECOND = PHASES
DOCUMENTS = documents(6)
TEXTS = {d.path: d.text for d in DOCUMENTS}


def stream(phase: Phase = SECOND, seed: int = 0) -> Iterator[Sample]:
    return draw(DOCUMENTS, phase, tokenizer=TOKENIZER, repo="shop", retrieve=lambda _: [SNIPPET], seed=seed)


def test_both_orders_come_equally_often_and_pieces_as_the_phase_says() -> None:
    kinds = Counter(sample.kind for sample in itertools.islice(stream(FIRST), 2_000))
    assert abs(kinds["plain"] / 2_000 - FIRST.plain) < 0.04
    fim = kinds[ORDERS[0]] + kinds[ORDERS[1]]
    assert abs(kinds[ORDERS[0]] / fim - 0.5) < 0.05


def test_a_sample_is_the_server_prompt_then_what_stands_there_and_the_end() -> None:
    """There is a cursor at which the server would build exactly this prompt, and what stands there follows it."""
    by_order = dict(zip(ORDERS, builders(TOKENIZER, SECOND.max_prompt_tokens), strict=True))
    seen = Counter[tuple[str, bool]]()
    for sample in itertools.islice(stream(), 40):
        spelled = TOKENIZER.spell(sample.ids)
        suffix = spelled.partition("<|fim_suffix|>")[2].partition("<|fim_middle|>")[0]
        if sample.kind == "plain" or not suffix:  # without a suffix, nothing says where the middle ended
            continue
        (path,) = [path for path in TEXTS if f"<|file_sep|>{path}\n<|fim_prefix|>" in spelled]
        snippets = (SNIPPET,) if spelled.startswith("<|repo_name|>shop\n") else ()
        assert TEXTS[path].endswith(suffix)
        assert sample.ids in _completed(by_order[sample.kind], path, TEXTS[path].removesuffix(suffix), suffix, snippets)
        seen[sample.kind, bool(snippets)] += 1
    assert all(seen[order, True] > 5 for order in ORDERS)


def _completed(
    builder: PromptBuilder, path: str, before: str, suffix: str, snippets: tuple[Snippet, ...]
) -> Iterator[tuple[int, ...]]:
    """Prompt, middle and end for every cursor in `before`."""
    for at in range(len(before) + 1):
        prompt = builder.build(
            prefix=before[:at], suffix=suffix, path=path, language="python", repo="shop", snippets=snippets
        )
        written = TOKENIZER.encode(prompt.opening + before[at:])
        yield (*prompt.ids, *written, builder.format.end_id)


def test_plain_samples_hold_whole_files_with_their_path() -> None:
    spelled = {TOKENIZER.spell(s.ids) for s in itertools.islice(stream(FIRST), 100) if s.kind == "plain"}
    assert spelled <= {f"<|file_sep|>{path}\n{text}<|endoftext|>" for path, text in TEXTS.items()}
    assert len(spelled) == len(TEXTS)


def test_equal_seeds_draw_equal_samples() -> None:
    first, again, other = (list(itertools.islice(stream(seed=s), 20)) for s in (1, 1, 2))
    assert first == again != other


def test_the_second_phase_asks_elsewhere_than_the_first() -> None:
    """By number alone, all cuts were the same: the phase that teaches snippets had known answers."""

    def middles(phase: Phase) -> list[str]:
        found = (s for s in itertools.islice(stream(phase), 200) if s.kind != "plain")
        return [TOKENIZER.spell(s.ids).rpartition("<|fim_middle|>")[2] for s in itertools.islice(found, 40)]

    same = sum(a == b for a, b in zip(middles(FIRST), middles(SECOND), strict=True))
    assert same < 10


def test_drawing_ends_when_there_are_enough_tokens() -> None:
    samples = drawn(stream(), 5_000)
    assert 5_000 <= sum(len(s.ids) for s in samples) < 5_000 + SECOND.row_tokens
    assert all(len(s.ids) <= SECOND.row_tokens for s in samples)
    assert wanted_tokens(DOCUMENTS, 2.0) == 2 * wanted_tokens(DOCUMENTS, 1.0) > 0


def test_held_out_files_are_the_same_in_every_run_and_about_as_many_as_asked() -> None:
    count = sum(is_held_out("acme/shop", f"a/b{i}.py", 0.1) for i in range(2_000))
    assert 150 < count < 250
    assert not is_held_out("acme/shop", "a/b.py", 0.0)


def test_snippets_are_searched_at_places_of_the_files() -> None:
    asked: list[SearchQuery] = []

    def retrieve(query: SearchQuery) -> Sequence[Snippet]:
        asked.append(query)
        return []

    drawing = draw(DOCUMENTS, SECOND, tokenizer=TOKENIZER, repo="shop", retrieve=retrieve, seed=0)
    list(itertools.islice(drawing, 20))
    assert asked and all(query.path in TEXTS for query in asked)
