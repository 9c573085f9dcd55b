"""A server that speaks as much of vLLM's HTTP as the pool needs, and fails as it is told to.

Only for failures: what vLLM really does is tested with vLLM (`test_vllm_real.py`).
"""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

FIRST_ID = 1000


class FakeVllm:
    """Completes every prompt with the ids 1000, 1001, … and every adapter's with 2000, 2001, …

    plan: what becomes of the next completions, one word each, then "ok": a status, or
    drop (no answer), cut (after two tokens), garbage, event (an error as an event), mute (until `released` is set),
    held (after the first token, until `released` is set).

    Completions take `each_s`, one after the other.
    """

    def __init__(self, model: str = "base", *, max_context: int = 64, each_s: float = 0.0) -> None:
        self.model, self.max_context, self.each_s = model, max_context, each_s
        self.turn = threading.Lock()
        self.plan: deque[str] = deque()
        self.bodies: list[dict[str, Any]] = []
        """Of completions, without trials."""
        self.calls: list[str] = []
        """Of adapters: "load NAME", "unload NAME"."""
        self.adapters: set[str] = set()
        self.is_refusing_adapters = False
        self.health = 200
        self.num_aborted = 0
        self.tokens_seen: set[str | None] = set()
        self.released = threading.Event()
        self._server: _Server | None = None
        self.port = 0
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """As a new process would: at the same place, without adapters."""
        fake = self

        class Handler(_Handler):
            vllm = fake

        self.adapters.clear()
        self._server = _Server(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=[0.01], daemon=True).start()

    def kill(self) -> None:
        """Also ends what it is answering."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            for connection in [*self._server.connections]:
                connection.close()
            self._server = None
        self.released.set()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True

    def __init__(self, *args: Any) -> None:
        self.connections: set[_Handler] = set()
        super().__init__(*args)

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


class _Handler(BaseHTTPRequestHandler):
    vllm: FakeVllm
    server: _Server
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        self.server.connections.add(self)

    def finish(self) -> None:
        self.server.connections.discard(self)
        super().finish()

    def close(self) -> None:
        self.close_connection = True
        with suppress(OSError):  # the other side was quicker
            self.connection.shutdown(2)

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        vllm = self.vllm
        cards = [{"id": vllm.model, "parent": None, "max_model_len": vllm.max_context}]
        cards += [{"id": name, "parent": vllm.model} for name in sorted(vllm.adapters)]
        self._answer(vllm.health if self.path == "/health" else 200, {"data": cards})

    def do_POST(self) -> None:
        vllm = self.vllm
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        vllm.tokens_seen.add(self.headers.get("authorization"))
        if self.path.endswith("_lora_adapter"):
            self._change(body)
        elif not body.get("stream"):
            self._score(body)
        else:
            vllm.bodies.append(body)
            self._complete(body, vllm.plan.popleft() if vllm.plan else "ok")

    def _change(self, body: dict[str, Any]) -> None:
        vllm, name = self.vllm, body["lora_name"]
        verb = "load" if self.path.startswith("/v1/load") else "unload"
        vllm.calls.append(f"{verb} {name}")
        if verb == "load" and vllm.is_refusing_adapters:
            self._answer(500, {"error": {"message": "the rank is too large\nTraceback"}})
        else:
            (vllm.adapters.add if verb == "load" else vllm.adapters.discard)(name)
            self._answer(200, {})

    def _score(self, body: dict[str, Any]) -> None:
        ids = [*body["prompt"], *body.get("allowed_token_ids", [])] if body.get("echo") else [FIRST_ID]
        logprobs = [None if body.get("echo") and i == 0 else -float(i + 1) for i in range(len(ids))]
        self._answer(200, _event(ids, logprobs, "length"))

    def _complete(self, body: dict[str, Any], plan: str) -> None:
        vllm = self.vllm
        if body["model"] not in {vllm.model, *vllm.adapters}:
            self._answer(404, {"error": {"message": "no such model"}})
        elif plan.isdecimal():
            self._answer(int(plan), {"error": {"message": f"no good: {body['prompt']}"}})
        elif plan == "drop":
            self.close()
        else:
            if vllm.each_s:
                with vllm.turn:
                    time.sleep(vllm.each_s)
            try:
                self._stream(body, plan)
            except OSError:
                vllm.num_aborted += 1
                self.close_connection = True

    def _stream(self, body: dict[str, Any], plan: str) -> None:
        if plan == "mute":
            self.vllm.released.wait(20)
        self.send_response(200)
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        if plan in ("garbage", "event"):
            self._say('{"error": {"code": 500}}' if plan == "event" else "{")
        else:
            self._say_tokens(body, plan)
        if not self.close_connection:
            self._say("[DONE]")
            self._chunk(b"")

    def _say_tokens(self, body: dict[str, Any], plan: str) -> None:
        first = FIRST_ID * (1 if body["model"] == self.vllm.model else 2)
        for i in range(body["max_tokens"]):
            if plan == "cut" and i == 2:
                self.close()
                return
            is_end = first + i in body["stop_token_ids"]
            finish = "stop" if is_end else "length" if i == body["max_tokens"] - 1 else None
            self._say(json.dumps(_event([first + i], [-0.5], finish)))
            if plan == "held" and i == 0:
                self._hold()
            if is_end:
                break
        self._say(json.dumps({"choices": [], "usage": {"prompt_tokens_details": {"cached_tokens": 16}}}))

    def _hold(self) -> None:
        """Comments, as servers send to keep a connection; writing is how a server learns that its reader is gone."""
        while not self.vllm.released.wait(0.01):
            self._chunk(b": ping\n\n")

    def _say(self, data: str) -> None:
        self._chunk(f"data: {data}\n\n".encode())

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def _answer(self, status: int, payload: Any) -> None:
        body = json.dumps(payload).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        if status in (429, 503):
            self.send_header("retry-after", "7")
        if status == 307:
            self.send_header("location", "http://127.0.0.1:9/elsewhere")
        self.end_headers()
        self.wfile.write(body)


def _event(ids: list[int], logprobs: list[float | None], finish: str | None) -> dict[str, Any]:
    told = {"tokens": [f"token_id:{i}" for i in ids], "token_logprobs": logprobs}
    return {"choices": [{"text": "", "logprobs": told, "finish_reason": finish}]}
