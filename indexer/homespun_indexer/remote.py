"""The host that a repository is cloned and fetched from: which addresses are asked, and how we log in there."""

from __future__ import annotations

import base64
import ipaddress
import os
import re
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self
from urllib.parse import unquote, urlsplit

from homespun_core.errors import RepositoryError
from homespun_core.paths import hide_credentials
from homespun_core.repositories import RepositoryConfig
from homespun_core.storage import scratch
from homespun_core.types import Progress
from homespun_indexer import packing
from homespun_indexer.git import Cap, Git, TooLarge

_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*)://")
_HELPER = re.compile(r"^[A-Za-z0-9][A-Za-z0-9+.-]*::")
_SCP_LIKE = re.compile(r"^(?:[A-Za-z0-9_][\w.-]*@)?[A-Za-z0-9][\w.-]*:(?!//)[^-\s].*$")
_ASK_S = 120
"""Time limit of asking a host for its default branch."""
_TOKEN_BYTES = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """A URL that may be asked, without credentials in it, and the limits of asking."""

    url: str
    timeout_s: int
    max_clone_mb: int
    secrets: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, config: RepositoryConfig, *, timeout_s: int, max_clone_mb: int) -> Self:
        """Of a checked address. What the configuration says beats the limits. Raises RepositoryError where a token is
        unusable."""
        url = config.source.strip()
        return cls(
            url=without_credentials(url),
            timeout_s=config.timeout_s or timeout_s,
            max_clone_mb=config.max_clone_mb or max_clone_mb,
            secrets=tuple(_secrets(url, config)),
        )

    def default_branch(self, progress: Progress) -> str:
        words, timeout_s = ("ls-remote", "--symref", "--", self.url, "HEAD"), min(_ASK_S, self.timeout_s)
        asked = self._git.transfer(*words, timeout_s=timeout_s, look=lambda: progress.advance(0))
        for line in asked.decode("utf-8", "replace").splitlines():
            if line.startswith("ref: refs/heads/"):
                return line.split("\t")[0].removeprefix("ref: refs/heads/")
        raise RepositoryError(
            f"{hide_credentials(self.url)}: the repository has no commits yet; push something or name a --branch"
        )

    def clone(self, branch: str, clone: Path, progress: Progress) -> None:
        """Into a temporary directory first: a clone that was interrupted is thrown away, never mistaken for one."""
        options = ["--bare", "--no-tags", "--single-branch", f"--branch={branch}"]
        options += ["--no-recurse-submodules", "--template="]
        with scratch(clone) as tmp:
            cap = Cap(tmp, self.max_clone_mb)
            words = ("clone", "--quiet", *options, "--", self.url, str(tmp))
            self._git.transfer(*words, timeout_s=self.timeout_s, look=lambda: progress.advance(cap.check()))
            cap.check()  # it may have been faster than we looked
            try:
                tmp.rename(clone)
            except OSError:
                if not clone.is_dir():  # else another process has cloned it meanwhile, which is as good
                    raise

    def fetch(self, branch: str, clone: Path, progress: Progress) -> None:
        pack = partial(packing.pack, clone, timeout_s=self.timeout_s, progress=progress)
        try:
            self._fetch(branch, clone, progress)
        except TooLarge:  # what was forced away counts as long as it is there
            if not pack(is_full=True):
                raise
            self._fetch(branch, clone, progress)
        else:
            pack()

    def _fetch(self, branch: str, clone: Path, progress: Progress) -> None:
        options = ["--quiet", "--prune", "--no-tags", "--no-auto-gc"]
        options += ["--no-recurse-submodules", "--no-write-fetch-head"]
        refspec = f"+refs/heads/{branch}:refs/heads/{branch}"
        cap = Cap(clone, self.max_clone_mb)
        cap.check()
        started = time.time()
        try:
            words = ("fetch", *options, "--", self.url, refspec)
            git = self._within(clone)
            git.transfer(*words, timeout_s=self.timeout_s, look=lambda: progress.advance(cap.check()))
        except BaseException:  # Ctrl-C among them
            packing.discard_partial(clone, started)
            raise

    @property
    def _git(self) -> Git:
        return self._within(None)

    def _within(self, clone: Path | None) -> Git:
        protocols = ("http",) if _is_loopback_http(self.url) else ("https", "ssh")
        return Git(git_dir=clone, protocols=protocols, secrets=self.secrets)


