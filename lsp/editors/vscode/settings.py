"""The language server's options as settings of the extension: `python settings.py` writes them into package.json.

Their descriptions are those of the table in lsp/editors/README.md.
"""

from __future__ import annotations

import json
import re
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any

from homespun_lsp import options

FOLDER = Path(__file__).parent
_TYPES: dict[type, str] = {
    str: "string",
    bool: "boolean",
    int: "integer",
    dict: "object",
    list: "array",
    tuple: "array",
}
_BY_WORKSPACE = {
    "enable",
    "languages",
    "multiLine",
    "prefetch",
    "debounceMs",
    "maxTokens",
    "timeoutMs",
    "completion",
    "completionDeadlineMs",
}
"""What a repository that is open may set. Never where code and token are sent, nor what is told of the user."""
_COMMAND = {
    "type": "string",
    "default": "",
    "scope": "machine",
    "markdownDescription": "The program `homespun`, if it isn't found by itself.",
}
_TRACE = {
    "type": "string",
    "enum": ["off", "messages", "verbose"],
    "default": "off",
    "scope": "window",
    "markdownDescription": "Log what the editor and the language server say to one another; verbose shows code.",
}


def properties() -> dict[str, object]:
    described = descriptions((FOLDER.parent / "README.md").read_text())
    defaults = {field.name: _default(field) for field in fields(options.Options)}
    ours: dict[str, object] = {"homespun.command": _COMMAND, "homespun.trace.server": _TRACE}
    return ours | {
        f"{options.SECTION}.{name}": _property(name, option, defaults[option.field], described[name])
        for name, option in options.OPTIONS.items()
    }


def descriptions(readme: str) -> dict[str, str]:
    """By option, the last column of the table as a sentence, without what leads nowhere in VS Code."""
    section = readme.partition("## Options\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \|.*\| (.+?) \|$", section, re.MULTILINE)
    return {name: _sentence(text) for name, text in rows}


def _sentence(text: str) -> str:
    pointless = r"[,;] see (below|\[[^]]+\]\(#[^)]*\))"
    plain = re.sub(r"\[([^]]+)\]\(#[^)]*\)", r"\1", re.sub(pointless, "", text))
    return f"{plain[0].upper()}{plain[1:]}."


def _property(name: str, option: Any, default: object, description: str) -> dict[str, object]:
    found: dict[str, object] = {"type": _TYPES[option.kind], "scope": _scope(name)}
    if option.choices:
        found["enum"] = list(option.choices)
    if option.kind is int and option.low is not None:
        found["minimum"] = option.low
    return found | _shown(default) | {"markdownDescription": description}


def _scope(name: str) -> str:
    """`application`: of the user, on whichever machine the folder is that is open."""
    return "window" if name in _BY_WORKSPACE else "application"


def _shown(default: object) -> dict[str, object]:
    """Only what is set reaches the server, so that this is for the reader."""
    return {} if default is None else {"default": default}


def _default(field: Field[Any]) -> object:
    if field.name == "server_url":
        return "http://127.0.0.1:8080"
    if field.default_factory is not MISSING:
        return field.default_factory()
    return None if field.default is MISSING else field.default


if __name__ == "__main__":
    manifest = json.loads((FOLDER / "package.json").read_text())
    manifest["contributes"]["configuration"]["properties"] = properties()
    (FOLDER / "package.json").write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")
