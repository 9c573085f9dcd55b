"""Whether a page of ours made a request."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit


def is_own(headers: Mapping[bytes, bytes], *, public_url: str) -> bool:
    """Browsers say so in Sec-Fetch-Site, older ones in Origin; what says neither isn't believed."""
    site = headers.get(b"sec-fetch-site")
    if site is not None:
        return site == b"same-origin"
    origin = urlsplit(headers.get(b"origin", b"").decode("latin-1"))
    own = {headers.get(b"host", b"").decode("latin-1"), urlsplit(public_url).netloc} - {""}
    return origin.scheme in ("http", "https") and origin.netloc in own
