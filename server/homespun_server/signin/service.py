"""The parts of signing in, put together from the settings."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from urllib.parse import urlsplit

from sqlalchemy import Connection, Engine, update
from sqlalchemy.exc import SQLAlchemyError

from homespun_core.config import Settings
from homespun_core.errors import ConfigError, ServiceError
from homespun_server.access import reading
from homespun_server.access.audit import Actor
from homespun_server.access.changing import changing
from homespun_server.access.lookup import Lookup
from homespun_server.access.principal import BREAK_GLASS, Principal
from homespun_server.access.records import Credential, User
from homespun_server.access.tokens import Token, parsed
from homespun_server.exposure import is_loopback
from homespun_server.pages.origin import is_own
from homespun_server.signin.accounts import Rules, signed_in
from homespun_server.signin.attempt import Attempt
from homespun_server.signin.device import DeviceCode, DeviceCodes
from homespun_server.signin.identity import identity_of
from homespun_server.signin.provider import Provider, Registration
from homespun_server.signin.sessions import Session, Sessions
from homespun_server.signin.setup import SetUp, setup_for
from homespun_server.signin.tables import device_codes
from homespun_server.signin.throttle import Throttle

CALLBACK = "/signin/callback"
_PATIENCE_S = 3.0


class SignIn:
    """Raises ConfigError for settings that can't be."""

    def __init__(self, settings: Settings, engine: Engine, lookup: Lookup) -> None:
        self.public_url = _public_url(settings)
        self.provider = provider_of(settings)
        self.sessions = Sessions(
            engine,
            idle_s=settings.session_idle_minutes * 60,
            longest_s=settings.session_hours * 3_600,
            api_token=settings.api_token,
        )
        self.codes = DeviceCodes(engine)
        self.setup = setup_for(settings, engine)
        self.tries, self.guesses, self.starts = Throttle(10, 60), Throttle(10, 60), Throttle(30, 60)
        """Of tokens and device codes, by address and by user: at that rate, one of a hundred codes that wait is guessed
        once in fifty years. And of editors that want a code."""
        self.longest_s = int(settings.session_hours * 3_600)
        self._engine, self._lookup, self._settings = engine, lookup, settings
        self._rules = Rules(admin_group=settings.oidc_admin_group, is_provisioned=bool(settings.scim_token))

    def close(self) -> None:
        if self.setup is not None:
            self.setup.close()
        if self.provider is not None:
            self.provider.close()

    @property
    def is_secure(self) -> bool:
        """Whether browsers reach us by TLS."""
        return self.public_url.startswith("https://")

    @property
    def cookie_name(self) -> str:
        """With __Host-, browsers take it from this host alone, by TLS."""
        return "__Host-homespun-session" if self.is_secure else "homespun-session"

    def is_own(self, headers: Mapping[bytes, bytes]) -> bool:
        return is_own(headers, public_url=self.public_url)

    async def visitor(self, cookie: str) -> tuple[Session, Principal] | None:
        """Whose browser it is. Raises ServiceError while that can't be known."""
        try:
            session = await asyncio.wait_for(asyncio.to_thread(self.sessions.find, cookie), _PATIENCE_S)
        except (SQLAlchemyError, TimeoutError) as error:
            raise ServiceError("sessions can't be checked: the database can't be reached; try again soon") from error
        if session is None:
            return None
        if session.user is None:
            return session, BREAK_GLASS
        credential = Credential(id=session.id[:32], user=session.user, scopes=session.scopes, expires=session.ends)
        principal = await self._lookup.find(f"session {session.id}", lambda connection: credential)
        return None if principal is None else (session, principal)

    def with_code(self, code: str, attempt: Attempt, origin: str) -> str:
        """The cookie of somebody who comes back from the identity provider.

        Raises SignInRefusedError, ProviderUnavailableError, StorageError.
        """
        assert self.provider is not None
        settings = self._settings
        claims = self.provider.claims(code, attempt)
        identity = identity_of(claims, groups_claim=settings.oidc_groups_claim, link_claim=settings.oidc_link_claim)
        return self.sessions.start(signed_in(self._engine, identity, self._rules, origin).id)

    def with_token(self, text: str, origin: str) -> str | None:
        """The cookie of somebody who shows a token; None when it is nobody's."""
        api_token = self._settings.api_token.encode()
        if api_token and secrets.compare_digest(text.encode("utf-8", "replace"), api_token):
            with changing(self._engine, Actor(id="api-token", origin=origin)) as change:
                change.note("session.start", "api-token")
            return self.sessions.start_with_api_token()
        shown = self._credential(text)
        if shown is None:
            return None
        with changing(self._engine, Actor(id=shown.user, origin=origin)) as change:
            user = reading.user_with(change.connection, shown.user)
            if user is None or not user.active:
                return None
            change.note("session.start", f"user:{user.id}", token=shown.id)
        cookie = self.sessions.start(shown.user, shown.id)
        return cookie if self.sessions.find(cookie) else None  # None for a token that has expired

    def first_admin(self, setup: SetUp, name: str, email: str | None, origin: str) -> tuple[User, Token]:
        """Who is known from then on. Raises ConfigError and StorageError."""
        made = setup.first_admin(name, email, origin)
        self._lookup.look()
        return made

    def device_token(self, code: DeviceCode, origin: str, now: float) -> tuple[str, int] | None:
        """A token for an editor that was approved, and the seconds that it lasts; None when it got one already, or its
        user may have none. Raises StorageError."""
        lasts_s = self._settings.device_token_days * 86_400
        with changing(self._engine, Actor(id=code.user or "", origin=origin)) as change:
            user = reading.user_with(change.connection, code.user or "")
            if user is None or not user.active or not _used(change.connection, code):
                return None
            token = change.add_token(user, code.client, scopes=("complete",), expires=now + lasts_s)
        return token.text, int(lasts_s)

    def revoke(self, text: str, origin: str) -> None:
        """A token that somebody hands back; whoever has it may."""
        shown = self._credential(text)
        if shown is not None:
            with changing(self._engine, Actor(id=shown.user, origin=origin)) as change:
                change.revoke_token(shown.id)

    def _credential(self, text: str) -> Credential | None:
        """Of a token that wasn't revoked."""
        token = parsed(text)
        if token is None:
            return None
        with self._engine.connect() as connection:
            found = reading.credential_of(connection, token)
        return found[0] if found is not None and secrets.compare_digest(found[1], token.digest) else None

    @property
    def is_needed(self) -> bool:
        """Whether requests need a token at all."""
        settings = self._settings
        return self._lookup.has_accounts or bool(settings.api_token or settings.oidc_issuer or settings.setup)


