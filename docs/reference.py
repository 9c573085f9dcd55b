"""Reference pages that are made of the code: settings, and the command line as `--help` has it."""

from __future__ import annotations

import argparse
import importlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import Field
from typing import Any

from homespun_core.cli import VERBS
from homespun_core.config import SETTINGS

_WIDTH = "100"


def settings() -> str:
    """The last column has the verbs that take it as a flag."""
    return "\n".join(
        ["| setting | default | what it does | flag of |", "|---|---|---|---|", *map(_setting, SETTINGS.values())]
    )


def _setting(item: Field[Any]) -> str:
    choices = f"; one of {', '.join(item.metadata['choices'])}" if item.metadata["choices"] else ""
    verbs = ", ".join(f"[{verb}](command-line.md#homespun-{verb})" for verb in item.metadata["verbs"])
    name = f'<span id="{item.name}">`{item.name}`</span>'
    return f"| {name} | {_code(item.default)} | {item.metadata['help']}{choices} | {verbs} |"


def _code(default: object) -> str:
    shown = str(default).lower() if isinstance(default, bool) else str(default)
    return f"`{shown}`" if shown else ""


def command_line() -> str:
    """A section for each verb, and one below it for each of its own verbs."""
    with _as_wide_as_a_page():
        return "\n\n".join(text for verb in VERBS for text in _verb(verb))


def _verb(name: str) -> Iterator[str]:
    parser = argparse.ArgumentParser(
        prog=f"homespun {name}",
        description=VERBS[name].help.capitalize() + ".",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    importlib.import_module(VERBS[name].module).add_arguments(parser)
    yield f"## homespun {name}\n\nNeeds the extra `{VERBS[name].extra}`.\n\n{_help(parser)}"
    for word, below in _own_verbs(parser).items():
        yield f"### homespun {name} {word}\n\n{_help(below)}"


def _help(parser: argparse.ArgumentParser) -> str:
    return f"```text\n{parser.format_help().rstrip()}\n```"


def _own_verbs(parser: argparse.ArgumentParser) -> Mapping[str, Any]:
    """argparse has no public way to ask."""
    choices = [action.choices for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return choices[0] if choices else {}


@contextmanager
def _as_wide_as_a_page() -> Iterator[None]:
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = _WIDTH  # what argparse goes by
    try:
        yield
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before
