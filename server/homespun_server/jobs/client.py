"""The server's queue, as workers, `homespun retrain` and `homespun jobs` reach it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx

from homespun_core.errors import ServiceError
from homespun_core.paths import hide_credentials
from homespun_server.exposure import is_loopback
from homespun_server.jobs.states import LeaseLost

_WORKERS, _PEOPLE = "/v1/homespun/jobs", "/v1/homespun/admin/jobs"
_TIMEOUT_S = 15.0


class ServerAway(ServiceError):
    """It can't be reached or can't answer now: that may be over in a moment."""


class Client:
    def __init__(self, url: str, token: str, path: str) -> None:
        self._url, self._path = url.rstrip("/"), path
        shown = {"Authorization": f"Bearer {token}"} if token else {}
        self._http = httpx.Client(
            headers=shown,
            timeout=_TIMEOUT_S,
            trust_env=not is_loopback(urlsplit(url).hostname or ""),  # a proxy doesn't lead to this machine
        )

    def close(self) -> None:
        self._http.close()

    def _call(self, method: str, path: str, body: Any = None, *, wait_s: float = 0, **query: Any) -> Any:
        """What the server answers; None is nothing. Raises ServerAway, LeaseLost and ServiceError."""
        with self._explained():
            answer = self._http.request(
                method,
                f"{self._url}{self._path}{path}",
                json=body,
                params=_given(query),
                timeout=_TIMEOUT_S + wait_s,
            )
        if answer.status_code >= 500 or answer.status_code == 429:
            raise ServerAway(f"{self._shown}: {_message(answer)}")
        if answer.status_code == 409:
            raise LeaseLost(_message(answer))
        if not answer.is_success:
            raise ServiceError(f"{self._shown}: {_message(answer)}{_remedy(answer.status_code)}")
        return answer.json() if answer.content else None

    @property
    def _shown(self) -> str:
        return hide_credentials(self._url)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (httpx.InvalidURL, httpx.UnsupportedProtocol):
            raise ServiceError(f"{self._shown}: not the URL of a server; it looks like http://host:8080") from None
        except httpx.TransportError as error:
            raise ServerAway(
                f"{self._shown}: no server answers there ({type(error).__name__}); start one with homespun serve,"
                " or say where it is with --server-url"
            ) from None


class WorkerClient(Client):
    def __init__(self, url: str, token: str) -> None:
        super().__init__(url, token, _WORKERS)

    def lease(self, worker: str, kinds: Collection[str], wait_s: float) -> dict[str, Any] | None:
        body = {"worker": worker, "kinds": sorted(kinds), "wait_s": wait_s}
        found: dict[str, Any] | None = self._call("POST", "/lease", body, wait_s=wait_s)
        return found

    def heartbeat(self, sign: Mapping[str, Any]) -> bool:
        """Whether the job is still wanted. Raises LeaseLost."""
        return not self._call("POST", "/heartbeat", sign)["is_unwanted"]

    def report(self, told: Mapping[str, Any]) -> None:
        self._call("POST", "/report", told)

    def ask(self, kind: str, repository: str, commit: str | None) -> dict[str, Any]:
        job: dict[str, Any] = self._call("POST", "/ask", {"kind": kind, "repository": repository, "commit": commit})
        return job

    def due(self, kinds: Collection[str]) -> tuple[int, list[str]]:
        """How many jobs a worker would be given now, and the names of those that have one."""
        told = self._call("GET", "/due", kind=sorted(kinds))
        return int(told["due"]), [str(job["worker"]) for job in told["running"]]

    def job(self, id: int) -> dict[str, Any]:
        job: dict[str, Any] = self._call("GET", f"/{id}")
        return job

    def log(self, id: int) -> str:
        return str(self._call("GET", f"/{id}/log")["log"])

    def cancel(self, id: int) -> None:
        self._call("POST", f"/{id}/cancel")


class AdminClient(Client):
    def __init__(self, url: str, token: str) -> None:
        super().__init__(url, token, _PEOPLE)

    def jobs(
        self, *, state: str | None = None, kind: str | None = None, repository: str | None = None, limit: int = 100
    ) -> dict[str, Any]:
        found: dict[str, Any] = self._call("GET", "", state=state, kind=kind, repository=repository, limit=limit)
        return found

    def add(self, kind: str, repository: str, commit: str | None, priority: int) -> dict[str, Any]:
        body = {"kind": kind, "repository": repository, "commit": commit, "priority": priority}
        job: dict[str, Any] = self._call("POST", "", body)
        return job

    def job(self, id: int) -> dict[str, Any]:
        job: dict[str, Any] = self._call("GET", f"/{id}")
        return job

    def log(self, id: int) -> str:
        return str(self._call("GET", f"/{id}/log")["log"])

    def change(self, id: int, what: str) -> dict[str, Any]:
        job: dict[str, Any] = self._call("POST", f"/{id}/{what}")
        return job


def _given(query: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in query.items() if value is not None}


def _message(answer: httpx.Response) -> str:
    """In our own form of errors, or FastAPI's of a body that it refused."""
    try:
        body = answer.json()
        if "error" in body:
            return str(body["error"]["message"])
        return "; ".join(f"{'.'.join(map(str, d['loc'][1:]))}: {d['msg']}" for d in body["detail"])
    except (ValueError, KeyError, TypeError, IndexError):
        return f"status {answer.status_code}"


def _remedy(status: int) -> str:
    remedies = {
        401: "; set HOMESPUN_API_TOKEN (workers: HOMESPUN_WORKER_TOKEN)",
        403: "; ask an admin for the role",
    }
    return remedies.get(status, "")
