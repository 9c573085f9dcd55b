"""The VS Code extension offers what the language server understands, and says where."""

from __future__ import annotations

import json

import pytest

from editors.vscode import settings
from homespun_lsp.options import OPTIONS

MANIFEST = json.loads((settings.FOLDER / "package.json").read_text())
PROPERTIES = MANIFEST["contributes"]["configuration"]["properties"]


def test_the_settings_are_the_servers_options() -> None:
    assert settings.properties() == PROPERTIES, "renew them: python lsp/editors/vscode/settings.py"
    names = {name.removeprefix("homespun.") for name in PROPERTIES}
    assert names == set(OPTIONS) | {"command", "trace.server"}


@pytest.mark.parametrize("name", ["serverUrl", "token", "sendEvents"])
def test_a_workspace_sets_nothing_about_where_code_goes(name: str) -> None:
    assert PROPERTIES[f"homespun.{name}"]["scope"] == "application"


def test_an_option_that_nobody_thought_of_is_not_for_workspaces() -> None:
    assert settings._scope("inventedTomorrow") == "application"


def test_every_command_has_a_title() -> None:
    titles = {command["command"]: command["title"] for command in MANIFEST["contributes"]["commands"]}
    assert all(titles.values()) and len(titles) == len(set(titles.values()))


def test_texts_are_sentences_that_send_nobody_elsewhere() -> None:
    texts = [about["markdownDescription"] for about in PROPERTIES.values()]
    assert all(text.endswith(".") and not text[0].islower() and "see " not in text for text in texts)
