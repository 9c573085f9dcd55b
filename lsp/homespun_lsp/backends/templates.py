"""Prompts with a model's own control tokens, for servers that pass on what they are sent.

All that is known of the model is its name; the tables of `core/homespun_core/fim.py` say the rest.
"""

from __future__ import annotations

import re

from homespun_core.fim import FAMILIES, PREFIX, SUFFIX, FimFamily

_NAMED = (
    ("homespun", "homespun"),
    ("qwen", "qwen2.5-coder"),
    ("codegemma", "codegemma"),
    ("mellum", "mellum"),
    ("starcoder", "starcoder2"),
    ("granite-4", "granite-4"),
    ("granite", "granite"),
    ("deepseek-coder", "deepseek-coder"),
    ("codellama", "codellama"),
    ("code-llama", "codellama"),
    ("codestral", "codestral"),
)
"""Parts of models' names, the more special first."""
FAMILY_NAMES = tuple(family.name for family in FAMILIES)


def family_named(name: str) -> FimFamily | None:
    return next((family for family in FAMILIES if family.name == name), None)


def family_of_model(model: str) -> FimFamily | None:
    """None where the name says nothing: then the server is given prefix and suffix, and does what it can. llama.cpp's
    are paths, of which folders say nothing either."""
    name = re.split(r"[/\\]", model.lower())[-1]
    return next((family_named(family) for part, family in _NAMED if part in name), None)


def fill_in(family: FimFamily, prefix: str, suffix: str) -> str:
    slots = {PREFIX: prefix, SUFFIX: suffix}
    return "".join(slots.get(piece, _spelled(piece)) for piece in family.layout).removeprefix(" ")


def stops(family: FimFamily) -> list[str]:
    """For servers that print control tokens instead of ending at them."""
    return [_spelled(token).strip() for token in family.end]


def _spelled(token: str) -> str:
    """CodeLlama's begin with a space, which its vocabulary writes as ▁. Those of DeepSeek have that very character in
    them."""
    return f" {token[1:]}" if token.startswith("▁") else token
