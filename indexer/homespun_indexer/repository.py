"""From what the user typed to a repository we can read: a URL is cloned bare (or fetched), a local one is read in
place."""

from __future__ import annotations

import ipaddress
import logging
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from homespun_core.errors import RepositoryError
from homespun_core.paths import DataDir, repo_id, repo_identity
from homespun_core.storage import sweep
from homespun_core.types import Progress
from homespun_indexer.git import Git, GitFailed

logger = logging.getLogger(__name__)

_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*)://")
_HELPER = re.compile(r"^[A-Za-z0-9][A-Za-z0-9+.-]*::")
_SCP_LIKE = re.compile(r"^(?:[A-Za-z0-9_][\w.-]*@)?[A-Za-z0-9][\w.-]*:(?!//)[^-\s].*$")
_USERINFO = re.compile(r"//[^/\s]*@")


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

    @property
    def is_local(self) -> bool:
        """Whether it is read in place; a clone of ours is named after its URL."""
        return self.identity.startswith("/")

    @property
    def git(self) -> Git:
        return Git(git_dir=self.git_dir, work_tree=self.work_tree)


def open_repository(source: str, data: DataDir, *, branch: str = "", timeout_s: int, progress: Progress) -> Repository:
    """The repository at `source`: a directory (anywhere inside a repository), or an https or ssh URL.

    A URL is cloned into the data directory the first time and fetched after that: one branch, no tags, no submodules,
    no LFS. While it can't be reached, what was fetched before is read. The user's git configuration isn't read (see
    `git`), so private URLs need ssh keys. Raises RepositoryError: not a repository, no commits, unreachable, unknown
    branch, or a source that isn't one of the above.
    """
    source = source.strip()
    local = Path(source).expanduser()
    if source and local.exists():
        return _open_local(local, branch)
    _check_remote(source)
    return _open_remote(source, data, branch, timeout_s, progress)


def remote_urls(repo: Repository) -> list[str]:
    """The remotes' URLs without credentials, by which clients may know this repository."""
    try:
        lines = repo.git.text("config", "--get-regexp", r"^remote\..*\.url$").splitlines()
    except GitFailed:  # has no remotes
        return []
    urls = {hide_credentials(line.partition(" ")[2]) for line in lines}
    return sorted(url for url in urls if _SCHEME.match(url) or _SCP_LIKE.match(url))


def hide_credentials(text: str) -> str:
    return _USERINFO.sub("//", text)


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


def _open_local(path: Path, branch: str) -> Repository:
    top, git_dir = _find_git_dir(path)
    git = Git(git_dir=git_dir, work_tree=top)
    checked_out = _checked_out(git)
    place = top or git_dir
    wanted = branch or checked_out
    head = _commit(git, f"refs/heads/{branch}" if branch else "HEAD", str(place), branch)
    work_tree = top if wanted == checked_out else None
    return _repository(str(place), git_dir=git_dir, work_tree=work_tree, head=head, branch=wanted)


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


def _open_remote(url: str, data: DataDir, branch: str, timeout_s: int, progress: Progress) -> Repository:
    clone = data.clone(repo_id(url))
    git = Git(protocols=("http",) if _is_loopback_http(url) else ("https", "ssh"))
    progress.start(f"{'Fetching' if clone.is_dir() else 'Cloning'} {hide_credentials(url)}")
    try:
        branch = branch or _default_branch(git, url, timeout_s)
        if not clone.is_dir():
            _clone(git, url, branch, clone, timeout_s)
        else:
            _fetch(git, url, branch, clone, timeout_s)
    except GitFailed as error:
        branch = branch or _checked_out(Git(git_dir=clone))
        if _is_branch_unknown(error) or not _has_branch(clone, branch):
            raise _explained(url, branch, error) from error
        shown, reason = hide_credentials(url), hide_credentials(error.reason)
        logger.warning("%s: can't be fetched (%s); going on with what was fetched before", shown, reason)
    progress.finish()
    head = _commit(Git(git_dir=clone), f"refs/heads/{branch}", hide_credentials(url), branch)
    return _repository(url, git_dir=clone, work_tree=None, head=head, branch=branch)


def _default_branch(git: Git, url: str, timeout_s: int) -> str:
    lines = git.text("ls-remote", "--symref", "--", url, "HEAD", timeout_s=timeout_s).splitlines()
    for line in lines:
        if line.startswith("ref: refs/heads/"):
            return line.split("\t")[0].removeprefix("ref: refs/heads/")
    raise RepositoryError(
        f"{hide_credentials(url)}: the repository has no commits yet; push something or name a --branch"
    )


def _clone(git: Git, url: str, branch: str, clone: Path, timeout_s: int) -> None:
    """Into a temporary directory first: a clone that was interrupted is thrown away, never mistaken for one."""
    clone.parent.mkdir(parents=True, exist_ok=True)
    sweep(clone.parent)
    tmp = clone.parent / f".tmp-{clone.name}-{os.getpid()}"
    shutil.rmtree(tmp, ignore_errors=True)
    options = ["--bare", "--no-tags", "--single-branch", f"--branch={branch}", "--no-recurse-submodules", "--template="]
    try:
        git.text("clone", "--quiet", *options, "--", url, str(tmp), timeout_s=timeout_s)
        # Never keep a credential from the URL on disk; fetches name the URL again.
        Git(git_dir=tmp).text("config", "remote.origin.url", hide_credentials(url))
        try:
            tmp.rename(clone)
        except OSError:
            if not clone.is_dir():  # else another process has cloned it meanwhile, which is as good
                raise
    finally:
        shutil.rmtree(tmp, ignore_errors=True)


def _fetch(git: Git, url: str, branch: str, clone: Path, timeout_s: int) -> None:
    refspec = f"+refs/heads/{branch}:refs/heads/{branch}"
    inside = Git(git_dir=clone, protocols=git.protocols)
    inside.text("fetch", "--quiet", "--prune", "--no-tags", "--no-auto-gc", "--", url, refspec, timeout_s=timeout_s)


def _explained(url: str, branch: str, error: GitFailed) -> RepositoryError:
    shown, reason = hide_credentials(url), hide_credentials(error.reason)
    if _is_branch_unknown(error):
        return RepositoryError(f"{shown}: has no branch {branch!r}")
    return RepositoryError(f"{shown}: can't be read ({reason}); check the address, the network and your ssh key")


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


def _repository(source: str, *, git_dir: Path, work_tree: Path | None, head: str, branch: str) -> Repository:
    identity = repo_identity(source)
    return Repository(
        id=repo_id(source),
        identity=identity,
        name=identity.rpartition("/")[2],
        git_dir=git_dir,
        work_tree=work_tree,
        head=head,
        branch=branch,
    )
