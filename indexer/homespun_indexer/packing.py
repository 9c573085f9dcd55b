"""Clones stay small: what fetches leave behind is packed now and then, by git itself, and what was forced away goes."""

from __future__ import annotations

import logging
import shutil
import time
from pathlib import Path

from homespun_core.types import Progress
from homespun_indexer.git import Git, GitFailed

logger = logging.getLogger(__name__)

_MAX_LOOSE, _MAX_PACKS = 5_000, 50
"""About where git would do so by itself (gc.auto, gc.autoPackLimit)."""
_GRACE = "1.day.ago"
"""Whoever indexes or trains on a commit that was forced away meanwhile still reads its objects."""
_PAUSE_S = 6 * 3_600.0
"""Between attempts: they read everything, and one that fails or makes no room isn't made at every fetch."""
_STAMP = "homespun-packed"
_THRIFTY = ("-c", "pack.threads=1", "-c", "pack.windowMemory=256m")


def pack(clone: Path, *, timeout_s: int, progress: Progress, is_full: bool = False) -> bool:
    """Whether it was done: where it is worth while, or the clone `is_full`, and hasn't been tried for a while. Readers
    that have the clone open go on: git looks again when a pack is gone. Failing is only logged."""
    git, stamp, started = Git(git_dir=clone), clone / _STAMP, time.time()
    if stamp.exists() and 0 <= started - stamp.stat().st_mtime < _PAUSE_S:  # later than now: a clock was ahead
        return False
    try:
        if not is_full and not is_due(*_counts(git)):
            return False
        stamp.touch()
        words = (*_THRIFTY, "gc", "--quiet", f"--prune={_GRACE}")
        git.transfer(*words, timeout_s=timeout_s, look=lambda: progress.advance(0))
    except GitFailed as error:
        discard_partial(clone, started)
        logger.warning("%s: can't be packed (%s); trying again later", clone, error.reason)
        return False
    except BaseException:  # Ctrl-C among them
        discard_partial(clone, started)
        raise
    logger.info("%s: packed in %.1f s", clone, time.time() - started)
    return True


def is_due(num_loose: int, num_packs: int) -> bool:
    return num_loose > _MAX_LOOSE or num_packs > _MAX_PACKS


def discard_partial(clone: Path, since: float) -> None:
    """What a git that was killed couldn't remove itself; otherwise fetches that never get through would fill the
    disk."""
    objects = clone / "objects"
    for partial in (*objects.rglob("tmp_*"), *objects.glob("pack/.tmp-*")):
        try:
            if partial.stat().st_mtime >= since - 1:
                shutil.rmtree(partial) if partial.is_dir() else partial.unlink()
        except OSError:  # gone meanwhile, or another's; its size counts until it is removed
            continue


def _counts(git: Git) -> tuple[int, int]:
    """Of loose objects and of packs."""
    said = dict(line.split(": ", 1) for line in git.text("count-objects", "-v").splitlines() if ": " in line)
    return int(said["count"]), int(said["packs"])
