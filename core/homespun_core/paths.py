"""Every path in the data directory, and the names repositories go by there."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

_SCP_LIKE = re.compile(r"^(?:[^@/\s]+@)?(\[[^\]/]*\]|[^:/\s]+):(?!//)(.+)$", re.DOTALL)
_URL = re.compile(r"^[a-z][a-z0-9+.-]*://(?:[^/]*@)?(\[[^\]/]*\]|[^@/:]*)(?::[^/]*)?/*(.*)$", re.IGNORECASE | re.DOTALL)


_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*)://")
_USERINFO = re.compile(r"//[^/\s]*@")


@dataclass(frozen=True, slots=True)
class DataDir:
    """Layout of one data directory. Nothing is created by asking for a path."""

    root: Path

    def clone(self, repo: str) -> Path:
        """Bare clone of a repository given by URL."""
        return self.root / "repos" / f"{repo}.git"

    def index(self, repo: str) -> Path:
        """Index snapshots of one repository, one directory a generation."""
        return self.root / "index" / repo

    def corpus(self, repo: str) -> Path:
        return self.root / "corpus" / repo

    @property
    def all_adapters(self) -> Path:
        """Of repositories, scopes and people, a folder each."""
        return self.root / "adapters"

    def adapters(self, repo: str) -> Path:
        return self.all_adapters / repo

    def evaluations(self, repo: str) -> Path:
        """Scores of `homespun eval`, and the page of the last one."""
        return self.root / "evaluations" / repo

    def training_run(self, repo: str) -> Path:
        """Checkpoints of the training run that isn't finished."""
        return self.root / "runs" / repo

    def nudge(self, repo: str) -> Path:
        """Changes when somebody says that a repository was pushed to."""
        return self.nudges / repo

    @property
    def nudges(self) -> Path:
        return self.root / "nudges"

    def retraining(self, repo: str) -> Path:
        """What retraining remembers, and how the live adapter does on fresh code."""
        return self.root / "retraining" / repo

    @property
    def index_root(self) -> Path:
        return self.root / "index"

    @property
    def cache(self) -> Path:
        """Content-addressed caches; safe to delete."""
        return self.root / "cache"

    @property
    def forgotten(self) -> Path:
        """What is to be left out of every corpus from now on."""
        return self.root / "forgotten.json"

    @property
    def salt(self) -> Path:
        """Makes hashes of people's addresses mean nothing elsewhere."""
        return self.root / "salt"

    @property
    def database(self) -> Path:
        """The server's database, unless `database_url` names another."""
        return self.root / "homespun.db"

    @property
    def filters(self) -> Path:
        """Show/hide filters, made of that database."""
        return self.root / "filters"

    @property
    def demand(self) -> Path:
        """How often completions are asked for, by repository and language; made of that database."""
        return self.root / "demand.json"

    @property
    def kept_by_file(self) -> Path:
        """How much of completions was kept, by repository and file, where whole completions are kept."""
        return self.root / "kept-by-file.json"

    @property
    def acceptance(self) -> Path:
        """How many of the shown completions were accepted, by repository and week; made of it as well."""
        return self.root / "acceptance.json"

    @property
    def locks(self) -> Path:
        return self.root / "locks"

    def log(self, verb: str) -> Path:
        """What a verb that `homespun up` runs in the background says."""
        return self.root / "logs" / f"{verb}.log"

    @property
    def server_state(self) -> Path:
        """Where the running server says its address and process id."""
        return self.root / "server.json"


def repo_identity(source: str) -> str:
    """`host/owner/name` of a URL or scp-like address, the absolute path of a local repository; no userinfo, no `.git`.

    Locally, only the git directory in a work tree goes by that one's name: `foo` and `foo.git` side by side are two.
    Two spellings of one repository give one identity, whichever protocol they name. Defined for every text: what git
    would refuse (no host, a port that is no number, a NUL) has an identity too, and only local ones begin with `/`.
    """
    return _identity(source, _absolute)


def identity_as_said(source: str) -> str:
    """`repo_identity` of what somebody elsewhere says: no look at this disk, so links and `~` stay as they are."""
    return _identity(source, os.path.abspath)


def repo_identity_on_disk(source: str) -> str:
    """`repo_identity` of the whole repository when `source` is a directory (or file) inside a local one."""
    identity = repo_identity(source)
    if is_remote(source):
        return identity
    place = Path(identity)
    try:
        return next((str(p) for p in (place, *place.parents) if _is_top(p)), identity) if place.exists() else identity
    except OSError:  # where we may not look, or too long a name
        return identity


def is_remote(source: str) -> bool:
    """Whether `source` has the form of a URL or scp-like address. A `file:` URL is local."""
    return _remote(source.strip()) is not None


def hide_credentials(text: str) -> str:
    return _USERINFO.sub("//", text)


def why_unreadable(source: str) -> str | None:
    """What is wrong with a URL that we can't take apart for certain, in words that hold nothing of it but the scheme:
    where its password ends isn't known either. None for other URLs, and for what isn't one."""
    scheme = _SCHEME.match(source.strip())
    if scheme is None or scheme[1].lower() == "file" or _is_clear(source.strip()):
        return None
    return f"{scheme[0]}…: the URL can't be read; special characters in a password must be percent-encoded"


def repo_id(source: str) -> str:
    """Directory name of a repository: its readable last part and a digest of its identity.

    Never a path from the URL: `../` and look-alike names can't collide or escape.
    """
    identity = repo_identity(source)
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", identity.rpartition("/")[2].removesuffix(".git")).strip(".-") or "repo"
    return f"{name[:40]}-{hashlib.sha256(identity.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def _identity(source: str, absolute: Callable[[str], str]) -> str:
    address = source.strip()
    match = _remote(address)
    if match:
        host, path = match.groups()
        return f"{host.lower() or 'nowhere'}/{_strip_git(path)}"
    return absolute(re.sub("^file://", "", address, flags=re.IGNORECASE)).removesuffix("/.git") or "/"


def _remote(address: str) -> re.Match[str] | None:
    if address.lower().startswith("file:"):
        return None
    return _URL.match(address) or _SCP_LIKE.match(address)


def _is_clear(url: str) -> bool:
    """Whether every reader of URLs finds the same host in it: an @ after the host may be the end of a password that has
    a slash."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return False
    return "@" not in f"{parts.path}{parts.query}{parts.fragment}" and not re.search(
        r"[\x00-\x1f]|^[^/]*//[^/]*\s", url
    )


def _is_top(place: Path) -> bool:
    """Of a work tree, or a bare repository."""
    is_bare = (place / "HEAD").is_file() and (place / "objects").is_dir() and (place / "refs").is_dir()
    return is_bare or (place / ".git").exists()


def _absolute(path: str) -> str:
    try:
        return str(Path(path).expanduser().resolve())
    except (OSError, RuntimeError, ValueError):  # a loop of links, a user that doesn't exist, a NUL
        return str(Path.cwd() / path)


def _strip_git(path: str) -> str:
    return path.rstrip("/").removesuffix("/.git").removesuffix(".git").rstrip("/")
