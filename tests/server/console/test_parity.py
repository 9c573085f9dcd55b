"""What the console shows and does has a command."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
from pathlib import Path

import pytest
from fastapi.routing import iter_route_contexts

from homespun_core.cli import VERBS
from homespun_server.console.adapters import DECISIONS
from homespun_server.console.http import people, repositories
from tests.server.console.conftest import Company

README = (Path(__file__).parents[3] / "server" / "README.md").read_text("utf-8")
SECTION = README.partition("### The same as commands\n")[2].partition("\n## ")[0]
ROWS = [tuple(cell.strip() for cell in line.split("|")[1:-1]) for line in SECTION.splitlines() if "/console" in line]
COMMANDS = sorted({words for row in ROWS for words in re.findall(r"`(homespun [^`]+)`", row[2])})
ACTIONS = {*DECISIONS, *people._CHANGES, *repositories._KINDS, "add", "cancel", "retry"}


def test_every_page_is_in_the_table(company: Company) -> None:
    routes = {route.path_format or "" for route in iter_route_contexts(company.app.routes)}
    pages = {path for path in routes if re.match(r"/console(/|$)", path)}
    assert len(pages) > 12 and pages == {path for row in ROWS for path in re.findall(r"`([^`]+)`", row[1])}


def test_every_action_is_in_the_table() -> None:
    assert {action for row in ROWS for action in re.findall(r"`([^`]+)`", row[0])} == ACTIONS


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_the_table_is_one(command: str) -> None:
    verb, *words = shlex.split(command)[1:]
    parser = argparse.ArgumentParser(exit_on_error=False)
    importlib.import_module(VERBS[verb].module).add_arguments(parser)
    parser.parse_args(words)