def _used(connection: Connection, code: DeviceCode) -> bool:
    query = update(device_codes).where(device_codes.c.id == code.id, device_codes.c.state == "approved")
    return connection.execute(query.values(state="used")).rowcount == 1


def _public_url(settings: Settings) -> str:
    """Without a slash at the end."""
    url = settings.public_url.rstrip("/")
    parts = urlsplit(url)
    is_plain = not (parts.path or parts.query or parts.fragment or parts.username)
    if url and not (parts.scheme in ("http", "https") and parts.hostname and is_plain):
        raise ConfigError(f"public_url: {url}: write scheme and host alone, as in https://homespun.example.com")
    return url


def provider_of(settings: Settings) -> Provider | None:
    """Whom the settings name; it isn't asked anything yet. Raises ConfigError."""
    issuer, public_url = settings.oidc_issuer, _public_url(settings)
    if not issuer:
        return None
    if not settings.oidc_client_id:
        raise ConfigError("oidc_client_id: is empty; register Homespun with the identity provider, which gives it one")
    if not public_url:
        raise ConfigError("public_url: is empty; the identity provider must know where to send people back to")
    parts = urlsplit(issuer)
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname or "")):
        raise ConfigError(f"oidc_issuer: {issuer}: must be https, or somebody on the way can sign in as anybody")
    registration = Registration(
        issuer=issuer,
        client_id=settings.oidc_client_id,
        client_secret=settings.oidc_client_secret,
        redirect_uri=f"{public_url}{CALLBACK}",
        scopes=settings.oidc_scopes,
    )
    try:
        return Provider(registration, ca_file=settings.oidc_ca_file)
    except OSError as error:  # of ssl, too
        raise ConfigError(f"oidc_ca_file: {settings.oidc_ca_file}: no certificates in PEM ({error})") from error
