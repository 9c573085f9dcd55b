"""Every path in the data directory, and the names repositories go by there."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

_SCP_LIKE = re.compile(r"^(?:[^@/\s]+@)?(\[[^\]/]*\]|[^:/\s]+):(?!//)(.+)$", re.DOTALL)
_URL = re.compile(r"^[a-z][a-z0-9+.-]*://(?:[^/]*@)?(\[[^\]/]*\]|[^@/:]*)(?::[^/]*)?/*(.*)$", re.IGNORECASE | re.DOTALL)


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

    def adapters(self, repo: str) -> Path:
        return self.root / "adapters" / repo

    def training_run(self, repo: str) -> Path:
        """Checkpoints of the training run that isn't finished."""
        return self.root / "runs" / repo

    @property
    def index_root(self) -> Path:
        return self.root / "index"

    @property
    def cache(self) -> Path:
        """Content-addressed caches; safe to delete."""
        return self.root / "cache"

    @property
    def locks(self) -> Path:
        return self.root / "locks"

    @property
    def server_state(self) -> Path:
        """Where the running server says its address and process id."""
        return self.root / "server.json"


def repo_identity(source: str) -> str:
    """`host/owner/name` of a URL or scp-like address, the absolute path of a local repository; no userinfo, no `.git`.

    Two spellings of one repository give one identity, whichever protocol they name. Defined for every text: what git
    would refuse (no host, a port that is no number, a NUL) has an identity too, and only local ones begin with `/`.
    """
    address = source.strip()
    match = _remote(address)
    if match:
        host, path = match.groups()
        return f"{host.lower() or 'nowhere'}/{_strip_git(path)}"
    return _strip_git(_absolute(re.sub("^file://", "", address, flags=re.IGNORECASE))) or "/"


def is_remote(source: str) -> bool:
    """Whether `source` has the form of a URL or scp-like address. A `file:` URL is local."""
    return _remote(source.strip()) is not None


def repo_id(source: str) -> str:
    """Directory name of a repository: its readable last part and a digest of its identity.

    Never a path from the URL: `../` and look-alike names can't collide or escape.
    """
    identity = repo_identity(source)
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", identity.rpartition("/")[2]).strip(".-") or "repo"
    return f"{name[:40]}-{hashlib.sha256(identity.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def _remote(address: str) -> re.Match[str] | None:
    if address.lower().startswith("file:"):
        return None
    return _URL.match(address) or _SCP_LIKE.match(address)


def _absolute(path: str) -> str:
    try:
        return str(Path(path).expanduser().resolve())
    except (OSError, RuntimeError, ValueError):  # a loop of links, a user that doesn't exist, a NUL
        return str(Path.cwd() / path)


def _strip_git(path: str) -> str:
    return path.rstrip("/").removesuffix("/.git").removesuffix(".git").rstrip("/")
