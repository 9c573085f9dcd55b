"""Asks the Homespun server. Never raises: without an answer there is no suggestion, and one line says why."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit
from uuid import uuid4

import httpx

from homespun_core import __version__
from homespun_lsp.context import Query
from homespun_lsp.options import Options
from homespun_lsp.user import user_id

_REFUSALS = {
    401: "refuses the token; set HOMESPUN_API_TOKEN or the option 'token'",
    403: "refuses the token; set HOMESPUN_API_TOKEN or the option 'token'",
    404: "has no /v1/completions; is it a Homespun server?",
    429: "is busy",
    503: "isn't ready yet",
}
_CONNECT_S = 2.0
_KEEPALIVE_S = 4.0
"""Below the 5 s after which uvicorn closes idle connections, so that we don't write into one that is being closed."""


@dataclass(frozen=True, slots=True)
class Answer:
    text: str
    """Empty when there is nothing to suggest."""
    id: str | None = None


class CompletionClient:
    def __init__(self, say: Callable[[str, bool], None]) -> None:
        """`say(line, is_problem)` is called when the server stops or resumes answering, not for every request."""
        self._say = say
        self._name = uuid4().hex
        """Of this editor, for the server: what is typed now matters more than what was typed before."""
        self._http: httpx.AsyncClient | None = None
        self._url = ""
        self._problem: str | None = None

    async def complete(self, query: Query, options: Options) -> Answer:
        """Cancelling closes the connection, upon which the server stops."""
        http = await self._connected(options.server_url)
        try:
            response = await http.post(
                options.server_url.rstrip("/") + "/v1/completions",
                content=_body(query, options, self._name),
                headers=_headers(options.token),
                timeout=httpx.Timeout(options.timeout_ms / 1000, connect=_CONNECT_S),
            )
            answer, problem = _read(response)
        except (httpx.ConnectTimeout, httpx.ConnectError, httpx.InvalidURL) as error:
            answer, problem = (
                Answer(""),
                f"can't be reached ({str(error) or 'no answer'})",
            )  # a bad certificate is told apart here
        except httpx.TimeoutException:
            answer, problem = Answer(""), "doesn't answer in time"
        except httpx.HTTPError as error:
            answer, problem = Answer(""), f"broke the connection off ({type(error).__name__})"
        self._note(options.server_url, problem)
        return answer

    async def tell(self, events: Sequence[Mapping[str, object]], options: Options) -> bool:
        """What became of completions. False when it should be told again later; what the server refuses, it won't take
        then either."""
        http = await self._connected(options.server_url)
        try:
            response = await http.post(
                options.server_url.rstrip("/") + "/v1/homespun/events",
                content=json.dumps({"events": events}),
                headers=_headers(options.token),
                timeout=_CONNECT_S,
            )
        except (httpx.HTTPError, httpx.InvalidURL):
            return False
        return not (response.is_server_error or response.status_code == httpx.codes.TOO_MANY_REQUESTS)

    async def close(self) -> None:
        http, self._http = self._http, None
        if http is not None:
            await http.aclose()

    async def _connected(self, url: str) -> httpx.AsyncClient:
        if self._http is not None and url == self._url:
            return self._http
        http = httpx.AsyncClient(
            # A proxy from the environment must not see the code that goes to a server on this machine.
            trust_env=not _is_loopback(url),
            # The system's certificates: a company's own authority is there, and not in httpx's list.
            verify=ssl.create_default_context(),
            limits=httpx.Limits(keepalive_expiry=_KEEPALIVE_S),
        )
        old, self._http, self._url, self._problem = self._http, http, url, None
        if old is not None:
            await old.aclose()
        return http

    def _note(self, url: str, problem: str | None) -> None:
        if problem == self._problem or url != self._url:  # another server was chosen meanwhile
            return
        self._problem = problem
        if problem:
            self._say(f"Homespun: {_origin(url)} {problem}. Suggestions resume by themselves.", True)
        else:
            self._say(f"Homespun: {_origin(url)} answers again.", False)


def _body(query: Query, options: Options, name: str) -> bytes:
    user = user_id() if options.send_events else None
    about = {"client": name, "user": user, **query.about}
    body: dict[str, object] = {
        "prompt": query.prefix,
        "suffix": query.suffix,
        "max_tokens": query.max_tokens(options.max_tokens),
        "temperature": 0,
        "homespun": {name: value for name, value in about.items() if value},
    }
    if query.stop:
        body["stop"] = query.stop
    # Half an emoji, which a JavaScript editor may send, is not valid UTF-8.
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def _headers(token: str) -> dict[str, str]:
    headers = {"content-type": "application/json", "user-agent": f"homespun-lsp/{__version__}"}
    return headers | {"authorization": f"Bearer {token}"} if token else headers


def _read(response: httpx.Response) -> tuple[Answer, str | None]:
    """The suggestion, and what is wrong with the server."""
    if response.status_code != httpx.codes.OK:
        return Answer(""), _REFUSALS.get(response.status_code, f"answers with status {response.status_code}")
    try:
        body = response.json()
        text, id = body["choices"][0]["text"], body.get("id")
    except (ValueError, LookupError, TypeError):
        text = id = None
    if not isinstance(text, str):
        return Answer(""), "answers with something else than a completion; is it a Homespun server?"
    return Answer(text if text.strip() else "", id if isinstance(id, str) else None), None


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _origin(url: str) -> str:
    """The address without its path, which may hold a secret; a user or password can't be in it (see `options`)."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
