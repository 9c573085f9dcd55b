"""From the facts of a report (`report.json`) to its page. What isn't among the facts has no section."""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from homespun_trainer.page import evidence, run, scores
from homespun_trainer.page.markup import Html, join, tag
from homespun_trainer.page.style import STYLE

PAGE = "report.html"
Facts = Mapping[str, Any]


def file(text: str) -> Path:
    """Where a page is to go, as an argument of a command: hours later it couldn't be written to a directory."""
    path = Path(text).expanduser()
    if not text.strip() or text.endswith("/") or path.is_dir():
        raise ArgumentTypeError(f"{text!r} is a directory; name a file, such as {path / PAGE}")
    return path


def write(folder: Path, repository: str, facts: Facts) -> Path:
    path = folder / PAGE
    path.write_text(render(repository, facts), encoding="utf-8")
    return path


def render(repository: str, facts: Facts) -> str:
    title = f"Adapter for {repository}" if "promote" in facts else f"Completions in {repository}"
    head = join(
        Html('<meta charset="utf-8">'),
        Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        Html("<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"),
        tag("title", f"{title} · Homespun"),
        tag("style", Html(STYLE)),
    )
    body = tag("main", tag("h1", title), *_sections(facts))
    return "<!doctype html>\n" + tag("html", tag("head", head), tag("body", body), lang="en") + "\n"


def _sections(facts: Facts) -> list[Html | None]:
    return [
        evidence.verdict(facts),
        scores.tiles(facts),
        scores.arms(facts),
        scores.differences(facts),
        scores.repositories(facts),
        scores.languages(facts),
        scores.novelty(facts),
        evidence.general(facts),
        evidence.canaries(facts),
        scores.examples(facts),
        run.training(facts),
        run.corpus(facts),
    ]
