"""Which repositories a base model may be made of. Nothing that isn't on the list is ever opened."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from homespun_core.errors import ConfigError

PERMISSIVE = frozenset(
    ("0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "ISC", "MIT", "PSF-2.0", "Unlicense", "Zlib")
)
_ALSO = {"typescript": ("tsx",), "cpp": ("c",)}
"""A list says `cpp`; headers are C by their names."""
MEASURED_ON = frozenset(
    (
        "caddyserver/caddy",
        "django-oscar/django-oscar",
        "kedro-org/kedro",
        "locustio/locust",
        "mitmproxy/mitmproxy",
        "mozilla/pontoon",
        "netbox-community/netbox",
        "trpc/trpc",
        "wagtail/wagtail",
    )
)
"""What our benchmarks are about: a model that has seen them would look better than it is."""
_HEAD = "-"
_NAME = re.compile(r"(?!\.)[\w.-]+/(?!\.)[\w.-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """A line of the list."""

    name: str
    """owner/name"""
    licence: str
    languages: frozenset[str]
    commit: str | None
    """Hex, perhaps abbreviated; None takes the head."""

    @property
    def folder(self) -> str:
        return self.name.replace("/", "+")

    @property
    def short(self) -> str:
        """What a prompt calls it."""
        return self.name.partition("/")[2]


def read_allow_list(path: Path | None) -> tuple[Allowed, ...]:
    """The list that comes with Homespun, or another. Raises ConfigError: unreadable, malformed, not permissive."""
    if path is None:
        return parse(files(__package__).joinpath("repositories.txt").read_text(encoding="utf-8"), "repositories.txt")
    try:
        return parse(path.read_text(encoding="utf-8"), str(path))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: the list can't be read ({error})") from error


def parse(text: str, origin: str) -> tuple[Allowed, ...]:
    rows = [(n, words) for n, line in enumerate(text.splitlines(), 1) if (words := line.partition("#")[0].split())]
    allowed = {entry.name: entry for entry in (_entry(words, f"{origin}:{n}") for n, words in rows)}
    if len(allowed) < len(rows):
        raise ConfigError(f"{origin}: a repository stands there twice; remove one of the lines")
    return tuple(allowed.values())


def chosen(allowed: Sequence[Allowed], names: Sequence[str]) -> tuple[Allowed, ...]:
    """All, or those named. Raises ConfigError for a name that isn't on the list."""
    known = {entry.name: entry for entry in allowed}
    for name in names:
        if name not in known:
            raise ConfigError(
                f"--only: {name} is not on the allow-list; a list of your own goes in with --repositories FILE"
            )
    return tuple(known[name] for name in names) if names else tuple(allowed)


def _entry(words: Sequence[str], where: str) -> Allowed:
    if len(words) != 4 or not _NAME.fullmatch(words[0]):
        raise ConfigError(f"{where}: want `owner/name licence languages commit`, or - as the commit")
    name, licence, languages, commit = words
    if not set(licence.split("-or-")) <= PERMISSIVE:
        raise ConfigError(f"{where}: {name} is under {licence}; permissive ones are {', '.join(sorted(PERMISSIVE))}")
    if name.lower() in MEASURED_ON:
        raise ConfigError(f"{where}: {name} is what models are measured on; take it off the list")
    named = languages.split(",")
    return Allowed(
        name=name,
        licence=licence,
        languages=frozenset((*named, *(also for language in named for also in _ALSO.get(language, ())))),
        commit=None if commit == _HEAD else commit,
    )
