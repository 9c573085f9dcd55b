"""Every path in the data directory, and the names repositories go by there."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

_SCP_LIKE = re.compile(r"^(?:[^@/\s]+@)?([^:/\s]+):(?!//)(.+)$")
_URL = re.compile(r"^[a-z+]+://(?:[^/]*@)?([^@/:]+)(?::\d+)?/(.+)$", re.IGNORECASE)


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

    Two spellings of one repository give one identity, whichever protocol they name.
    """
    address = source.strip()
    for pattern in (_URL, _SCP_LIKE):
        match = pattern.match(address)
        if match and not address.lower().startswith("file:"):
            host, path = match.groups()
            return f"{host.lower()}/{_strip_git(path)}"
    path = address.removeprefix("file://")
    return _strip_git(str(Path(path).expanduser().resolve()))


def repo_id(source: str) -> str:
    """Directory name of a repository: its readable last part and a digest of its identity.

    Never a path from the URL: `../` and look-alike names can't collide or escape.
    """
    identity = repo_identity(source)
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", identity.rpartition("/")[2]).strip(".-") or "repo"
    return f"{name[:40]}-{hashlib.sha256(identity.encode()).hexdigest()[:8]}"


def _strip_git(path: str) -> str:
    return path.rstrip("/").removesuffix("/.git").removesuffix(".git").rstrip("/")
