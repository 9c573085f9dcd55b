"""The device flow against a server that answers as RFC 8628 says, and against some that don't."""

import platform
from collections import deque
from collections.abc import AsyncIterator, Sequence

import httpx
import pytest

from homespun_core.errors import ServiceError
from homespun_lsp.signin.device import await_token, invite, revoke
from tests.lsp.fake_server import FakeServer

CODE: dict[str, object] = {
    "device_code": "d3v1ce",
    "user_code": "WDJB-MJHT",
    "verification_uri": "https://code.example.com/oauth/device",
    "verification_uri_complete": "https://code.example.com/oauth/device?user_code=WDJB-MJHT",
    "expires_in": 900,
    "interval": 5,
}
TOKEN = {"access_token": "t0ken", "token_type": "Bearer", "expires_in": 7776000}


class Clock:
    """Time that passes only while somebody waits."""

    def __init__(self) -> None:
        self.now, self.waits = 0.0, list[float]()

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.waits.append(seconds)

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False) as client:
        yield client


def error(name: str) -> tuple[int, dict[str, str]]:
    return 400, {"error": name}


async def signed_in(http: httpx.AsyncClient, fake: FakeServer, replies: Sequence[object], clock: Clock) -> str:
    fake.pages["/oauth/device/code"] = CODE
    fake.pages["/oauth/token"] = deque(replies)
    return await await_token(http, fake.url, await invite(http, fake.url), clock.sleep, clock)


async def test_the_token_comes_once_the_person_has_said_yes(http: httpx.AsyncClient, fake: FakeServer) -> None:
    clock = Clock()
    replies = [error("authorization_pending"), error("authorization_pending"), TOKEN]
    assert await signed_in(http, fake, replies, clock) == "t0ken"
    assert clock.waits == [5, 5, 5]
    asked = fake.questions[0].body
    assert (asked["client_id"], asked["scope"], asked["device_name"]) == (
        "homespun-editor",
        "complete",
        platform.node(),
    )
    assert fake.questions[1].body == {
        "grant_type": "urn:ietf:params:oauth:grant-type:device_code",
        "device_code": "d3v1ce",
        "client_id": "homespun-editor",
    }


async def test_slow_down_is_obeyed(http: httpx.AsyncClient, fake: FakeServer) -> None:
    clock = Clock()
    await signed_in(http, fake, [error("slow_down"), error("authorization_pending"), error("slow_down"), TOKEN], clock)
    assert clock.waits == [5, 10, 10, 15]


async def test_trouble_on_the_way_is_tried_again_more_slowly(http: httpx.AsyncClient, fake: FakeServer) -> None:
    clock = Clock()
    assert await signed_in(http, fake, [502, (503, {"odd": 1}), TOKEN], clock) == "t0ken"
    assert clock.waits == [5, 10, 20]


@pytest.mark.parametrize(
    ("replies", "told"),
    [
        ([error("authorization_pending"), error("access_denied")], "denied"),
        ([error("expired_token")], "in time"),
        ([error("authorization_pending")], "in time"),
        ([error("invalid_\x1b[2Jclient")], "failed on the server"),
    ],
)
async def test_no_and_nothing_end_it(
    http: httpx.AsyncClient, fake: FakeServer, replies: list[object], told: str
) -> None:
    with pytest.raises(ServiceError, match=told) as raised:
        await signed_in(http, fake, replies, Clock())
    assert str(raised.value).isprintable()


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (404, "has no sign-in"),
        (429, "try again"),
        (500, "status 500"),
        ((400, {"error": "invalid_request", "error_description": "this server needs no sign-in"}), "needs no sign-in"),
        ((400, {"error": "x", "error_description": "\x1b[2Jowned"}), "status 400"),
        ({}, "makes no sense"),
        ([], "makes no sense"),
        (CODE | {"user_code": "\x1b]0;owned\x07"}, "makes no sense"),
        (CODE | {"verification_uri": "file:///etc/passwd"}, "makes no sense"),
        (CODE | {"verification_uri_complete": "javascript:alert(1)"}, "makes no sense"),
        (CODE | {"expires_in": "soon"}, "makes no sense"),
    ],
)
async def test_what_a_server_says_is_looked_at_before_it_is_shown(
    http: httpx.AsyncClient, fake: FakeServer, reply: object, told: str
) -> None:
    fake.pages["/oauth/device/code"] = reply
    with pytest.raises(ServiceError, match=told):
        await invite(http, fake.url)


async def test_a_server_cannot_make_us_wait_for_ever_or_ask_without_pause(
    http: httpx.AsyncClient, fake: FakeServer
) -> None:
    fake.pages["/oauth/device/code"] = CODE | {"expires_in": 10**9, "interval": -1}
    invitation = await invite(http, fake.url)
    assert (invitation.expires_in_s, invitation.interval_s) == (3600, 0.1)


async def test_revoking_says_whether_it_worked(http: httpx.AsyncClient, fake: FakeServer) -> None:
    assert not await revoke(http, fake.url, "t0ken")
    fake.pages["/oauth/revoke"] = {}
    assert await revoke(http, fake.url, "t0ken")
    assert fake.questions[-1].body == {"token": "t0ken", "client_id": "homespun-editor"}
    assert not await revoke(http, "http://127.0.0.1:9", "t0ken")
