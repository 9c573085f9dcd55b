"""The general set: code that isn't the company's, to see whether an adapter forgets what the base model knew.

It is the standard library of the Python that runs this: there on every machine, read by nobody's adapter, and nothing
has to be shipped. Places are cut as training cuts them, always the same for one Python, and scored by bits per byte
alone, without snippets, since that tells most in the least time.
"""

from __future__ import annotations

import random
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from homespun_core.types import EvalTask, Progress
from homespun_trainer.evaluate import Bench, bits_of, build_prompt
from homespun_trainer.intervals import Estimate, Share, change
from homespun_trainer.spans import Lines, choose_cut

PLACES = 160
_PER_FILE = 2
_SEED = "general set 1"
_PROMPT_TOKENS = 384
"""Shorter than the server's: what is asked is what the weights know, and it takes a third of the time."""
_SIZES = (2_000, 200_000)
"""Bytes of a file: smaller ones say little, larger ones are tables."""
_MAX_PREFIX, _MAX_SUFFIX = 8_000, 4_000
_NOT_LIBRARY = {"test", "tests", "site-packages", "dist-packages", "idlelib", "lib2to3", "__pycache__", "encodings"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgetting:
    """What an adapter did to the general set: candidate minus base model, in bits per byte."""

    num_places: int
    base: float
    """Bits per byte of the base model."""
    change: Estimate

    def as_json(self) -> dict[str, object]:
        return {"places": self.num_places, "base": round(self.base, 5), "change": self.change.as_json()}


def forgetting(bench: Bench, adapter: str, progress: Progress, *, places: int = PLACES) -> Forgetting | None:
    """None where there is no standard library in source form."""
    tasks = general_tasks(places)
    if not tasks:
        return None
    limits = replace(bench.builder.limits, max_tokens=min(_PROMPT_TOKENS, bench.builder.limits.max_tokens))
    short = replace(bench, builder=replace(bench.builder, limits=limits), repo="cpython")
    progress.start("checking what it forgot of other code", total=len(tasks), unit="places")
    rows = []
    for number, task in enumerate(tasks):
        prompt = build_prompt(task, short, ())
        rows.append([bits_of(prompt, task.middle, version, short) for version in (None, adapter)])
        progress.advance(number + 1)
    progress.finish()
    base, adapted = (Share(tops=[row[i][0] for row in rows], bottoms=[row[i][2] for row in rows]) for i in range(2))
    return Forgetting(
        num_places=len(tasks),
        base=sum(base.tops) / sum(base.bottoms),
        change=change(adapted, base, [task.commit for task in tasks]),
    )


def general_tasks(places: int, root: Path | None = None) -> list[EvalTask]:
    """The same places on every machine with this Python; `root` is its library."""
    folder = root or Path(sysconfig.get_path("stdlib"))
    rng = random.Random(_SEED)
    files = _files(folder)
    rng.shuffle(files)
    tasks: list[EvalTask] = []
    for path in files:
        if len(tasks) >= places:
            break
        tasks += _places(path, path.relative_to(folder).as_posix(), rng)
    return tasks[:places]


def _files(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.rglob("*.py")
        if not _NOT_LIBRARY & set(path.relative_to(folder).parts) and _SIZES[0] <= path.stat().st_size <= _SIZES[1]
    )


def _places(path: Path, name: str, rng: random.Random) -> Iterator[EvalTask]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return
    lines = Lines.of(text)
    for _ in range(_PER_FILE):
        cut = choose_cut(lines, rng)
        if cut is None or cut.start == cut.end:
            continue
        yield EvalTask(
            path=name,
            language="python",
            commit=name,
            prefix=text[: cut.start][-_MAX_PREFIX:],
            middle=text[cut.start : cut.end],
            suffix=text[cut.end :][:_MAX_SUFFIX],
            seen=False,
        )
