"""What a provider says is believed only when everything about it is right."""

from __future__ import annotations

import base64
import hmac
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from joserfc.jwk import RSAKey

from tests.server.signin.certified import CLIENT_ID, CLIENT_SECRET, OURS, Browser
from tests.server.signin.conftest import MakeApp, MakeBrowser
from tests.server.signin.liar import Liar, lying_provider

Claims = dict[str, Any]
Told = Callable[[Liar, Claims], str]


@pytest.fixture
def liar() -> Iterator[Liar]:
    with lying_provider() as made:
        yield made


@pytest.fixture
def browser(liar: Liar, make_app: MakeApp, make_browser: MakeBrowser) -> Browser:
    made = make_browser(
        make_app(public_url=OURS, oidc_issuer=liar.issuer, oidc_client_id=CLIENT_ID, oidc_client_secret=CLIENT_SECRET)
    )
    made.http.follow_redirects = False
    return made


async def _answer(browser: Browser, liar: Liar, told: Told) -> tuple[int, str]:
    request = (await browser.get("/signin/start")).next_request
    assert request is not None
    asked, now = request.url.params, int(time.time())
    claims = {
        "iss": liar.issuer,
        "sub": "ada-1",
        "aud": CLIENT_ID,
        "iat": now,
        "exp": now + 60,
        "nonce": asked["nonce"],
    }
    liar.id_token = told(liar, claims)
    answer = await browser.get(f"/signin/callback?code=any&state={asked['state']}")
    return answer.status_code, answer.text


async def test_the_truth_is_believed(browser: Browser, liar: Liar) -> None:
    """Else what follows would show nothing."""
    assert (await _answer(browser, liar, lambda liar, claims: liar.signed(claims)))[0] == 303
    assert "homespun-session" in browser.http.cookies


_LIES: dict[str, Told] = {
    "nonce of another attempt": lambda liar, claims: liar.signed(claims | {"nonce": "other"}),
    "no nonce": lambda liar, claims: liar.signed({k: v for k, v in claims.items() if k != "nonce"}),
    "for another application": lambda liar, claims: liar.signed(claims | {"aud": "other"}),
    "given to another application": lambda liar, claims: liar.signed(
        claims | {"aud": [CLIENT_ID, "other"], "azp": "other"}
    ),
    "of another issuer": lambda liar, claims: liar.signed(claims | {"iss": "https://evil.example.com"}),
    "expired": lambda liar, claims: liar.signed(claims | {"exp": claims["exp"] - 600}),
    "without an end": lambda liar, claims: liar.signed({k: v for k, v in claims.items() if k != "exp"}),
    "from the future": lambda liar, claims: liar.signed(claims | {"iat": claims["iat"] + 600}),
    "about nobody": lambda liar, claims: liar.signed(claims | {"sub": ""}),
    "signed by another key": lambda liar, claims: liar.signed(claims, key=RSAKey.generate_key(2048)),
    "signed by an unknown key": lambda liar, claims: liar.signed(claims, key=RSAKey.generate_key(2048), kid="other"),
    "signed with our secret": lambda liar, claims: _signed_by_secret(claims, CLIENT_SECRET.encode()),
    "signed with the public key": lambda liar, claims: _signed_by_secret(claims, liar.key.as_pem(private=False)),
    "not signed": lambda liar, claims: _unsigned(liar.signed(claims)),
    "changed": lambda liar, claims: _changed(liar.signed(claims), liar.signed(claims | {"sub": "eve"})),
    "nothing": lambda liar, claims: "",
    "no token": lambda liar, claims: "a.b.c",
}


@pytest.mark.parametrize("lie", _LIES)
async def test_a_lie_is_refused(browser: Browser, liar: Liar, lie: str) -> None:
    status, text = await _answer(browser, liar, _LIES[lie])
    assert status == 400 and "Not signed in" in text
    assert "homespun-session" not in browser.http.cookies


async def test_userinfo_about_somebody_else_is_left_out(browser: Browser, liar: Liar) -> None:
    liar.userinfo = {"sub": "eve-1", "preferred_username": "eve"}
    await _answer(browser, liar, lambda liar, claims: liar.signed(claims | {"preferred_username": "ada"}))
    assert "signed in as ada." in (await browser.get("/signin")).text


@pytest.mark.parametrize(
    ("name", "value"),
    [("issuer", "https://other.example.com"), ("token_endpoint", "ftp://x"), ("authorization_endpoint", "")],
)
async def test_a_provider_that_contradicts_its_settings_is_not_used(
    browser: Browser, liar: Liar, name: str, value: str
) -> None:
    liar.endpoints[name] = value
    status = (await browser.get("/signin/start")).status_code
    if status == 303:  # the token endpoint is looked at later
        status, _ = await _answer(browser, liar, lambda liar, claims: liar.signed(claims))
    assert status == 503


def _signed_by_secret(claims: Claims, secret: bytes) -> str:
    parts = [json.dumps(part).encode() for part in ({"alg": "HS256", "kid": "known"}, claims)]
    content = b".".join(map(_base64url, parts))
    return (content + b"." + _base64url(hmac.digest(secret, content, "sha256"))).decode()


def _base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _unsigned(token: str) -> str:
    _, payload, _ = token.split(".")
    return f"eyJhbGciOiJub25lIn0.{payload}."


def _changed(token: str, other: str) -> str:
    head, _, signature = token.split(".")
    return f"{head}.{other.split('.')[1]}.{signature}"
