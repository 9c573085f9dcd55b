"""Who somebody is, in the words of their identity provider."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_MAX_CHARS = 128
_MAX_GROUPS = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    issuer: str
    subject: str
    """With the issuer, the only name that never goes to somebody else."""
    name: str
    email: str | None
    """Which the provider has verified: people's commits are found by it, and a profile may have anybody's in it."""
    groups: frozenset[str]
    link: str | None
    """What SCIM knows them by."""


def identity_of(claims: Mapping[str, Any], *, groups_claim: str, link_claim: str) -> Identity:
    """Of claims that were verified."""
    subject = str(claims["sub"])
    email = _text(claims.get("email"))
    names = (_text(claims.get(claim)) for claim in ("preferred_username", "nickname", "name"))
    return Identity(
        issuer=str(claims["iss"]),
        subject=subject,
        name=next((name for name in names if name), None) or (email or "").partition("@")[0] or subject[:_MAX_CHARS],
        email=email if claims.get("email_verified") in (True, "true") else None,
        groups=_groups(claims.get(groups_claim)),
        link=_text(claims.get(link_claim)),
    )


def _groups(value: object) -> frozenset[str]:
    """A list of names, or one name. Anything else is none."""
    values = value if isinstance(value, list) else [value]
    return frozenset(name for name in map(_text, values[:_MAX_GROUPS]) if name)


def _text(value: object) -> str | None:
    if not isinstance(value, str):
        return None
    text = "".join(c for c in value if c.isprintable()).strip()
    return text[:_MAX_CHARS] or None
