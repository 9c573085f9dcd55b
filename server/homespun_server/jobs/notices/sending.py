"""Posts notices, signed as Standard Webhooks has it (https://www.standardwebhooks.com), to where they may go.

The name is resolved once, every address of it is checked, and one of those is connected to: a name that answers
otherwise the second time leads nowhere else. No redirect is followed, no proxy asked.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import http.client
import ipaddress
import logging
import os
import socket
import ssl
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from urllib.parse import urlsplit

from homespun_core.notify import NotifyConfig
from homespun_server.jobs.running import Ended
from homespun_server.jobs.states import LeaseLost
from homespun_server.jobs.store import JobStore

logger = logging.getLogger(__name__)

_TIMEOUT_S = 10.0
_AT_ONCE = 20
_GONE = 410


class Sender:
    """`name` is that of no worker and no other server."""

    def __init__(self, store: JobStore, endpoints: Sequence[NotifyConfig], name: str | None = None) -> None:
        self._store, self._endpoints = store, {endpoint.url: endpoint for endpoint in endpoints}
        self._name = name or f"server:{socket.gethostname()}:{os.getpid()}"

    def send_due(self) -> None:
        for _ in range(_AT_ONCE):
            job = self._store.lease(self._name, ["notify"])
            if job is None:
                return
            details = self._store.details(job.id)
            end = self._sent(details)
            if end.ending != "done":
                logger.warning("%s: not delivered: %s", details.get("id"), end.reason)
            with suppress(LeaseLost):
                self._store.report(job.id, job.fence, end.ending, reason=end.reason)

    def _sent(self, details: Mapping[str, str]) -> Ended:
        endpoint = self._endpoints.get(details.get("url", ""))
        if endpoint is None:
            return Ended(ending="impossible", reason="it isn't in the settings any more")
        body = details["body"].encode()
        return post(endpoint, body, signed(details["id"], int(time.time()), body, endpoint.secret))


def signed(id: str, at: int, body: bytes, secret: str) -> dict[str, str]:
    message = f"{id}.{at}.".encode() + body
    made = base64.b64encode(hmac.new(_key(secret), message, hashlib.sha256).digest()).decode()
    return {"webhook-id": id, "webhook-timestamp": str(at), "webhook-signature": f"v1,{made}"}


def post(endpoint: NotifyConfig, body: bytes, headers: Mapping[str, str]) -> Ended:
    parts = urlsplit(endpoint.url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    try:
        address = _checked(host, port, is_internal=endpoint.internal)
        path = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
        status = _posted(parts.scheme, host, port, address, path, body, headers)
    except (OSError, http.client.HTTPException) as error:
        return Ended(ending="failed", reason=f"{host}: {type(error).__name__}: {error}"[:300])
    if 200 <= status < 300:
        return Ended(ending="done")
    if status == _GONE:
        return Ended(ending="impossible", reason=f"{host}: status 410: it wants to hear no more; take it out")
    return Ended(
        ending="failed", reason=f"{host}: status {status}{' (redirects are not followed)' * (status // 100 == 3)}"
    )


def _posted(scheme: str, host: str, port: int, address: str, path: str, body: bytes, headers: Mapping[str, str]) -> int:
    connection = _Pinned(host, port, address, is_tls=scheme == "https")
    overdue = threading.Timer(_TIMEOUT_S, connection.abort)  # a socket's own limit begins anew with every byte
    overdue.start()
    try:
        connection.request(
            "POST", path, body, {"Content-Type": "application/json", "User-Agent": "homespun", **headers}
        )
        return connection.getresponse().status
    finally:
        overdue.cancel()
        connection.close()


class _Pinned(http.client.HTTPConnection):
    """To an address that was checked, under the name it was found by."""

    def __init__(self, host: str, port: int, address: str, *, is_tls: bool) -> None:
        super().__init__(host, port, timeout=_TIMEOUT_S)
        self._address, self._is_tls = address, is_tls

    def connect(self) -> None:
        self.sock = socket.create_connection((self._address, self.port), self.timeout)
        if self._is_tls:
            self.sock = ssl.create_default_context().wrap_socket(self.sock, server_hostname=self.host)

    def abort(self) -> None:
        with suppress(OSError, AttributeError):
            self.sock.shutdown(socket.SHUT_RDWR)


def _checked(host: str, port: int, *, is_internal: bool) -> str:
    """An address of that name. Raises OSError where one of them isn't public, and needn't be trusted."""
    found = [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    for address in found:
        ip = ipaddress.ip_address(address.partition("%")[0])
        mapped = getattr(ip, "ipv4_mapped", None) or ip
        if not is_internal and (not mapped.is_global or mapped.is_multicast):
            raise OSError(f"{address} is no public address; if it is a host of yours: internal = true")
    return found[0]


def _key(secret: str) -> bytes:
    if secret.startswith("whsec_"):
        with suppress(binascii.Error):
            return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    return secret.encode()
