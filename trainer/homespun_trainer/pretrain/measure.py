"""How good a model is on files that none was trained on: bits per byte by language, and lines completed exactly."""

from __future__ import annotations

import gzip
import json
import math
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from homespun_core.errors import ConfigError
from homespun_core.prompt import PromptBuilder
from homespun_core.types import EvalTask, Progress, Snippet
from homespun_trainer.evaluate import Arm, Bench, ScoreIds, Scores, judge, query_of
from homespun_trainer.examples import Retrieve
from homespun_trainer.pretrain.shards import HeldOut
from homespun_trainer.spans import Lines, choose_cut
from homespun_trainer.summaries import difference, summarise

BARE, SNIPPETS = "without snippets", "with snippets"
ARMS = (Arm(name=BARE, adapter=None, snippets="none"), Arm(name=SNIPPETS, adapter=None, snippets="found"))
_FILE_CHARS = 3_500
_PER_FILE = 4
_ATTEMPTS = 60


def bits_per_byte(
    files: Sequence[HeldOut], builder: PromptBuilder, score: ScoreIds, max_tokens: int, progress: Progress
) -> dict[str, dict[str, float]]:
    """By language, of the first 3,500 characters of each file, its path given; fewer where those have more tokens than
    the model's context."""
    progress.start("measuring bits per byte", total=len(files), unit="files")
    bits: defaultdict[str, float] = defaultdict(float)
    sizes: defaultdict[str, int] = defaultdict(int)
    counts: defaultdict[str, int] = defaultdict(int)
    for number, file in enumerate(files, 1):
        text, head = file.document.text[:_FILE_CHARS], _header(file, builder)
        while len(ids := builder.tokenizer.encode(text)) > max_tokens - len(head):
            text = text[: len(text) * 3 // 4]
        logprobs = score([*head, *ids], len(head), None)
        bits[file.document.language] -= sum(logprobs) / math.log(2)
        sizes[file.document.language] += len(text.encode())
        counts[file.document.language] += 1
        progress.advance(number)
    progress.finish()
    return {
        language: {"bits_per_byte": round(bits[language] / sizes[language], 4), "files": counts[language]}
        for language in sorted(sizes, key=lambda name: -sizes[name])
    }


def line_tasks(files: Sequence[HeldOut], count: int, seed: int) -> list[tuple[str, EvalTask]]:
    """(repository, place): the rest of a line, at most four of a file, spread over the files."""
    places: list[tuple[int, float, str, EvalTask]] = []
    for file in files:
        document = file.document
        rng = random.Random(f"{seed}/{file.repo}/{document.path}")
        lines = Lines.of(document.text)
        starts: set[int] = set()
        for _ in range(_ATTEMPTS):
            cut = choose_cut(lines, rng) if len(starts) < _PER_FILE else None
            if cut is None or cut.kind != "rest of line" or cut.start in starts:
                continue
            starts.add(cut.start)
            task = EvalTask(
                path=document.path,
                language=document.language,
                commit=f"{file.repo}:{document.path}",
                prefix=document.text[: cut.start],
                middle=document.text[cut.start : cut.end],
                suffix=document.text[cut.end :],
                seen=False,
            )
            places.append((len(starts), rng.random(), file.repo, task))
    places.sort(key=lambda place: place[:2])
    return [(repo, task) for _, _, repo, task in places[:count]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """A repository's name in prompts, and its search."""

    name: str
    retrieve: Retrieve


def complete_lines(
    tasks: Sequence[tuple[str, EvalTask]], bench: Bench, searches: Mapping[str, Search], progress: Progress
) -> dict[str, Any]:
    """Exact match, edit similarity and bits per byte with and without snippets, and their difference; by language."""
    progress.start("completing lines of held-out files", total=len(tasks), unit="lines")
    scores: Scores = {arm.name: [] for arm in ARMS}
    for number, (repo, task) in enumerate(tasks, 1):
        search = searches.get(repo)
        found: Sequence[Snippet] = search.retrieve(query_of(task)) if search else ()
        here = replace(bench, repo=search.name if search else repo)
        for arm in ARMS:
            made = scores[arm.name]
            assert isinstance(made, list)
            made.append(judge(task, arm, here, found if arm.snippets == "found" else ()))
        progress.advance(number)
    progress.finish()
    return _summary([task for _, task in tasks], scores)


def read_infilling(path: Path) -> list[EvalTask]:
    """Places of a file in the form of HumanEval-Infilling (github.com/openai/human-eval-infilling), single-line or not.

    Only compared with what stands there: nothing of it is run. Raises ConfigError when it can't be read.
    """
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        rows = [json.loads(line) for line in raw.decode().splitlines() if line.strip()]
        return [_infilling_task(row) for row in rows]
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        raise ConfigError(
            f"--infilling: {path} can't be read ({type(error).__name__}: {error}); want rows with task_id, prompt,"
            " canonical_solution and suffix"
        ) from error


def infill(tasks: Sequence[EvalTask], bench: Bench, progress: Progress) -> dict[str, Any]:
    progress.start("infilling", total=len(tasks), unit="places")
    scores = []
    for number, task in enumerate(tasks, 1):
        scores.append(judge(task, ARMS[0], bench, ()))
        progress.advance(number)
    progress.finish()
    return summarise(tasks, scores).as_json()


def _infilling_task(row: Mapping[str, str]) -> EvalTask:
    return EvalTask(
        path="solution.py",
        language="python",
        commit=row["task_id"].rpartition("/")[0],
        prefix=row["prompt"],
        middle=row["canonical_solution"],
        suffix=row["suffix"],
        seen=False,
    )


def _summary(tasks: Sequence[EvalTask], scores: Scores) -> dict[str, Any]:
    languages = sorted({task.language for task in tasks})
    return {
        "arms": {
            name: {"all": summarise(tasks, made).as_json()}
            | {
                language: summarise(tasks, made, [i for i, t in enumerate(tasks) if t.language == language]).as_json()
                for language in languages
            }
            for name, made in scores.items()
        },
        "gain_from_snippets": difference(tasks, scores[SNIPPETS], scores[BARE]).as_json(),
    }


def _header(file: HeldOut, builder: PromptBuilder) -> list[int]:
    family, ids = builder.format.family, builder.format.ids
    assert family.file is not None
    return [ids[family.file], *builder.tokenizer.encode(f"{file.document.path}\n")]
