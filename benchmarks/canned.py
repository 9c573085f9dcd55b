"""A server that speaks vLLM's HTTP and answers every prompt with the same line, as fast as a GPU might: what gateways
cost can be measured on a machine that has none. `python benchmarks/canned.py --host H --port P --ids 1,2,3`."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route


class Canned:
    def __init__(self, ids: list[int], first_s: float, token_s: float, max_context: int) -> None:
        self._ids, self._first_s, self._token_s, self._max_context = ids, first_s, token_s, max_context
        self._adapters: set[str] = set()
        self._num_answered = 0
        self.app = Starlette(
            routes=[
                Route("/health", self.health),
                Route("/metrics", self.metrics),
                Route("/v1/models", self.models),
                Route("/v1/completions", self.complete, methods=["POST"]),
                Route("/v1/load_lora_adapter", self.load, methods=["POST"]),
                Route("/v1/unload_lora_adapter", self.unload, methods=["POST"]),
            ]
        )

    async def health(self, _: Request) -> Response:
        return Response()

    async def metrics(self, _: Request) -> Response:
        return PlainTextResponse(f'vllm:request_success_total{{model_name="base"}} {self._num_answered}\n')

    async def models(self, _: Request) -> Response:
        cards: list[dict[str, Any]] = [{"id": "base", "parent": None, "max_model_len": self._max_context}]
        return JSONResponse({"data": cards + [{"id": name, "parent": "base"} for name in sorted(self._adapters)]})

    async def load(self, request: Request) -> Response:
        self._adapters.add((await request.json())["lora_name"])
        return JSONResponse({})

    async def unload(self, request: Request) -> Response:
        self._adapters.discard((await request.json())["lora_name"])
        return JSONResponse({})

    async def complete(self, request: Request) -> Response:
        body = await request.json()
        if body.get("stream"):
            return StreamingResponse(self._events(body["max_tokens"]), media_type="text/event-stream")
        return JSONResponse(_event(self._ids[0], "length"))

    async def _events(self, most: int) -> AsyncIterator[str]:
        await asyncio.sleep(self._first_s)
        ids = self._ids[:most]
        for n, id in enumerate(ids, 1):
            yield f"data: {json.dumps(_event(id, 'length' if n == len(ids) else None))}\n\n"
            await asyncio.sleep(self._token_s)
        yield f"data: {json.dumps({'choices': [], 'usage': {}})}\n\ndata: [DONE]\n\n"
        self._num_answered += 1


def _event(id: int, finish: str | None) -> dict[str, Any]:
    told = {"tokens": [f"token_id:{id}"], "token_logprobs": [-0.1], "top_logprobs": [{f"token_id:{id}": -0.1}]}
    return {"choices": [{"index": 0, "text": "", "logprobs": told, "finish_reason": finish}]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--ids", required=True, metavar="N,N", help="of the tokens it answers with")
    parser.add_argument("--first-ms", type=float, default=60.0, help="until the first (default: %(default)s)")
    parser.add_argument("--token-ms", type=float, default=8.0, help="and from one to the next (default: %(default)s)")
    parser.add_argument("--max-context", type=int, default=1088)
    args = parser.parse_args()
    ids = [int(word) for word in args.ids.split(",")]
    canned = Canned(ids, args.first_ms / 1e3, args.token_ms / 1e3, args.max_context)
    uvicorn.run(canned.app, host=args.host, port=args.port, log_level="error")


if __name__ == "__main__":
    main()
