from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest

from homespun_core.errors import TooLittleCode
from homespun_core.types import SearchQuery, Snippet
from homespun_indexer.corpus_report import shares
from homespun_indexer.mixture import Weighed, weights
from homespun_trainer.examples import (
    MAX_MIDDLE_TOKENS,
    Example,
    ExampleStream,
    Mix,
    touches_placeholder,
    without_placeholders,
    worth_learning,
)
from homespun_trainer.own import OWN_LINES
from homespun_trainer.spans import Cut
from tests.trainer.tiny import BUILDER, TOKENIZER, document, make_stream, nearest, repeated_documents

END = TOKENIZER.control_id("<|endoftext|>")


def examples(mix: Mix | None = None, count: int = 300) -> list[Example]:
    return make_stream(mix=mix).batch(0, count)


def spell(example: Example) -> str:
    return TOKENIZER.spell(example.ids[: example.prompt_tokens])


def test_prompts_are_byte_for_byte_what_the_server_would_send() -> None:
    documents = {d.path: d for d in repeated_documents()}
    for example in examples(Mix(with_snippets=1.0, distracting=0.0), 100):
        middle = TOKENIZER.decode(example.ids[example.prompt_tokens : -1])
        assert any(
            BUILDER.build(
                prefix=d.text[:start],
                suffix=d.text[start + len(middle) :],
                path=d.path,
                language=d.language,
                repo="acme/shop",
                snippets=nearest(SearchQuery(prefix="", suffix="", path=None, language=None)),
            ).ids
            == example.ids[: example.prompt_tokens]
            for d in documents.values()
            for start in range(len(d.text) + 1)
            if d.text.startswith(middle, start)
        ), spell(example)


