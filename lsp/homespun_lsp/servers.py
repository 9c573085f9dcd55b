"""Which server a file belongs to. Pure, but for links in the folders that are named.

Only the user says so, in the editor's settings or a file of their own: never anything in the repository, which would
then decide where its reader's token is sent.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path, PurePath

from homespun_core.paths import is_remote, repo_identity
from homespun_lsp.network import Route
from homespun_lsp.options import Options, merge

_OF_ONE_SERVER = frozenset(
    (
        "serverUrl", "token", "enable", "backend", "model", "fim", "proxy", "caFile", "clientCert", "clientKey",
        "maxTokens", "timeoutMs", "sendEvents",
    )
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    url: str
    """Without a slash at the end."""
    token: str = field(default="", repr=False)
    """Empty where the one kept by `homespun login` counts."""
    backend: str = "auto"
    model: str = ""
    fim: str = "auto"
    route: Route = field(default_factory=Route)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    place: str
    """A folder, or the beginning of a repository's identity (`git.example.com/team`), whose parts may hold *."""
    options: Options
    real_place: str = ""
    """Where links in the folder's path lead."""

    def fits(self, paths: Collection[Path], identity: str | None) -> bool:
        if _is_folder(self.place):
            return any(path.is_relative_to(place) for path in paths for place in (self.place, self.real_place) if place)
        wanted, found = self.place.split("/"), (identity or "").split("/")
        return len(found) >= len(wanted) and all(map(fnmatchcase, found, wanted))


@dataclass(frozen=True, slots=True, kw_only=True)
class Servers:
    """The server of everything else, and rules for some places."""

    default: Options
    rules: tuple[Rule, ...] = ()

    @property
    def options(self) -> tuple[Options, ...]:
        return (self.default, *(rule.options for rule in self.rules))

    @property
    def all(self) -> frozenset[Server]:
        return frozenset(map(server_of, self.options))

    def options_for(self, paths: Collection[Path], remote: str | None) -> Options:
        """The longest rule that fits; of a folder and a repository of equal depth, the folder. `paths` are all of the
        file: as the editor names it, and where links lead."""
        identity = repo_identity(remote) if remote and is_remote(remote) else None
        fitting = [rule for rule in self.rules if rule.fits(paths, identity)]
        return max(fitting, key=_specificity).options if fitting else self.default

    def at(self, url: str) -> Options:
        """How the server of that address is reached, for signing in to it."""
        known = (*(rule.options for rule in self.rules), self.default)
        named = (options for options in known if _plain(options.server_url) == _plain(url))
        return next(named, replace(self.default, server_url=url, token=""))


def servers_of(options: Options) -> tuple[Servers, dict[str, str]]:
    """And what is wrong, by option. Where an entry makes no sense nothing is asked: the code of one customer must not
    go to the server of another because of a typo."""
    rules: list[Rule] = []
    problems: dict[str, str] = {}
    for key, entry in options.servers.items():
        chosen, wrong = _merged(options, entry)
        problems |= {f"servers[{key!r}].{name}": f"{why}; nothing is asked there" for name, why in wrong.items()}
        try:
            place = _place(key)
            real = os.path.realpath(place) if _is_folder(place) else ""
        except (RuntimeError, ValueError):  # ~ of somebody who isn't there, or a NUL
            problems[f"servers[{key!r}]"] = "is no folder of this machine; nothing is asked there"
            continue
        rules.append(Rule(place=place, real_place=real, options=replace(chosen, enable=chosen.enable and not wrong)))
    return Servers(default=options, rules=tuple(rules)), problems


def server_of(options: Options) -> Server:
    """As OpenAI's clients are given addresses, with the version at the end, is fine too."""
    route = Route(
        proxy=options.proxy, ca_file=options.ca_file, client_cert=options.client_cert, client_key=options.client_key
    )
    return Server(
        url=_plain(options.server_url),
        token=options.token,
        backend=options.backend,
        model=options.model,
        fim=options.fim,
        route=route,
    )


def _plain(url: str) -> str:
    return url.rstrip("/").removesuffix("/v1").rstrip("/")


def _merged(options: Options, entry: object) -> tuple[Options, Mapping[str, str]]:
    """A token is for the server it was given with, and for no other."""
    if not isinstance(entry, Mapping):
        return options, {"": "is not an object"}
    is_other = _plain(str(entry.get("serverUrl") or options.server_url)) != _plain(options.server_url)
    base = replace(options, servers={}, token="" if is_other else options.token)
    merged, wrong = merge(base, {"homespun": entry})
    general = {name: "is for all servers" for name in entry if name not in _OF_ONE_SERVER and name not in wrong}
    plain = {name: why.removesuffix("; using the default") for name, why in wrong.items()}
    return merged, plain | general


def _place(key: str) -> str:
    if is_remote(key):
        return repo_identity(key)
    if _is_folder(key):
        return str(Path(key).expanduser())
    host, slash, path = key.strip("/").partition("/")
    return host.lower() + slash + path


def _is_folder(place: str) -> bool:
    return place.startswith("~") or PurePath(place).is_absolute()


def _specificity(rule: Rule) -> tuple[int, bool]:
    return len(PurePath(rule.place).parts), _is_folder(rule.place)
