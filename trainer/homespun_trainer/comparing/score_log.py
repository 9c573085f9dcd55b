"""Scores on disk, one a line, so that an evaluation goes on where it was killed and more places cost only themselves.

The file is named after all that the scores depend on, apart from arm and place. It holds completions, which are code:
it stays in the data directory. Times aren't kept: what was measured on another day compares with nothing.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

from homespun_core.types import EvalTask
from homespun_trainer.evaluate import Arm, Score


class ScoreLog:
    """For one process at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._scores: dict[str, Score] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        good = sum(len(line) for line in lines if self._read(line))
        if good != sum(map(len, lines)):
            self._rewrite()
        self._handle = path.open("a", encoding="utf-8")

    def __enter__(self) -> ScoreLog:
        return self

    def __exit__(self, *_: object) -> None:
        self._handle.close()

    def find(self, arm: Arm, task: EvalTask) -> Score | None:
        return self._scores.get(_key(arm, task))

    def add(self, arm: Arm, task: EvalTask, score: Score) -> None:
        key = _key(arm, task)
        self._scores[key] = score
        self._handle.write(_line(key, score))
        self._handle.flush()

    def _read(self, line: bytes) -> bool:
        """False for a line that isn't whole, as a killed process leaves it."""
        try:
            row = json.loads(line)
            key = row.pop("key")
            self._scores[key] = Score(**row | {"milliseconds": None})  # earlier versions wrote them
        except (ValueError, KeyError, TypeError, AttributeError):
            return False
        return line.endswith(b"\n")

    def _rewrite(self) -> None:
        partial = self._path.with_suffix(".partial")
        partial.write_text("".join(_line(k, s) for k, s in self._scores.items()), encoding="utf-8")
        partial.replace(self._path)


def _line(key: str, score: Score) -> str:
    facts = asdict(score)
    del facts["milliseconds"]
    return json.dumps({"key": key, **facts}, ensure_ascii=False) + "\n"


def _key(arm: Arm, task: EvalTask) -> str:
    place = "\0".join((task.path, task.commit, task.prefix, task.middle, task.suffix))
    return f"{arm.key} {hashlib.sha256(place.encode('utf-8', 'surrogatepass')).hexdigest()[:20]}"
