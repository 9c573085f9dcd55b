"""Who is signed in, which editors wait to be, and whom the provider knows as whom. Times are seconds since 1970.

What a browser or editor holds is kept as a hash: whoever reads the database can't sign in with it.
"""

from __future__ import annotations

from sqlalchemy import JSON, Column, Float, ForeignKey, Integer, String, Table

from homespun_server.database.schema import metadata

sessions = Table(
    "sessions",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("user", String(32), ForeignKey("users.id", ondelete="CASCADE"), index=True),
    Column("credential", String(64), nullable=False),
    Column("created", Float, nullable=False),
    Column("seen", Float, nullable=False),
)
"""Without a user it is one of the settings' api_token. `credential` is what it was opened with and ends with: the id
of a token, a mark of the api_token, or nothing for the identity provider."""

identities = Table(
    "identities",
    metadata,
    Column("issuer", String(512), primary_key=True),
    Column("subject", String(255), primary_key=True),
    Column("user", String(32), ForeignKey("users.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("created", Float, nullable=False),
)
provisioned_users = Table(
    "provisioned_users",
    metadata,
    Column("user", String(32), ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
    Column("user_name_key", String(255), nullable=False, unique=True),
    Column("external_id", String(255), index=True),
    Column("document", JSON, nullable=False),
    Column("created", Float, nullable=False),
    Column("changed", Float, nullable=False),
)
"""Those that come by SCIM, in its words. `user_name_key` is how names are compared: SCIM's userName has no case."""

provisioned_groups = Table(
    "provisioned_groups",
    metadata,
    Column("team", String(32), ForeignKey("teams.id", ondelete="CASCADE"), primary_key=True),
    Column("external_id", String(255)),
    Column("created", Float, nullable=False),
    Column("changed", Float, nullable=False),
)
device_codes = Table(
    "device_codes",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("user_code", String(64), nullable=False, unique=True),
    Column("client", String(128), nullable=False),
    Column("scope", String(64), nullable=False),
    Column("origin", String(128), nullable=False),
    Column("created", Float, nullable=False),
    Column("interval_s", Integer, nullable=False),
    Column("polled", Float),
    Column("state", String(16), nullable=False),
    Column("user", String(32), ForeignKey("users.id", ondelete="CASCADE")),
)
