"""The company's identity provider, as OpenID Connect has it: where to send browsers, and what to believe.

A code is redeemed with the provider over TLS, and the identity token that comes of it is verified nevertheless: its
signature (by keys of the provider, with an algorithm of this list), issuer, audience, time and nonce.
"""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import httpx
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from homespun_core.errors import HomespunError
from homespun_server.signin.attempt import Attempt

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "Ed25519", "EdDSA")
"""No `none`, and none whose key would be a secret that we hold too."""
_LEEWAY_S = 60
_FRESH_S = 3_600.0
_TIMEOUT_S = 5.0
_RETRY_S = 5.0
_MAX_SUBJECT = 255
"""OpenID Connect Core, section 2."""


class ProviderUnavailableError(HomespunError):
    """It can't be reached, or doesn't answer as its kind does. Nobody's fault who signs in."""


class SignInRefusedError(HomespunError):
    """What came back isn't to be believed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """How the provider knows us."""

    issuer: str
    client_id: str
    client_secret: str
    redirect_uri: str
    scopes: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """What the provider says of itself."""

    metadata: Mapping[str, Any]
    keys: KeySet
    time: float


class Provider:
    """Asked for its addresses and keys at the first sign-in, and again after an hour or when a key is unknown."""

    def __init__(
        self, registration: Registration, *, ca_file: str = "", clock: Callable[[], float] = time.time
    ) -> None:
        self.registration = registration
        self._clock = clock
        self._http = httpx.Client(verify=_trust(ca_file), timeout=_TIMEOUT_S, follow_redirects=False)
        self._known: _Known | None = None
        self._failure: tuple[float, ProviderUnavailableError] | None = None
        self._lock = threading.Lock()

    def close(self) -> None:
        self._http.close()

    def look(self) -> None:
        """Asks for its addresses and keys now. Raises ProviderUnavailableError for what is wrong with them."""
        known = self._fresh()
        for name in ("authorization_endpoint", "token_endpoint"):
            self._endpoint(known, name)

    def address(self, attempt: Attempt) -> str:
        """Where a browser goes to sign in. Raises ProviderUnavailableError."""
        own = self.registration
        query = {
            "response_type": "code",
            "client_id": own.client_id,
            "redirect_uri": own.redirect_uri,
            "scope": own.scopes,
            "state": attempt.state,
            "nonce": attempt.nonce,
            "code_challenge": attempt.challenge,
            "code_challenge_method": "S256",
        }
        endpoint = self._endpoint(self._fresh(), "authorization_endpoint")
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(query)}"

    def goodbye(self) -> str | None:
        """Where a browser is signed out there, too, if the provider says so. It asks people itself, since it is told no
        token of theirs: none is kept."""
        try:
            known = self._fresh()
            if not known.metadata.get("end_session_endpoint"):
                return None
            endpoint = self._endpoint(known, "end_session_endpoint")
        except ProviderUnavailableError:
            return None
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode({'client_id': self.registration.client_id})}"

    def claims(self, code: str, attempt: Attempt) -> Mapping[str, Any]:
        """Of whom a code was made out to. Raises SignInRefusedError and ProviderUnavailableError."""
        known = self._fresh()
        tokens = self._redeemed(known, code, attempt)
        verified = self._verified(known, str(tokens.get("id_token", "")), attempt.nonce)
        return self._more(known, tokens, verified)

    def _redeemed(self, known: _Known, code: str, attempt: Attempt) -> Mapping[str, Any]:
        own = self.registration
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": own.redirect_uri,
            "code_verifier": attempt.verifier,
        }
        auth = None
        methods = known.metadata.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        if own.client_secret and "client_secret_basic" in methods:
            auth = httpx.BasicAuth(_form_encoded(own.client_id), _form_encoded(own.client_secret))
        else:
            form |= {"client_id": own.client_id} | ({"client_secret": own.client_secret} if own.client_secret else {})
        answer = self._ask("POST", self._endpoint(known, "token_endpoint"), data=form, auth=auth)
        if answer.status_code != 200:
            raise SignInRefusedError(f"the identity provider refused the sign-in ({_reason(answer)}); start again")
        return _object(answer)

    def _verified(self, known: _Known, id_token: str, nonce: str) -> Mapping[str, Any]:
        try:
            token = jwt.decode(id_token, known.keys, algorithms=ALGORITHMS)
        except (JoseError, ValueError):  # maybe by a key that is newer than what we know: providers change theirs
            token = _decoded(id_token, self._newer_than(known).keys)
        self._check(token.claims, nonce)
        return token.claims

    def _check(self, claims: dict[str, Any], nonce: str) -> None:
        own = self.registration
        rules = jwt.JWTClaimsRegistry(
            now=lambda: int(self._clock()),
            leeway=_LEEWAY_S,
            iss={"essential": True, "value": own.issuer},
            sub={"essential": True},
            aud={"essential": True, "value": own.client_id},
            exp={"essential": True},
            iat={"essential": True},
            nonce={"essential": True, "value": nonce},
        )
        try:
            rules.validate(claims)
        except JoseError as error:
            raise _untrustworthy(error) from error
        if claims.get("azp", own.client_id) != own.client_id:
            raise SignInRefusedError("the identity token was made for another application; start again")
        if len(claims["sub"]) > _MAX_SUBJECT:
            raise SignInRefusedError("the identity token is about a subject that is too long; start again")

    def _more(self, known: _Known, tokens: Mapping[str, Any], claims: Mapping[str, Any]) -> Mapping[str, Any]:
        """Many providers put groups and names only there. The token's own claims, which are signed, go first."""
        address, access = known.metadata.get("userinfo_endpoint"), tokens.get("access_token")
        if not address or not access:
            return claims
        headers = {"Authorization": f"Bearer {access}"}
        answer = self._ask("GET", self._endpoint(known, "userinfo_endpoint"), headers=headers)
        if answer.status_code != 200 or not answer.headers.get("content-type", "").startswith("application/json"):
            return claims
        told = _object(answer)
        return claims if told.get("sub") != claims["sub"] else {**told, **claims}

    def _fresh(self) -> _Known:
        known = self._known
        if known is not None and self._clock() - known.time < _FRESH_S:
            return known
        return self._newer_than(known)

    def _newer_than(self, stale: _Known | None) -> _Known:
        """One asks for all. A failure is remembered for seconds, so that a crowd doesn't wait for a timeout each."""
        with self._lock:
            if self._known is not None and self._known is not stale:
                return self._known
            if self._failure is not None and self._clock() - self._failure[0] < _RETRY_S:
                raise ProviderUnavailableError(str(self._failure[1]))
            try:
                self._known = self._asked()
            except ProviderUnavailableError as error:
                self._failure = self._clock(), error
                raise
            return self._known

    def _asked(self) -> _Known:
        issuer = self.registration.issuer
        metadata = _object(self._ask("GET", f"{issuer.rstrip('/')}/.well-known/openid-configuration"))
        if metadata.get("issuer") != issuer:
            found = str(metadata.get("issuer"))[:200]
            raise ProviderUnavailableError(f"oidc_issuer: {issuer} calls itself {found!r}; set it to exactly that")
        found_keys = _object(self._ask("GET", self._endpoint_in(metadata, "jwks_uri")))
        try:
            keys = KeySet.import_key_set(found_keys)  # type: ignore[arg-type]  # checked by what reads it
        except (JoseError, ValueError, KeyError, TypeError) as error:
            raise ProviderUnavailableError(f"{issuer}: its keys can't be read ({type(error).__name__})") from error
        return _Known(metadata=metadata, keys=keys, time=self._clock())

    def _endpoint(self, known: _Known, name: str) -> str:
        return self._endpoint_in(known.metadata, name)

    def _endpoint_in(self, metadata: Mapping[str, Any], name: str) -> str:
        """TLS can't be lost on the way."""
        address, issuer = str(metadata.get(name, "")), self.registration.issuer
        if not address.startswith("https://" if issuer.startswith("https://") else ("https://", "http://")):
            raise ProviderUnavailableError(f"{issuer}: its {name} is {address[:200] or 'missing'}, which isn't https")
        return address

    def _ask(self, method: str, url: str, **options: Any) -> httpx.Response:
        try:
            return self._http.request(method, url, **options)
        except httpx.HTTPError as error:
            raise ProviderUnavailableError(
                f"{self.registration.issuer} can't be reached ({type(error).__name__}); try again later"
            ) from error


