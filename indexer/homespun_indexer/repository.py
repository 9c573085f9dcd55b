"""From what the user typed to a repository we can read: a URL is cloned bare (or fetched), a local one is read in
place."""

from __future__ import annotations

import base64
import ipaddress
import logging
import os
import re
import shutil
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

from homespun_core.errors import RepositoryError
from homespun_core.paths import DataDir, hide_credentials, repo_id, repo_identity, why_unreadable
from homespun_core.repositories import RepositoryConfig, SourceRules
from homespun_core.storage import scratch
from homespun_core.types import Progress
from homespun_indexer.git import Cap, Git, GitFailed

logger = logging.getLogger(__name__)

_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*)://")
_HELPER = re.compile(r"^[A-Za-z0-9][A-Za-z0-9+.-]*::")
_SCP_LIKE = re.compile(r"^(?:[A-Za-z0-9_][\w.-]*@)?[A-Za-z0-9][\w.-]*:(?!//)[^-\s].*$")
_ASK_S = 120
"""Time limit of asking a host for its default branch."""
_TOKEN_BYTES = 10_000
_EVERYTHING = SourceRules()


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """A repository at one commit. Nothing in it is ever written."""

    id: str
    identity: str
    """`host/owner/name`, or the absolute path of a local repository."""
    name: str
    git_dir: Path
    work_tree: Path | None
    """None for bare repositories, clones of ours included; and when another branch than the checked-out one is read."""
    head: str
    """Commit id, hex."""
    branch: str
    groups: tuple[str, ...] = ()
    """Access groups that may see its code; empty is everybody."""
    rules: SourceRules = _EVERYTHING
    max_repo_mb: int | None = None
    """Its own limit; None is the setting's."""
    index_minutes: int | None = None
    """The same."""

    @property
    def is_local(self) -> bool:
        """Whether it is read in place; a clone of ours is named after its URL."""
        return self.identity.startswith("/")

    @property
    def git(self) -> Git:
        return Git(git_dir=self.git_dir, work_tree=self.work_tree)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Remote:
    """A URL that may be asked, without credentials in it, and the limits of asking."""

    url: str
    timeout_s: int
    max_clone_mb: int
    secrets: tuple[tuple[str, str], ...]

    @property
    def git(self) -> Git:
        return self.within(None)

    def within(self, clone: Path | None) -> Git:
        protocols = ("http",) if _is_loopback_http(self.url) else ("https", "ssh")
        return Git(git_dir=clone, protocols=protocols, secrets=self.secrets)


def open_repository(
    source: str | RepositoryConfig,
    data: DataDir,
    *,
    branch: str = "",
    timeout_s: int,
    max_clone_mb: int = 5_000,
    is_fetched: bool = True,
    progress: Progress,
) -> Repository:
    """The repository at `source`: a directory (anywhere inside a repository), or an https or ssh URL.

    A URL is cloned into the data directory the first time and fetched after that: one branch, no tags, no submodules,
    no LFS. While it can't be reached, or without `is_fetched`, what was fetched before is read. The user's git
    configuration isn't read (see `git`), so private URLs need ssh keys or a configured token. What the repository's own
    configuration says beats `branch`, `timeout_s` and `max_clone_mb`. Raises RepositoryError: not a repository, no
    commits, unreachable, too large, unknown branch, an unusable token, or a source that isn't one of the above.
    """
    config = source if isinstance(source, RepositoryConfig) else RepositoryConfig(source=source)
    place, branch = config.source.strip(), config.branch or branch
    if unreadable := why_unreadable(place):
        raise RepositoryError(unreadable)
    local = _local_path(place)
    if local is not None:
        return _open_local(local, branch, config)
    _check_remote(place)
    if not is_fetched and (kept := _kept(_without_credentials(place), data, branch, config)) is not None:
        return kept
    remote = _Remote(
        url=_without_credentials(place),
        timeout_s=config.timeout_s or timeout_s,
        max_clone_mb=config.max_clone_mb or max_clone_mb,
        secrets=tuple(_secrets(place, config)),
    )
    return _open_remote(remote, data, branch, config, progress)


def at_commit(repo: Repository, commit: str) -> Repository:
    """The same repository with another head. Raises RepositoryError when it has no such commit."""
    try:
        found = repo.git.text("rev-parse", "--verify", "--quiet", "--end-of-options", f"{commit}^{{commit}}").strip()
    except GitFailed as error:
        raise RepositoryError(f"{repo.identity}: has no commit {commit!r}; give the id of another") from error
    return replace(repo, head=found, work_tree=None)


