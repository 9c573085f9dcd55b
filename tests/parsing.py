"""Parsing in the test's own process: starting another takes longer than most tests, and it can't be looked into."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from homespun_core.types import ModelFiles, Progress, Tokenizer
from homespun_indexer import build
from homespun_indexer.build import Job, Outcome, SpareBuilder


def parse_here(replace: Callable[[Any, str, Any], None]) -> None:
    """What is built in several parts still is so in several processes."""
    apart = build._build_apart

    def here(
        jobs: Sequence[Job], tokenizer: Tokenizer, model: ModelFiles, progress: Progress, spare: SpareBuilder | None
    ) -> list[list[Outcome]]:
        if len(jobs) > 1:
            return apart(jobs, tokenizer, model, progress, spare)
        return [build.build_segment(jobs[0], tokenizer, progress)]

    replace(build, "_build_apart", here)