def _decoded(id_token: str, keys: KeySet) -> jwt.Token:
    try:
        return jwt.decode(id_token, keys, algorithms=ALGORITHMS)
    except (JoseError, ValueError) as error:
        raise _untrustworthy(error) from error


def _untrustworthy(error: Exception) -> SignInRefusedError:
    claim = getattr(error, "claim", None)
    what = f"{type(error).__name__}{f': {claim}' if claim else ''}"
    return SignInRefusedError(f"the identity token can't be trusted ({what}); start again")


def _trust(ca_file: str) -> ssl.SSLContext:
    """The machine's certificates, where companies put their own, and those of a file."""
    context = ssl.create_default_context()
    if ca_file:
        context.load_verify_locations(ca_file)
    return context


def _object(answer: httpx.Response) -> Mapping[str, Any]:
    try:
        found = answer.raise_for_status().json()
    except (httpx.HTTPStatusError, ValueError) as error:
        place = f"{answer.url.copy_with(query=None)}"
        raise ProviderUnavailableError(f"{place} answers {answer.status_code} instead of JSON") from error
    if not isinstance(found, dict):
        raise ProviderUnavailableError(f"{answer.url.copy_with(query=None)} answers something else than an object")
    return found


def _reason(answer: httpx.Response) -> str:
    """Their word for it, never their text: it may hold what was sent."""
    try:
        word = answer.json().get("error")
    except (ValueError, AttributeError):
        word = None
    return word if isinstance(word, str) and word.isidentifier() else f"status {answer.status_code}"


def _form_encoded(text: str) -> str:
    """RFC 6749, 2.3.1: before they go into the header."""
    return urlencode({"": text})[1:]
