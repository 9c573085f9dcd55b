"""Which users get an adapter that is being tried out."""

from __future__ import annotations

import hashlib


def is_in_share(user: str, candidate: str, percent: float) -> bool:
    """Sticky, and drawn anew for each candidate, so that it isn't always the same people who try things out.

    A share that grows keeps those who are in it.
    """
    digest = hashlib.blake2b(f"{candidate}\0{user}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) * 100 < percent * 2**64
