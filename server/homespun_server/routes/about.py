"""What clients ask before they want a completion: which model, is it up, what are the limits."""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path
from typing import Any

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response

from homespun_core import __version__
from homespun_server import metrics
from homespun_server.access.http import demand, principal_of
from homespun_server.dialects import llama_cpp, ollama, openai, schemas, tabby, tgi
from homespun_server.dialects.facts import ServerFacts
from homespun_server.routes.answering import body_of, loaded_of, model_name, runtime_of
from homespun_server.routes.described import asking, posting

router = APIRouter()


@router.get("/healthz", summary="Whether the process answers")
async def healthz() -> dict[str, bool]:
    return {"alive": True}


@router.get("/readyz", summary="Whether the model is loaded, and what is served")
async def readyz(request: Request) -> Response:
    runtime = runtime_of(request)
    return JSONResponse(runtime.state(principal_of(request)), status_code=200 if runtime.loaded else 503)


@router.get("/metrics", response_class=PlainTextResponse, summary="Numbers for Prometheus")
async def metrics_page(request: Request) -> Response:
    demand(request, "read-metrics")
    return Response(runtime_of(request).metrics.exposition(), media_type=metrics.CONTENT_TYPE)


@router.get("/v1/models", **asking("The model, as OpenAI lists models", schemas.MODELS))
async def openai_models(request: Request) -> dict[str, Any]:
    """And where completions are kept: this is what an editor asks first, so nobody can miss it."""
    keeps = runtime_of(request).keeps_of(principal_of(request))
    return openai.models(_facts(request)) | ({"keeps_completions": keeps} if keeps else {})


@router.get("/v1/models/{id:path}", **asking("A model, as OpenAI has it", schemas.MODEL))
async def openai_model(request: Request, id: str) -> dict[str, Any]:
    facts = _facts(request)
    if id != facts.model:
        raise HTTPException(404, f"the one model here is {facts.model}")
    return openai.model_card(facts)


_HEALTH = asking("Health, as Tabby has it", schemas.TABBY_HEALTH)


@router.get("/v1/health", **_HEALTH)
@router.post("/v1/health", **_HEALTH)
async def tabby_health(request: Request) -> dict[str, Any]:
    return tabby.health(_facts(request))


@router.get("/v1beta/models", **asking("The model, as Tabby lists models", schemas.TABBY_MODELS))
async def tabby_models(request: Request) -> dict[str, Any]:
    return tabby.models(_facts(request))


@router.get("/v1beta/server_setting", **asking("What Tabby's clients are to do", schemas.TABBY_SETTING))
async def tabby_server_setting() -> dict[str, Any]:
    return tabby.server_setting()


@router.get("/health", **asking("Health, as llama.cpp has it", schemas.LLAMA_HEALTH))
async def llama_health(request: Request) -> dict[str, str]:
    """TGI's clients look at the status alone."""
    loaded_of(request)
    return {"status": "ok"}


@router.get("/props", **asking("Limits, as llama.cpp has them", schemas.LLAMA_PROPS))
async def llama_props(request: Request) -> dict[str, Any]:
    return llama_cpp.props(_facts(request))


@router.get("/slots", **asking("Load, as llama.cpp has it", schemas.LLAMA_SLOTS))
async def llama_slots(request: Request) -> list[dict[str, Any]]:
    return llama_cpp.slots(_facts(request))


@router.get("/api/tags", **asking("The model, as Ollama lists models", schemas.OLLAMA_MODELS))
async def ollama_tags(request: Request) -> dict[str, Any]:
    return ollama.tags(_facts(request))


@router.get("/api/ps", **asking("The model, as Ollama lists loaded ones", schemas.OLLAMA_MODELS))
async def ollama_running(request: Request) -> dict[str, Any]:
    return ollama.running(_facts(request))


@router.post(
    "/api/show",
    **posting("The model, as Ollama shows one", schemas.OLLAMA_SHOW_BODY, schemas.OLLAMA_SHOW),
)
async def ollama_show(request: Request) -> dict[str, Any]:
    """Of whichever name: there is one model."""
    await body_of(request)
    return ollama.show(_facts(request))


@router.get("/api/version", **asking("The version of Ollama's protocol", schemas.OLLAMA_VERSION))
async def ollama_version() -> dict[str, str]:
    return {"version": ollama.API_VERSION}


@router.get("/info", **asking("Limits, as TGI has them", schemas.TGI_INFO))
async def tgi_info(request: Request) -> dict[str, Any]:
    return tgi.info(_facts(request))


def _facts(request: Request) -> ServerFacts:
    runtime, loaded = runtime_of(request), loaded_of(request)
    engine, settings = loaded.engine, runtime.settings
    modified, num_bytes = _files(runtime.model.path)
    return ServerFacts(
        version=__version__,
        model=model_name(loaded),
        family=loaded.family,
        digest=runtime.model.digest,
        modified=modified,
        num_bytes=num_bytes,
        dtype=engine.dtype,
        device=engine.device,
        arch=platform.machine(),
        cpu=platform.processor() or platform.machine(),
        num_cpus=os.cpu_count() or 1,
        max_context=engine.max_context,
        max_prompt_tokens=min(settings.max_prompt_tokens, engine.max_context - settings.max_new_tokens),
        max_new_tokens=settings.max_new_tokens,
        max_running=settings.max_running,
        num_running=engine.load().num_running,
        max_queue=settings.max_queue,
    )


@cache
def _files(folder: str) -> tuple[float, int]:
    """When the weights were written, and their size."""
    stats = [path.stat() for path in Path(folder).glob("*.safetensors")]
    return max((s.st_mtime for s in stats), default=0.0), sum(s.st_size for s in stats)
