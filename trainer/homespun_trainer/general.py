"""The general set: code that isn't the company's, to see whether an adapter forgets what the base model knew.

It is made of libraries that this machine has in the languages that were trained on (`libraries`), else of the standard
library of the Python that runs this. Places are cut as training cuts them, always the same for one library, and scored
by bits per byte alone, without snippets, since that tells most in the least time.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from homespun_core.types import EvalTask, Progress
from homespun_trainer.evaluate import Bench, bits_of, build_prompt
from homespun_trainer.intervals import Estimate, Share, change
from homespun_trainer.libraries import Library, files_of
from homespun_trainer.spans import Lines, choose_cut

PLACES, PLACES_OF_EACH = 160, 80
"""Of one library, and of each of several."""
_PER_FILE = 2
_SEED = "general set 1"
_PROMPT_TOKENS = 384
"""Shorter than the server's: what is asked is what the weights know, and it takes a third of the time."""
_MAX_PREFIX, _MAX_SUFFIX = 8_000, 4_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgetting:
    """What an adapter did to a library: candidate minus base model, in bits per byte."""

    library: str
    """In sentences."""
    num_places: int
    base: float
    """Bits per byte of the base model."""
    change: Estimate

    def as_json(self) -> dict[str, object]:
        return {
            "library": self.library,
            "places": self.num_places,
            "base": round(self.base, 5),
            "change": self.change.as_json(),
        }


def forgetting(
    bench: Bench, adapter: str, libraries: Sequence[Library], progress: Progress, *, places: int | None = None
) -> list[Forgetting]:
    """Of the libraries that there is a place in."""
    number = places or (PLACES if len(libraries) == 1 else PLACES_OF_EACH)
    made = [_forgetting(bench, adapter, library, number, progress) for library in libraries]
    return [found for found in made if found is not None]


def _forgetting(bench: Bench, adapter: str, library: Library, places: int, progress: Progress) -> Forgetting | None:
    tasks = general_tasks(library, places)
    if not tasks:
        return None
    limits = replace(bench.builder.limits, max_tokens=min(_PROMPT_TOKENS, bench.builder.limits.max_tokens))
    short = replace(bench, builder=replace(bench.builder, limits=limits), repo=library.repo)
    progress.start(f"checking what it forgot of {library.name}", total=len(tasks), unit="places")
    rows = []
    for number, task in enumerate(tasks):
        prompt = build_prompt(task, short, ())
        rows.append([bits_of(prompt, task.middle, version, short) for version in (None, adapter)])
        progress.advance(number + 1)
    progress.finish()
    base, adapted = (Share(tops=[row[i][0] for row in rows], bottoms=[row[i][2] for row in rows]) for i in range(2))
    return Forgetting(
        library=library.name,
        num_places=len(tasks),
        base=sum(base.tops) / sum(base.bottoms),
        change=change(adapted, base, [task.commit for task in tasks]),
    )


def general_tasks(library: Library, places: int) -> list[EvalTask]:
    """The same places on every machine with this version of it."""
    root, files, rng = library.root, files_of(library), random.Random(_SEED)
    rng.shuffle(files)
    tasks: list[EvalTask] = []
    for path in files:
        if len(tasks) >= places or root is None:
            break
        tasks += _places(path, path.relative_to(root).as_posix(), library.languages[0], rng)
    return tasks[:places]


def _places(path: Path, name: str, language: str, rng: random.Random) -> Iterator[EvalTask]:
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
            language=language,
            commit=name,
            prefix=text[: cut.start][-_MAX_PREFIX:],
            middle=text[cut.start : cut.end],
            suffix=text[cut.end :][:_MAX_SUFFIX],
            seen=False,
        )
