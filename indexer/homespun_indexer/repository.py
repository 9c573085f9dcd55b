"""From what the user typed to a repository we can read: a URL is cloned bare (or fetched), a local one is read in
place."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, replace
from pathlib import Path

from homespun_core.errors import RepositoryError
from homespun_core.paths import DataDir, hide_credentials, repo_id, repo_identity, why_unreadable
from homespun_core.repositories import RepositoryConfig, SourceRules
from homespun_core.types import Progress
from homespun_indexer.git import Git, GitFailed
from homespun_indexer.remote import Remote, check, is_url, without_credentials

logger = logging.getLogger(__name__)

_EVERYTHING = SourceRules()
_REDIRECTED = re.compile(r"returned error: 30[12378]\b")


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
    check(place)
    if not is_fetched and (kept := _kept(without_credentials(place), data, branch, config)) is not None:
        return kept
    remote = Remote.of(config, timeout_s=timeout_s, max_clone_mb=max_clone_mb)
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
    return sorted(url for url in urls if is_url(url))


def _local_path(source: str) -> Path | None:
    try:
        path = Path(source).expanduser()
        return path if source and path.exists() else None
    except (OSError, RuntimeError, ValueError):  # too long, a user that doesn't exist, a NUL
        return None


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
    remote: Remote, data: DataDir, branch: str, config: RepositoryConfig, progress: Progress
) -> Repository:
    url = remote.url
    clone = data.clone(repo_id(url))
    progress.start(f"{'Fetching' if clone.is_dir() else 'Cloning'} {hide_credentials(url)}", unit="MB")
    default = None
    try:
        default = None if branch else remote.default_branch(progress)
        branch = branch or default or ""
        if not clone.is_dir():
            remote.clone(branch, clone, progress)
        else:
            remote.fetch(branch, clone, progress)
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


def _explained(url: str, branch: str, error: GitFailed) -> RepositoryError:
    shown, reason = hide_credentials(url), hide_credentials(error.reason)
    if _is_branch_unknown(error):
        return RepositoryError(f"{shown}: has no branch {branch!r}")
    remedy = "check the address, the network and your ssh key or token"
    if _REDIRECTED.search(reason):
        remedy = "the host sends on to another address, which isn't followed: give that one; often it ends in .git"
    return RepositoryError(f"{shown}: can't be read ({reason}); {remedy}")


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
