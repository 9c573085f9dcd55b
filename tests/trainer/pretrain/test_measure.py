from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from homespun_core.errors import ConfigError
from homespun_core.prompt import Prompt
from homespun_core.types import SilentProgress
from homespun_trainer.evaluate import Bench, Written
from homespun_trainer.pretrain.measure import (
    BARE,
    SNIPPETS,
    Search,
    bits_per_byte,
    complete_lines,
    line_tasks,
    read_infilling,
)
from homespun_trainer.pretrain.samples import builders
from homespun_trainer.pretrain.shards import HeldOut
from tests.trainer.pretrain.rows import SNIPPET, TOKENIZER, documents
from tests.trainer.tiny import document

FILES = [HeldOut(repo="acme/shop", document=d) for d in documents(8)]
BUILDER = builders(TOKENIZER, 400)[0]


def one_bit(ids: Sequence[int], start: int, _adapter: str | None) -> Sequence[float]:
    return [-math.log(2)] * (len(ids) - start)


def test_bits_per_byte_count_bytes_of_each_language_and_not_the_path() -> None:
    """With one token a byte and one bit a token it is one, whatever the text."""
    go = HeldOut(repo="acme/shop", document=document("é.go", "// höher\n" * 900, "go"))
    found = bits_per_byte([*FILES, go], BUILDER, one_bit, 2_048, SilentProgress())
    assert found == {"go": {"bits_per_byte": 1.0, "files": 1}, "python": {"bits_per_byte": 1.0, "files": 8}}


def test_a_file_with_more_tokens_than_the_context_is_measured_as_far_as_it_fits() -> None:
    asked: list[int] = []

    def one_bit_of(ids: Sequence[int], start: int, adapter: str | None) -> Sequence[float]:
        asked.append(len(ids))
        return one_bit(ids, start, adapter)

    found = bits_per_byte(FILES[:1], BUILDER, one_bit_of, 100, SilentProgress())
    assert asked[0] <= 100 and found["python"]["bits_per_byte"] == 1.0


def test_places_are_rests_of_lines_spread_over_the_files() -> None:
    tasks = line_tasks(FILES, 16, seed=0)
    assert len(tasks) == 16 and tasks == line_tasks(FILES, 16, seed=0) != line_tasks(FILES, 16, seed=1)
    assert set(Counter(task.path for _, task in tasks).values()) == {2}
    texts = {file.document.path: file.document.text for file in FILES}
    for _, task in tasks:
        assert task.prefix + task.middle + task.suffix == texts[task.path]
        assert task.middle.strip() and "\n" not in task.middle and task.suffix.startswith("\n")


def test_a_model_that_reads_snippets_is_seen_to_gain_from_them() -> None:
    tasks = line_tasks(FILES, 8, seed=0)
    middles = {task.path: task for _, task in tasks}

    def generate(prompt: Prompt, _limit: int, _ends: frozenset[int], _adapter: str | None) -> Written:
        """Knows the line only with the snippet before it."""
        path = TOKENIZER.spell(prompt.ids).partition("<|fim_prefix|>")[0].rpartition("<|file_sep|>")[2].strip()
        text = middles[path].middle if prompt.snippets else "pass"
        return Written(ids=TOKENIZER.encode(prompt.opening + text), is_truncated=False)

    bench = Bench(
        builder=BUILDER,
        repo="",
        retrieve=lambda _: lambda query: (),
        generate=generate,
        score=one_bit,
        end_ids=frozenset(),
    )
    searches = {"acme/shop": Search(name="shop", retrieve=lambda _: [SNIPPET])}
    made = complete_lines(tasks, bench, searches, SilentProgress())
    assert made["arms"][BARE]["all"]["exact_match"]["value"] == 0.0
    assert made["arms"][SNIPPETS]["python"]["exact_match"]["value"] == 1.0
    assert made["gain_from_snippets"]["exact_match"]["value"] == 1.0


@pytest.mark.parametrize("text", ["{", "[]", json.dumps({"task_id": "a/b", "prompt": "x"})])
def test_a_file_that_is_no_infilling_set_is_said_so(tmp_path: Path, text: str) -> None:
    (tmp_path / "set.jsonl").write_text(text)
    with pytest.raises(ConfigError, match="want rows with task_id"):
        read_infilling(tmp_path / "set.jsonl")
