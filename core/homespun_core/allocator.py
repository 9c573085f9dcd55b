"""A faster memory allocator for training on a CPU, where the machine has one.

Every step of training frees and asks for hundreds of megabytes. glibc gives them back to the kernel and pays for each
page again; jemalloc keeps them, in huge pages.
"""

from __future__ import annotations

import ctypes.util
import os
import sys
from collections.abc import Mapping, Sequence

_CONF = "thp:always,dirty_decay_ms:-1,muzzy_decay_ms:-1"


def restart_with_jemalloc(words: Sequence[str]) -> None:
    """Become Python with these words and jemalloc in glibc's place: same process, same terminal, same parent.

    Returns where there is nothing to do: jemalloc isn't installed, or whoever started us has chosen an allocator (us,
    the second time).
    """
    library = ctypes.util.find_library("jemalloc") if sys.platform == "linux" else None
    if library and not _is_chosen(os.environ):
        environ = {**os.environ, "LD_PRELOAD": library, "MALLOC_CONF": _CONF}
        os.execve(sys.executable, [sys.executable, *words], environ)


def _is_chosen(environ: Mapping[str, str]) -> bool:
    return "LD_PRELOAD" in environ or "MALLOC_CONF" in environ
