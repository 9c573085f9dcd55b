"""A route for each dialect's completions."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from homespun_server.dialects.llama_cpp import completion_call, infill_call
from homespun_server.dialects.mistral import mistral_call
from homespun_server.dialects.ollama import ollama_call
from homespun_server.dialects.openai import openai_call
from homespun_server.dialects.tabby import is_tabby, tabby_call
from homespun_server.dialects.tgi import tgi_call
from homespun_server.routes.answering import answer, body_of, runtime_of

router = APIRouter()


@router.post("/v1/completions")
async def openai_or_tabby(request: Request) -> Response:
    body, settings = await body_of(request), runtime_of(request).settings
    call = tabby_call(body, settings) if is_tabby(body) else openai_call(body, settings)
    return await answer(request, call)


@router.post("/beta/completions")
@router.post("/v1/engines/{engine}/completions")
async def openai(request: Request) -> Response:
    return await answer(request, openai_call(await body_of(request), runtime_of(request).settings))


@router.post("/v1/fim/completions")
async def mistral(request: Request) -> Response:
    return await answer(request, mistral_call(await body_of(request), runtime_of(request).settings))


@router.post("/infill")
async def infill(request: Request) -> Response:
    return await answer(request, infill_call(await body_of(request), runtime_of(request).settings))


@router.post("/completion")
@router.post("/completions")
async def llama_completion(request: Request) -> Response:
    return await answer(request, completion_call(await body_of(request), runtime_of(request).settings))


@router.post("/api/generate")
async def ollama(request: Request) -> Response:
    return await answer(request, ollama_call(await body_of(request), runtime_of(request).settings))


@router.post("/generate")
async def tgi(request: Request) -> Response:
    return await answer(request, tgi_call(await body_of(request), runtime_of(request).settings))


@router.post("/generate_stream")
async def tgi_stream(request: Request) -> Response:
    call = tgi_call(await body_of(request), runtime_of(request).settings, is_stream=True)
    return await answer(request, call)


@router.post("/")
async def tgi_either(request: Request) -> Response:
    call = tgi_call(await body_of(request), runtime_of(request).settings, is_stream=None, is_listed=True)
    return await answer(request, call)
