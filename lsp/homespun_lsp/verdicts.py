"""What a server's status code means for us, and what can be done about it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from homespun_lsp.status import State

_UNHEARD = frozenset((400, 404, 405, 415, 422))
"""What servers say to a request that they don't know."""
_REMEDY = "sign in with 'homespun login', or set HOMESPUN_API_TOKEN or the option 'token'"
_REFUSED, _UNKNOWN = f"refuses the token; {_REMEDY}", f"wants to know who asks; {_REMEDY}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    state: State
    says: str
    """To be read after the server's address; ends in the remedy, where there is one."""
    retry_s: float = 0.0
    """Not to be asked again before."""


def verdict(status: int, headers: Mapping[str, str], *, path: str, has_token: bool) -> Trouble | None:
    retry_s = _seconds(headers.get("retry-after", ""))
    match status:
        case 200:
            return None
        case 301 | 302 | 307 | 308:
            return Trouble(state=State.FAILING, says="sends us elsewhere; set 'serverUrl' to where it leads")
        case 401:
            return Trouble(state=State.SIGNED_OUT, says=_REFUSED if has_token else _UNKNOWN)
        case 403:
            return Trouble(state=State.NOT_PERMITTED, says="doesn't permit this; ask whoever administers it")
        case 429:
            return Trouble(state=State.BUSY, says="is busy", retry_s=retry_s)
        case 503:
            return Trouble(state=State.STARTING, says="isn't ready yet", retry_s=retry_s)
        case 502 | 504:
            return Trouble(state=State.OFFLINE, says="is down; only what stands in front of it answers")
        case _ if status in _UNHEARD:
            says = f"refuses {path} (status {status}); check 'serverUrl', 'backend' and 'model'"
            return Trouble(state=State.FAILING, says=says)
    return Trouble(state=State.FAILING, says=f"answers with status {status}")


NONSENSE = Trouble(
    state=State.FAILING, says="answers with something else than a completion; check 'serverUrl' and 'backend'"
)


def _seconds(header: str) -> float:
    """The other form, a date, is as good as none: our back-off is at most a minute."""
    return float(header) if header.isascii() and header.isdigit() else 0.0