def is_url(text: str) -> bool:
    return bool(_SCHEME.match(text) or _SCP_LIKE.match(text))


def without_credentials(url: str) -> str:
    """https logs in by header. In ssh addresses the user is part of the address, and a password has no use."""
    if urlsplit(url).scheme.lower() in ("https", "http"):
        return hide_credentials(url)
    return re.sub(r"(//[^/\s:@]*):[^/\s]*@", r"\1@", url)


def check(source: str) -> None:
    """Refuse what isn't an https or ssh address before git sees it."""
    shown = hide_credentials(source)
    if not source or source.startswith("-") or any(ord(c) < 32 for c in source):
        raise RepositoryError(f"{shown!r} is not a repository; give a directory or an https or ssh URL")
    if _HELPER.match(source):
        raise RepositoryError(
            f"{shown!r}: remote helpers (like ext::) run commands and are refused; use an https or ssh URL"
        )
    scheme = _SCHEME.match(source)
    if scheme is None:
        if _SCP_LIKE.match(source):
            return
        raise RepositoryError(f"{shown!r}: no such directory")
    if scheme[1].lower() not in ("https", "ssh") and not _is_loopback_http(source):
        raise RepositoryError(f"{shown!r}: only https and ssh URLs are read; give a local repository as a plain path")
    if not urlsplit(source).hostname or (urlsplit(source).hostname or "").startswith("-"):
        raise RepositoryError(f"{shown!r}: the URL has no host")


def _is_loopback_http(source: str) -> bool:
    """Plain http is readable and changeable on its way, unless it never leaves this machine."""
    parts = urlsplit(source)
    try:
        return parts.scheme.lower() == "http" and ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return False


def _secrets(url: str, config: RepositoryConfig) -> Iterator[tuple[str, str]]:
    """The header that logs in, as git configuration that holds for the URL's host alone: a token, or what the URL has.

    Raises RepositoryError when the token is missing, or one is given for a URL that has no use for it.
    """
    parts = urlsplit(url)
    token = _token(config)
    if token is not None and parts.scheme.lower() not in ("https", "http"):
        raise RepositoryError(f"{hide_credentials(url)}: a token is for https URLs; remove it, or use the https URL")
    if parts.scheme.lower() not in ("https", "http"):
        return
    if token is not None:
        login = f"{config.user}:{token}"
    elif parts.username is not None:
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    else:
        return
    host = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/"
    yield f"http.{host}.extraHeader", f"Authorization: Basic {base64.b64encode(login.encode()).decode()}"


def _token(config: RepositoryConfig) -> str | None:
    if config.token_env is not None:
        origin, text = f"environment variable {config.token_env}", os.environ.get(config.token_env, "")
    elif config.token_file is not None:
        origin, text = str(config.token_file), _read_token(config.token_file)
    else:
        return None
    token = text.strip()
    if not token or any(ord(c) < 33 for c in token):
        raise RepositoryError(f"{origin}: holds no token; put the token of {hide_credentials(config.source)} there")
    return token


def _read_token(path: Path) -> str:
    try:
        with path.open("rb") as handle:
            if stat.S_IMODE(os.fstat(handle.fileno()).st_mode) & 0o077:
                raise RepositoryError(f"{path}: others can read this token; run `chmod 600 {path}`")
            return handle.read(_TOKEN_BYTES).decode("utf-8", "replace")
    except OSError as error:
        raise RepositoryError(f"{path}: the token can't be read ({error.strerror}); check token_file") from error