def remote_urls(repo: Repository) -> list[str]:
    """The remotes' URLs without credentials, by which clients may know this repository."""
    try:
        lines = repo.git.text("config", "--get-regexp", r"^remote\..*\.url$").splitlines()
    except GitFailed:  # has no remotes
        return []
    written = [line.partition(" ")[2] for line in lines]
    urls = {hide_credentials(url) for url in written if why_unreadable(url) is None}
    return sorted(url for url in urls if _SCHEME.match(url) or _SCP_LIKE.match(url))


def _check_remote(source: str) -> None:
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


def _local_path(source: str) -> Path | None:
    try:
        path = Path(source).expanduser()
        return path if source and path.exists() else None
    except (OSError, RuntimeError, ValueError):  # too long, a user that doesn't exist, a NUL
        return None


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


def _without_credentials(url: str) -> str:
    """https logs in by header. In ssh addresses the user is part of the address, and a password has no use."""
    if urlsplit(url).scheme.lower() in ("https", "http"):
        return hide_credentials(url)
    return re.sub(r"(//[^/\s:@]*):[^/\s]*@", r"\1@", url)


def _open_local(path: Path, branch: str, config: RepositoryConfig) -> Repository:
    top, git_dir = _find_git_dir(path)
    git = Git(git_dir=git_dir, work_tree=top)
    checked_out = _checked_out(git)
    place = top or git_dir
    wanted = branch or checked_out
    head = _commit(git, f"refs/heads/{branch}" if branch else "HEAD", str(place), branch)
    work_tree = top if wanted == checked_out else None
    return _repository(str(place), config, git_dir=git_dir, work_tree=work_tree, head=head, branch=wanted)


def _find_git_dir(path: Path) -> tuple[Path | None, Path]:
    """(top of the work tree or None, git directory) of the repository that holds `path`. By hand: git's own
    search stops at folders of another user, which it can be told to trust only once they are known."""
    start = (path if path.is_dir() else path.parent).resolve()
    for place in (start, *start.parents):
        dot_git = place / ".git"
        if dot_git.exists():
            return place, _git_dir_of(dot_git)
        if (place / "HEAD").is_file() and (place / "objects").is_dir() and (place / "refs").is_dir():
            return None, place
    raise RepositoryError(
        f"{path}: not a git repository; run `git init` and commit something, or give another directory"
    )


def _git_dir_of(dot_git: Path) -> Path:
    """A directory, or in worktrees and submodules a file that names it."""
    if dot_git.is_dir():
        return dot_git
    text = dot_git.read_text(encoding="utf-8", errors="replace").strip()
    target = (dot_git.parent / text.removeprefix("gitdir:").strip()).resolve()
    if not text.startswith("gitdir:") or not (target / "HEAD").is_file():
        raise RepositoryError(f"{dot_git}: names no git directory; repair it with `git worktree repair`")
    return target


def _open_remote(
    remote: _Remote, data: DataDir, branch: str, config: RepositoryConfig, progress: Progress
) -> Repository:
    url = remote.url
    clone = data.clone(repo_id(url))
    progress.start(f"{'Fetching' if clone.is_dir() else 'Cloning'} {hide_credentials(url)}", unit="MB")
    default = None
    try:
        default = None if branch else _default_branch(remote, progress)
        branch = branch or default or ""
        if not clone.is_dir():
            _clone(remote, branch, clone, progress)
        else:
            _fetch(remote, branch, clone, progress)
        if default is not None:  # what is read without a --branch while the host can't be asked
            Git(git_dir=clone).text("symbolic-ref", "HEAD", f"refs/heads/{default}")
    except GitFailed as error:
        branch = branch or _checked_out(Git(git_dir=clone))
        if _is_branch_unknown(error) or not _has_branch(clone, branch):
            raise _explained(url, branch, error) from error
        shown, reason = hide_credentials(url), hide_credentials(error.reason)
        logger.warning("%s: can't be fetched (%s); going on with what was fetched before", shown, reason)
    progress.finish()
    head = _commit(Git(git_dir=clone), f"refs/heads/{branch}", hide_credentials(url), branch)
    return _repository(url, config, git_dir=clone, work_tree=None, head=head, branch=branch)


def _kept(url: str, data: DataDir, branch: str, config: RepositoryConfig) -> Repository | None:
    """The repository as it was fetched last; None when it never was, or not this branch."""
    clone = data.clone(repo_id(url))
    branch = branch or _checked_out(Git(git_dir=clone))
    if not _has_branch(clone, branch):
        return None
    head = _commit(Git(git_dir=clone), f"refs/heads/{branch}", hide_credentials(url), branch)
    return _repository(url, config, git_dir=clone, work_tree=None, head=head, branch=branch)


