"""The way to a server: proxies, certificates, and in words what is wrong with it.

HTTP/1.1 on purpose. Giving up a request must end it on the server too: here the connection is closed, while httpcore
1.0 never resets a stream of HTTP/2, so the server would go on with every request that was superseded.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx

from homespun_core import __version__
from homespun_core.errors import ConfigError

CONNECT_S = 2.0
_KEEPALIVE_S = 60.0
"""What stands in front of servers keeps idle connections about as long, and a new one costs a TLS handshake. A server
that closes them sooner is noticed before the next request, or by `Connection` in the moment of it."""


_MAX_BYTES = 2_000_000
"""Of a reply: room for a proxy's list of hundreds of models."""
_NO_NAME = re.compile(r"[^A-Za-z0-9 ._+-]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """How to get there. Empty is what the environment and the system say."""

    proxy: str = field(default="", repr=False)
    """May hold a password."""
    ca_file: str = ""
    """Trusted besides the system's authorities."""
    client_cert: str = ""
    client_key: str = ""
    """Where it isn't in the same file."""


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: object
    """None where it is no JSON."""


async def reply_to(http: httpx.AsyncClient, request: httpx.Request, within_s: float) -> Reply:
    """All of it within that time: httpx limits each wait, of which there may be many, and no length. Raises
    httpx.HTTPError."""
    try:
        async with asyncio.timeout(within_s):
            response = await http.send(request, stream=True)
            try:
                return Reply(response.status_code, response.headers, _json(await _content(response)))
            finally:
                await response.aclose()
    except TimeoutError:
        raise httpx.ReadTimeout("") from None


async def _content(response: httpx.Response) -> bytes:
    content = bytearray()
    async for part in response.aiter_bytes():
        content += part
        if len(content) > _MAX_BYTES:
            return b""
    return bytes(content)


def _json(content: bytes) -> object:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def user_agent(editor: str) -> str:
    """The editor is named in brackets, if it says who it is: servers count by that."""
    name = _NO_NAME.sub("", editor)[:40].strip()
    return f"homespun-lsp/{__version__} ({name})" if name else f"homespun-lsp/{__version__}"


def client_for(url: str, route: Route, editor: str = "") -> httpx.AsyncClient:
    """Raises ConfigError, in one line, when the route can't be taken."""
    try:
        return httpx.AsyncClient(
            proxy=proxy_for(url, route.proxy),
            trust_env=False,  # it would send passwords of ~/.netrc; proxies are `proxy_for`, authorities `_trusting`
            verify=_trusting(route),
            limits=httpx.Limits(keepalive_expiry=_KEEPALIVE_S),
            timeout=httpx.Timeout(5.0, connect=CONNECT_S),
            headers={"user-agent": user_agent(editor)},
        )
    except ImportError:
        raise ConfigError("proxy: SOCKS needs one more package: pip install socksio") from None
    except (ValueError, httpx.InvalidURL):
        raise ConfigError("proxy: is not an http://, https:// or socks5:// address") from None


def proxy_for(url: str, chosen: str) -> str | None:
    """The option, else what HTTPS_PROXY and the like say, or the settings of macOS and Windows. NO_PROXY holds for
    both, and nothing that goes to this machine is shown to a proxy."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if is_loopback(url) or proxy_bypass(f"{host}:{parts.port}" if parts.port else host):
        return None
    known = getproxies()
    return chosen or known.get(parts.scheme) or known.get("all")


def is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def explain(error: Exception) -> str:
    """What is wrong, to be read after the server's address, with the remedy where there is one."""
    text = str(error)
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return _explain_certificate(text)
    if isinstance(error, httpx.ProxyError):
        return f"is behind a proxy that refuses ({_first_line(text)}); check the option 'proxy' or HTTPS_PROXY"
    if isinstance(error, httpx.ConnectTimeout | httpx.ConnectError | httpx.InvalidURL | httpx.UnsupportedProtocol):
        return f"can't be reached ({_first_line(text) or 'no answer'})"
    if isinstance(error, httpx.TimeoutException):
        return "doesn't answer in time"
    return f"broke the connection off ({type(error).__name__})"


def _explain_certificate(text: str) -> str:
    reason = _first_line(text.partition("verify failed: ")[2].partition(" (_ssl")[0]) or "it can't be verified"
    if "ostname" in reason or "IP address" in reason:
        return f"has a certificate of another name ({reason}); check the address"
    return f"has a certificate that isn't trusted ({reason}); name your authority's file in the option 'caFile'"


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0][:200]


def _trusting(route: Route) -> ssl.SSLContext:
    """The system's authorities, or those of SSL_CERT_FILE: a company's own is there, and not in httpx's list."""
    context = ssl.create_default_context()
    if route.ca_file:
        with _explaining("caFile", route.ca_file) as path:
            context.load_verify_locations(cafile=path)
    if route.client_cert:
        key = _path("clientKey", route.client_key) if route.client_key else None
        with _explaining("clientCert", route.client_cert) as path:
            # Without a password OpenSSL would ask for one on the terminal that the editor was started from.
            context.load_cert_chain(path, key, password=b"")
    return context


def _path(option: str, file: str) -> str:
    try:
        return str(Path(file).expanduser())
    except (RuntimeError, ValueError):
        raise ConfigError(f"{option}: {file!r}: there is no such home directory") from None


@contextmanager
def _explaining(option: str, file: str) -> Iterator[str]:
    path = _path(option, file)
    try:
        yield path
    except (OSError, ValueError) as error:  # ssl's errors are OSErrors too
        if isinstance(error, OSError) and not isinstance(error, ssl.SSLError):
            raise ConfigError(f"{option}: {path}: {os.strerror(error.errno or 0)}") from None
        raise ConfigError(f"{option}: {path}: no certificate (and key) in PEM without a password") from None
