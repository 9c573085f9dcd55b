"""What the editor can set, over the settings of the command: initializationOptions and the section `homespun`."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

from homespun_core.config import Settings
from homespun_lsp.backends import AUTO, BACKENDS
from homespun_lsp.backends.templates import FAMILY_NAMES

SECTION = "homespun"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    server_url: str
    token: str = field(default="", repr=False)
    enable: bool = True
    languages: Mapping[str, bool] = field(default_factory=dict)
    """By the editor's name of the language, whether to suggest in it while typing; `*` is all others."""
    ignored_files: bool = False
    """Whether to suggest in files that git ignores."""
    multi_line: str = "auto"
    """Suggestions of several lines: `auto` where a block is being opened or in an empty line of one."""
    prefetch: bool = True
    """Whether to ask for what follows a suggestion before it is accepted, and to have the place of a resting cursor
    computed."""
    editor_context: bool = True
    """Whether pieces of other files that are open in the editor are sent along."""
    debounce_ms: int | None = None
    """After a key, before the server is asked; None goes by the pace of typing and of the server."""
    max_tokens: int = 64
    timeout_ms: int = 10_000
    send_events: bool = True
    """Whether the server is told what became of suggestions (counts, no code) and who the user is (a random id)."""
    completion: str = "auto"
    """Entries in the editor's completion menu: `auto` where the editor doesn't say that it can show ghost text."""
    completion_deadline_ms: int = 250
    """Editors hold the menu of all language servers back until we have answered."""
    send_status: str = "auto"
    """Notifications `didChangeStatus`: `auto` to editors that don't complain about them."""
    backend: str = "auto"
    """Kind of server: Homespun or a stock one (`backends`)."""
    model: str = ""
    """Which model a stock server is to use; empty where it has one, or for the first that it lists."""
    fim: str = "auto"
    """Whether a stock server gets the text after the cursor as `suffix`, or a prompt in the form of this family."""
    proxy: str = field(default="", repr=False)
    ca_file: str = ""
    client_cert: str = ""
    client_key: str = ""
    servers: Mapping[str, object] = field(default_factory=dict, repr=False)
    """Options for some folders or repositories (`servers`)."""


@dataclass(frozen=True, slots=True)
class _Option:
    field: str
    kind: type
    low: int = 0
    choices: tuple[str, ...] = ()
    values: type | None = None
    """Of an object."""


# As the editor spells them. Documented in lsp/editors/README.md.
OPTIONS: dict[str, _Option] = {
    "serverUrl": _Option("server_url", str),
    "token": _Option("token", str),
    "enable": _Option("enable", bool),
    "languages": _Option("languages", dict, values=bool),
    "ignoredFiles": _Option("ignored_files", bool),
    "multiLine": _Option("multi_line", str, choices=("auto", "always", "never")),
    "prefetch": _Option("prefetch", bool),
    "editorContext": _Option("editor_context", bool),
    "debounceMs": _Option("debounce_ms", int),
    "maxTokens": _Option("max_tokens", int, low=1),
    "timeoutMs": _Option("timeout_ms", int, low=1),
    "sendEvents": _Option("send_events", bool),
    "completion": _Option("completion", str, choices=("auto", "on", "off")),
    "completionDeadlineMs": _Option("completion_deadline_ms", int),
    "sendStatus": _Option("send_status", str, choices=("auto", "on", "off")),
    "backend": _Option("backend", str, choices=(AUTO, *BACKENDS)),
    "model": _Option("model", str),
    "fim": _Option("fim", str, choices=("auto", "suffix", *FAMILY_NAMES)),
    "proxy": _Option("proxy", str),
    "caFile": _Option("ca_file", str),
    "clientCert": _Option("client_cert", str),
    "clientKey": _Option("client_key", str),
    "servers": _Option("servers", dict),
}
_KINDS: Mapping[type, str] = {str: "text", bool: "true or false", int: "a whole number", dict: "an object"}
_UNTIL_CONFIGURED = "untilConfigured"
_OF_THE_EDITOR = {"trace", "editorInfo", "editorPluginInfo", _UNTIL_CONFIGURED}
"""The first shares our section in VS Code, where the client library reads it; the next are Copilot's."""


def defaults(settings: Settings) -> Options:
    return Options(server_url=settings.server_url, token=settings.api_token)


def merge(base: Options, given: object) -> tuple[Options, dict[str, str]]:
    """`base` with what is given and makes sense; and for each option that doesn't, by name, what is wrong with it."""
    values: dict[str, Any] = {}
    problems: dict[str, str] = {}
    for name, value in section_of(given).items():
        option = OPTIONS.get(name)
        if option is None:
            if name not in _OF_THE_EDITOR:
                problems[name] = f"unknown option{_nearest(name)}"
        elif value is not None and value != "":  # editors send null or nothing for what isn't set
            problem = _problem(option, value)
            if problem:
                problems[name] = f"{problem}; using the default"
            else:
                values[option.field] = value
    return replace(base, **values), problems


def until_configured(initial: object) -> Mapping[str, object] | None:
    """Of initializationOptions, what the editor will say again, or no more, when it is asked for its configuration: an
    editor that sends this needn't be waited for."""
    found = section_of(initial).get(_UNTIL_CONFIGURED)
    return found if isinstance(found, Mapping) else None


def section_of(given: object) -> Mapping[str, object]:
    """Some editors send the section alone, others an object of sections."""
    if not isinstance(given, Mapping):
        return {}
    section = given.get(SECTION, given)
    return section if isinstance(section, Mapping) else {}


def are_given(settings: object) -> bool:
    """Whether these are our options, none of them and misspelt ones included: what was set before may be gone."""
    return isinstance(settings, Mapping) and (SECTION in settings or bool(OPTIONS.keys() & settings.keys()))


def _problem(option: _Option, value: object) -> str | None:
    """Never repeats the value: it may be a secret, in the wrong place or misspelt."""
    if not isinstance(value, option.kind) or (isinstance(value, bool) and option.kind is not bool):
        return f"is not {_KINDS[option.kind]}"
    if isinstance(value, dict) and option.values and not all(isinstance(v, option.values) for v in value.values()):
        return f"has a value that is not {_KINDS[option.values]}"
    if isinstance(value, int) and value < option.low:
        return f"is below {option.low}"
    if option.choices and value not in option.choices:
        return f"is not one of {', '.join(option.choices)}"
    return server_url_problem(str(value)) if option.field == "server_url" else None


def server_url_problem(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        return "is not an http:// or https:// address"
    return "holds a user or password; the option 'token' is for those" if "@" in parts.netloc else None


def token_problem(token: str) -> str | None:
    """A header holds nothing else."""
    return None if token.isascii() and token.isprintable() else "holds characters that no token has; copy it again"


def _nearest(name: str) -> str:
    close = difflib.get_close_matches(name, OPTIONS, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; the options are {', '.join(OPTIONS)}"
