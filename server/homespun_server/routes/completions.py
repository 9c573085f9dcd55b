"""A route for each dialect's completions."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from homespun_server.dialects import schemas
from homespun_server.dialects.calls import EVENTS, LINES
from homespun_server.dialects.llama_cpp import completion_call, infill_call
from homespun_server.dialects.mistral import mistral_call
from homespun_server.dialects.ollama import ollama_call
from homespun_server.dialects.openai import openai_call
from homespun_server.dialects.tabby import is_tabby, tabby_call
from homespun_server.dialects.tgi import tgi_call
from homespun_server.routes.answering import answer, body_of, runtime_of
from homespun_server.routes.described import posting

router = APIRouter()
_EVENTS = EVENTS.media_type


@router.post(
    "/v1/completions",
    **posting(
        "Complete, as OpenAI's legacy completions or as Tabby has it",
        schemas.OPENAI_OR_TABBY_BODY,
        schemas.OPENAI_OR_TABBY_REPLY,
        stream=_EVENTS,
    ),
)
async def openai_or_tabby(request: Request) -> Response:
    body, settings = await body_of(request), runtime_of(request).settings
    call = tabby_call(body, settings) if is_tabby(body) else openai_call(body, settings)
    return await answer(request, call)


_OPENAI = posting("Complete, as OpenAI has it", schemas.OPENAI_BODY, schemas.OPENAI_REPLY, stream=_EVENTS)


@router.post("/beta/completions", **_OPENAI)
@router.post("/v1/engines/{engine}/completions", **_OPENAI)
async def openai(request: Request) -> Response:
    return await answer(request, openai_call(await body_of(request), runtime_of(request).settings))


@router.post(
    "/v1/fim/completions",
    **posting("Complete, as Mistral has it", schemas.MISTRAL_BODY, schemas.MISTRAL_REPLY, stream=_EVENTS),
)
async def mistral(request: Request) -> Response:
    return await answer(request, mistral_call(await body_of(request), runtime_of(request).settings))


@router.post(
    "/infill",
    **posting("Complete, as llama.cpp has it", schemas.INFILL_BODY, schemas.LLAMA_REPLY, stream=_EVENTS),
)
async def infill(request: Request) -> Response:
    return await answer(request, infill_call(await body_of(request), runtime_of(request).settings))


_LLAMA = posting("Complete a prompt, as llama.cpp has it", schemas.LLAMA_BODY, schemas.LLAMA_REPLY, stream=_EVENTS)


@router.post("/completion", **_LLAMA)
@router.post("/completions", **_LLAMA)
async def llama_completion(request: Request) -> Response:
    return await answer(request, completion_call(await body_of(request), runtime_of(request).settings))


@router.post(
    "/api/generate",
    **posting(
        "Complete, as Ollama has it: in lines of JSON unless `stream` is false",
        schemas.OLLAMA_BODY,
        schemas.OLLAMA_REPLY,
        stream=LINES.media_type,
    ),
)
async def ollama(request: Request) -> Response:
    return await answer(request, ollama_call(await body_of(request), runtime_of(request).settings))


_TGI = posting("Complete, as Text Generation Inference has it", schemas.TGI_BODY, schemas.TGI_REPLY, stream=_EVENTS)


@router.post("/generate", **_TGI)
async def tgi(request: Request) -> Response:
    return await answer(request, tgi_call(await body_of(request), runtime_of(request).settings))


@router.post("/generate_stream", **_TGI)
async def tgi_stream(request: Request) -> Response:
    call = tgi_call(await body_of(request), runtime_of(request).settings, is_stream=True)
    return await answer(request, call)


@router.post("/", **_TGI)
async def tgi_either(request: Request) -> Response:
    call = tgi_call(await body_of(request), runtime_of(request).settings, is_stream=None, is_listed=True)
    return await answer(request, call)
