"""What is taken from a provider's claims."""

from __future__ import annotations

import pytest

from homespun_server.signin.identity import identity_of

CLAIMS = {"sub": "7", "iss": "https://login.example.com", "email": "ada@example.com"}


@pytest.mark.parametrize(
    ("verified", "email"),
    [({"email_verified": True}, "ada@example.com"), ({"email_verified": "true"}, "ada@example.com")]
    + [({"email_verified": value}, None) for value in (False, "false", "yes", None)]
    + [({}, None)],
)
def test_an_address_counts_only_where_the_provider_has_verified_it(
    verified: dict[str, object], email: str | None
) -> None:
    """Commits are found by it: whoever put a colleague's into their profile got an adapter of that one's code."""
    found = identity_of(CLAIMS | verified, groups_claim="groups", link_claim="sub")
    assert (found.email, found.name) == (email, "ada")