def test_languages_are_met_as_the_report_says_however_large_their_files_are() -> None:
    """A huge file counted with all of its characters in the report, and with 40,000 where examples are drawn."""

    def code(characters: int) -> str:
        return "".join(f"value_{i} = compute_{i}(argument)\n" for i in range(characters // 34))

    documents = [document(f"a{i}.py", code(2_000)) for i in range(20)] + [document("b.sql", code(200_000), "sql")]
    weighed = weights([Weighed(language=d.language, characters=d.counted, changed=None) for d in documents], now=0)
    documents = [replace(d, weight=weight) for d, weight in zip(documents, weighed, strict=True)]
    met: Counter[str | None] = Counter()

    def count(query: SearchQuery) -> Sequence[Snippet]:
        met[query.language] += 1
        return ()

    mix = Mix(with_snippets=1.0, distracting=0.0)
    stream = ExampleStream(documents, builder=BUILDER, repo="acme/shop", seed=0, retrieve=count, mix=mix)
    stream.batch(0, 600)
    assert shares(documents) == {"python": pytest.approx(0.5, abs=0.03), "sql": pytest.approx(0.5, abs=0.03)}
    assert met["sql"] / met.total() == pytest.approx(shares(documents)["sql"], abs=0.06)


def test_loss_is_on_middle_and_end_and_on_nothing_else() -> None:
    for example in examples(Mix(with_snippets=0.8, file_only=0.2, prefix_weight=0.0)):
        assert set(example.weights[: example.prompt_tokens]) <= {0.0}
        assert set(example.weights[example.prompt_tokens :]) == {1.0}
        assert example.ids[-1] == END


def test_weight_on_the_prefix_spares_snippets_path_suffix_and_control_tokens() -> None:
    for example in examples(Mix(with_snippets=1.0, prefix_weight=0.25), 50):
        learned = [i for i, w in zip(example.ids, example.weights[: example.prompt_tokens], strict=False) if w]
        prefix = spell(example).rpartition("<|fim_middle|>")[2]
        assert TOKENIZER.decode(learned) == prefix


def test_no_text_after_the_middle_leaks_into_left_to_right_examples() -> None:
    for example in examples(Mix(with_snippets=0.0, file_only=0.0), 50):
        assert "<|fim_suffix|><|fim_middle|>" in spell(example)


def test_shares_of_the_mix_are_kept() -> None:
    with_snippets = Counter("lib/base.py" in spell(e) for e in examples(Mix(with_snippets=0.5, file_only=0.5), 400))
    assert 150 < with_snippets[True] < 250


def test_example_n_depends_on_seed_and_n_alone() -> None:
    forwards, backwards = make_stream(), make_stream()
    assert forwards.batch(3, 8) == [backwards.example(n) for n in reversed(range(24, 32))][::-1]
    assert make_stream(seed=1).batch(0, 8) != forwards.batch(0, 8)


def test_middles_are_short_enough_to_be_completions() -> None:
    assert all(len(e.ids) - e.prompt_tokens - 1 <= MAX_MIDDLE_TOKENS for e in examples())


def test_windows_line_breaks_become_what_the_server_sees() -> None:
    stream = make_stream([document("a.py", "def load(self):\r\n    return self.fetch(ORDERS)\r\n" * 5)])
    assert all(ord("\r") not in e.ids for e in stream.batch(0, 40))


def test_documents_without_a_line_worth_learning_are_refused() -> None:
    with pytest.raises(TooLittleCode, match="hardly a line of its 1 files"):
        make_stream([document("a.py", "\n\n}\n")]).example(0)


def dead(lines: int) -> str:
    """Text without a line to ask for: each is too long, or says nothing."""
    return "".join(f"  f('{n:0250}',\n  ),\n" for n in range(lines))


def test_files_without_a_line_to_ask_for_are_not_worth_learning_whatever_their_size() -> None:
    code = repeated_documents(1)[0]
    documents = [document("dead.tsx", dead(100)), code, document("half.tsx", dead(50) + code.text)]
    assert [d.path for d in worth_learning(documents, Mix(), TOKENIZER)] == [code.path, "half.tsx"]


def test_of_somebody_s_own_only_files_with_their_lines_are_worth_learning() -> None:
    theirs, others = repeated_documents(2)
    documents = [replace(theirs, recent=((1, 2),)), others]
    assert [d.path for d in worth_learning(documents, OWN_LINES, TOKENIZER)] == [theirs.path]


def test_few_lines_worth_learning_in_much_text_are_found_at_every_number() -> None:
    """A run ended at the first example for which twenty draws in a row met no such line."""
    code = repeated_documents(1)[0]
    stream = make_stream([document("dead.tsx", dead(400)), code])
    assert len(stream.batch(0, 40)) == 40


SECRETIVE = "def connect(self):\n    key = 'REDACTED_AWS_KEY'\n    return self.session.open(key, TIMEOUT)\n\n\n" * 4


def test_a_placeholder_is_never_a_target() -> None:
    for example in make_stream([document("a.py", SECRETIVE)]).batch(0, 300):
        assert "REDACTED" not in TOKENIZER.decode(example.ids[example.prompt_tokens : -1])
        assert not spell(example).endswith("REDACTED_AWS_KEY")


def test_a_placeholder_carries_no_loss_where_the_rest_of_the_file_does() -> None:
    stream = make_stream([document("a.py", SECRETIVE)], mix=Mix(with_snippets=0.0, file_only=0.0))
    spared = 0
    for example in stream.batch(0, 60):
        learned = [i for i, w in zip(example.ids, example.weights, strict=True) if w]
        assert "REDACTED" not in TOKENIZER.decode(learned)
        spared += "key = ''" in TOKENIZER.decode(learned)
    assert spared > 10


def test_tokens_that_overlap_a_placeholder_have_no_weight_and_their_neighbours_keep_theirs() -> None:
    spelled = [b"x = 'RED", b"ACTED_", b"JWT", b"'", b"y", None]
    weights = without_placeholders([4, 0, 1, 2, 3, 5, 4], [1.0] * 7, spelled)
    assert weights == [1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0]
    assert without_placeholders([4], [1.0], ()) == [0.0]


@pytest.mark.parametrize(
    ("start", "end", "touches"), [(0, 3, False), (4, 4, True), (16, 16, True), (17, 20, False), (0, 30, True)]
)
def test_a_cut_beside_a_placeholder_touches_it(start: int, end: int, touches: bool) -> None:
    text = "a = REDACTED_JWT + rest_of_it\nb = 1\n"
    assert touches_placeholder(text, Cut(start=start, end=end, kind="")) is touches


def test_hunks_of_the_history_are_their_share_of_the_cuts() -> None:
    documents = [replace(d, recent=((1, 2),)) for d in repeated_documents()]
    mix = Mix(with_snippets=0.0, file_only=1.0, recent=0.2)
    kinds = Counter(e.kind for e in make_stream(documents, mix=mix).batch(0, 500))
    assert 60 < kinds["hunk"] < 140


def test_a_document_of_twice_the_weight_is_met_twice_as_often() -> None:
    one, other = repeated_documents(2)
    stream = make_stream([replace(one, weight=3.0), other], mix=Mix(with_snippets=0.0, file_only=1.0))
    paths = Counter("src/m0.py" in spell(e) for e in stream.batch(0, 400))
    assert 2.2 < paths[True] / paths[False] < 4.2
