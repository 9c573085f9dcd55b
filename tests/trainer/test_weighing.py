"""Feedback as weights of examples: a language that people work in is met more often, and learned better."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from homespun_core import demand
from homespun_core.outcomes import Outcome, Reception
from homespun_core.paths import DataDir
from homespun_core.types import Document, ModelFiles, SilentProgress
from homespun_indexer.corpus_report import counts
from homespun_trainer.cli.preparing import by_demand
from homespun_trainer.job import Corpus
from homespun_trainer.train import train_adapter
from homespun_trainer.weighing import MIN_DEMAND, MIN_KEPT, factors, file_factors, weighed
from tests.trainer.tiny import CPU, document, make_model, make_stream, recipe


def in_language(language: str, count: int, line: str) -> list[Document]:
    text = f"def load(self):\n    return self.session.{line}\n\n\n"
    return [document(f"{language}{i}", f"# {i}\n" + text * 3, language) for i in range(count)]


CODE = [*in_language("python", 4, "fetch_all(ORDERS)"), *in_language("go", 12, "QueryRow(statement)")]


def share(documents: list[Document], language: str) -> float:
    sizes = {d.path: len(d.text) * d.weight for d in documents}
    return sum(size for path, size in sizes.items() if path.startswith(language)) / sum(sizes.values())


def test_what_is_asked_for_counts_more_and_the_sum_stays() -> None:
    by = factors({"python": 9_000, "go": 1_000}, CODE)
    assert by["python"] == 2.0 and by["go"] == 0.5
    after = weighed(CODE, by)
    before = share(CODE, "python")
    assert share(after, "python") == pytest.approx(4 * before / (1 + 3 * before), abs=0.01)
    assert sum(len(d.text) * d.weight for d in after) == pytest.approx(sum(len(d.text) for d in CODE), rel=1e-3)


def test_the_report_has_the_shares_that_come_of_it() -> None:
    corpus = Corpus(fingerprint="f", sources={}, documents=CODE, tasks=(), retrieve=lambda _: (), report=counts(CODE))
    found = by_demand(corpus, {"python": 9_000, "go": 1_000}, {})
    assert found.report["shares"]["python"] == pytest.approx(share(list(found.documents), "python"), abs=1e-3)
    assert found.report["shares"]["python"] > corpus.report["shares"]["python"] + 0.1
    assert found.fingerprint != corpus.fingerprint and found.report["demand_weights"] == {"go": 0.5, "python": 2.0}


@pytest.mark.parametrize(
    "asked", [{}, {"python": MIN_DEMAND - 1}, {"rust": 50_000}], ids=["nothing", "too little", "nothing that is here"]
)
def test_where_little_is_known_everything_stays(asked: dict[str, int]) -> None:
    assert factors(asked, CODE) == {}


def test_a_little_more_demand_is_no_other_corpus() -> None:
    assert factors({"python": 5_000, "go": 5_000}, CODE) == factors({"python": 5_150, "go": 5_000}, CODE)


def test_simulated_users_of_one_language_get_a_model_that_knows_it_better(tmp_path: Path) -> None:
    """The metric that it claims: the loss on lines of the language that people work in, with equal training."""
    files: ModelFiles = make_model(tmp_path / "model")
    python = Reception(time=1.0, repository="shop-1", language="python", shown=4_000, accepted=0)
    data = DataDir(tmp_path)
    demand.write(data, demand.counted([python, replace(python, language="golang", shown=50)]), {})
    by = factors(demand.read(data)["shop-1"], CODE)
    looks = make_stream(in_language("python", 3, "fetch_all(ORDERS)"), seed=9).batch(0, 8)
    losses = [
        train_adapter(
            files, make_stream(documents), looks, recipe(minutes=60, max_targets=3_000), placement=CPU,
            run=tmp_path / name, fingerprint=name, progress=SilentProgress(), should_stop=lambda: False,
        ).state.dev_losses[-1][1]
        for name, documents in (("plain", CODE), ("weighed", weighed(CODE, by)))
    ]  # fmt: skip
    assert losses[1] < losses[0] - 0.05


FILES = [
    *[document(f"pay{i}.py", d.text) for i, d in enumerate(in_language("python", 4, "fetch_all(ORDERS)"))],
    *[document(f"old{i}.py", d.text) for i, d in enumerate(in_language("python", 12, "QueryRow(statement)"))],
]


def test_files_in_which_much_is_kept_count_more_and_the_others_never_less_than_half() -> None:
    kept = {f"pay{i}.py": MIN_KEPT for i in range(4)}
    by = file_factors(kept, FILES)
    assert {by[d.path] for d in FILES if d.path.startswith("pay")} == {2**0.5}
    assert {by[d.path] for d in FILES if d.path.startswith("old")} == {2**-0.5}
    assert file_factors({"pay0.py": 10**9}, FILES)["pay0.py"] == 2.0
    after = weighed(FILES, {}, by)
    assert sum(len(d.text) * d.weight for d in after) == pytest.approx(sum(len(d.text) for d in FILES), rel=1e-3)


@pytest.mark.parametrize(
    "kept", [{}, {"pay0.py": MIN_KEPT - 1}, {"gone.py": 10**9}], ids=["nothing", "too little", "nothing that is here"]
)
def test_where_little_was_kept_every_file_counts_as_before(kept: dict[str, int]) -> None:
    assert file_factors(kept, FILES) == {}


def test_simulated_users_of_some_files_get_a_model_that_knows_these_better(tmp_path: Path) -> None:
    """The metric that it claims: the loss on lines as those files have them, with equal training."""
    files: ModelFiles = make_model(tmp_path / "model")
    data, outcomes = DataDir(tmp_path), [
        Outcome(
            completion=f"c{i}", time=1.0, user="ann", repository="shop-1", language="python", adapter=None,
            is_shown=True, is_accepted=True, accepted_characters=30, kept_characters=25, latency_ms=1.0,
        )
        for i in range(1_000)
    ]  # fmt: skip
    demand.write(data, {}, demand.kept_by_file(outcomes, {f"c{i}": f"pay{i % 4}.py" for i in range(1_000)}))
    by = file_factors(demand.read_kept(data)["shop-1"], FILES)
    looks = make_stream([document("pay9.py", FILES[0].text)], seed=9).batch(0, 8)
    losses = [
        train_adapter(
            files, make_stream(documents), looks, recipe(minutes=60, max_targets=3_000), placement=CPU,
            run=tmp_path / name, fingerprint=name, progress=SilentProgress(), should_stop=lambda: False,
        ).state.dev_losses[-1][1]
        for name, documents in (("plain", FILES), ("weighed", weighed(FILES, {}, by)))
    ]  # fmt: skip
    assert losses[1] < losses[0] - 0.03


def test_only_what_was_kept_in_a_known_file_counts() -> None:
    kept = Outcome(
        completion="a", time=1.0, user="ann", repository="shop-1", language="python", adapter=None, is_shown=True,
        is_accepted=True, accepted_characters=9, kept_characters=7, latency_ms=1.0,
    )  # fmt: skip
    others = [replace(kept, repository=None), replace(kept, kept_characters=0), replace(kept, completion="b")]
    assert demand.kept_by_file([kept, kept, *others], {"a": "pay.py"}) == {"shop-1": {"pay.py": 14}}


def test_only_what_was_shown_in_a_known_place_counts(tmp_path: Path) -> None:
    shown = Reception(time=1.0, repository="shop-1", language="typescriptreact", shown=4, accepted=0)
    others = [replace(shown, shown=0), replace(shown, repository=None), replace(shown, language="klingon")]
    assert demand.counted([shown, shown, *others]) == {"shop-1": {"tsx": 8}}
    (tmp_path / "demand.json").write_text("[1]")
    assert demand.read(DataDir(tmp_path)) == {}