def _default_branch(remote: _Remote, progress: Progress) -> str:
    words, timeout_s = ("ls-remote", "--symref", "--", remote.url, "HEAD"), min(_ASK_S, remote.timeout_s)
    asked = remote.git.transfer(*words, timeout_s=timeout_s, look=lambda: progress.advance(0))
    for line in asked.decode("utf-8", "replace").splitlines():
        if line.startswith("ref: refs/heads/"):
            return line.split("\t")[0].removeprefix("ref: refs/heads/")
    raise RepositoryError(
        f"{hide_credentials(remote.url)}: the repository has no commits yet; push something or name a --branch"
    )


def _clone(remote: _Remote, branch: str, clone: Path, progress: Progress) -> None:
    """Into a temporary directory first: a clone that was interrupted is thrown away, never mistaken for one."""
    options = ["--bare", "--no-tags", "--single-branch", f"--branch={branch}", "--no-recurse-submodules", "--template="]
    with scratch(clone) as tmp:
        cap = Cap(tmp, remote.max_clone_mb)
        words = ("clone", "--quiet", *options, "--", remote.url, str(tmp))
        remote.git.transfer(*words, timeout_s=remote.timeout_s, look=lambda: progress.advance(cap.check()))
        cap.check()  # it may have been faster than we looked
        try:
            tmp.rename(clone)
        except OSError:
            if not clone.is_dir():  # else another process has cloned it meanwhile, which is as good
                raise


def _fetch(remote: _Remote, branch: str, clone: Path, progress: Progress) -> None:
    options = ["--quiet", "--prune", "--no-tags", "--no-auto-gc", "--no-recurse-submodules", "--no-write-fetch-head"]
    refspec = f"+refs/heads/{branch}:refs/heads/{branch}"
    cap = Cap(clone, remote.max_clone_mb)
    cap.check()
    started = time.time()
    try:
        words = ("fetch", *options, "--", remote.url, refspec)
        git = remote.within(clone)
        git.transfer(*words, timeout_s=remote.timeout_s, look=lambda: progress.advance(cap.check()))
    except BaseException:  # Ctrl-C among them
        _discard_partial(clone, started)
        raise


def _discard_partial(clone: Path, since: float) -> None:
    """What a fetch that was killed couldn't remove itself; otherwise one that never gets through would fill the
    disk."""
    for partial in (clone / "objects").rglob("tmp_*"):
        try:
            if partial.stat().st_mtime >= since - 1:
                shutil.rmtree(partial) if partial.is_dir() else partial.unlink()
        except OSError:  # gone meanwhile, or another's; its size counts until it is removed
            continue


def _explained(url: str, branch: str, error: GitFailed) -> RepositoryError:
    shown, reason = hide_credentials(url), hide_credentials(error.reason)
    if _is_branch_unknown(error):
        return RepositoryError(f"{shown}: has no branch {branch!r}")
    return RepositoryError(
        f"{shown}: can't be read ({reason}); check the address, the network and your ssh key or token"
    )


def _is_branch_unknown(error: GitFailed) -> bool:
    return "couldn't find remote ref" in error.reason or "Remote branch" in error.reason


def _checked_out(git: Git) -> str:
    """The current branch; empty when HEAD is detached, or there is no repository."""
    try:
        return git.text("symbolic-ref", "--quiet", "--short", "HEAD").strip()
    except RepositoryError:
        return ""


def _has_branch(clone: Path, branch: str) -> bool:
    try:
        return bool(clone.is_dir() and _commit(Git(git_dir=clone), f"refs/heads/{branch}", str(clone), branch))
    except RepositoryError:
        return False


def _commit(git: Git, ref: str, shown: str, branch: str) -> str:
    try:
        return git.text("rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}").strip()
    except GitFailed as error:
        if branch:
            raise RepositoryError(f"{shown}: has no branch {branch!r}") from error
        raise RepositoryError(f"{shown}: the repository has no commits yet; commit something first") from error


def _repository(
    source: str, config: RepositoryConfig, *, git_dir: Path, work_tree: Path | None, head: str, branch: str
) -> Repository:
    identity = repo_identity(source)
    return Repository(
        id=repo_id(source),
        identity=identity,
        name=config.name or identity.rpartition("/")[2].removesuffix(".git"),
        git_dir=git_dir,
        work_tree=work_tree,
        head=head,
        branch=branch,
        groups=config.groups,
        rules=config.rules,
        max_repo_mb=config.max_repo_mb,
        index_minutes=config.index_minutes,
    )
