"""The HTTP application: who may call, how errors look, and the life of what is behind the routes."""

from __future__ import annotations

import logging
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from homespun_core import __version__
from homespun_core.config import Settings
from homespun_core.errors import ServiceError
from homespun_core.paths import DataDir
from homespun_core.types import ModelFiles
from homespun_server import routes
from homespun_server.access.principal import LOCAL
from homespun_server.connections import BoundedBodies
from homespun_server.dialects import BadRequestError
from homespun_server.dialects.refusals import Refusal, refusal_body
from homespun_server.engine.protocol import EngineBusyError
from homespun_server.exposure import check_exposure, is_loopback
from homespun_server.feedback import http as feedback_routes
from homespun_server.hooks import routes as hooks
from homespun_server.hooks.receiver import Receiver
from homespun_server.pages import http as pages
from homespun_server.runtime import EngineLoader, Runtime
from homespun_server.runtime import load_engine as load_configured_engine

logger = logging.getLogger(__name__)


def build_app(
    settings: Settings,
    model: ModelFiles,
    load_engine: EngineLoader = load_configured_engine,
    on_loaded: Callable[[Runtime], None] = lambda runtime: None,
) -> FastAPI:
    """The application; its lifespan loads the engine in the background. `app.state.runtime` holds the parts.

    `on_loaded` is called in the loading thread, also when loading failed. Raises ConfigError when
    the settings would open the server to a network without a token.
    """
    check_exposure(settings)
    runtime = Runtime(settings, model, load_engine)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        runtime.start(on_loaded)
        yield
        runtime.close()

    # No schema pages: they load their scripts from a public network.
    app = FastAPI(
        title="Homespun", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None
    )
    app.state.runtime = runtime
    app.state.hooks = Receiver(DataDir(settings.data_root), settings.webhook_secret)
    app.include_router(routes.router)
    app.include_router(hooks.router)
    app.include_router(feedback_routes.router)
    app.include_router(pages.router)
    app.add_exception_handler(BadRequestError, _bad_request)
    app.add_exception_handler(EngineBusyError, _busy)
    app.add_exception_handler(ServiceError, _unavailable)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _bug)
    app.add_middleware(_Gate, settings=settings)
    app.add_middleware(BoundedBodies)
    return app


class _Gate:
    """Refuses before anything is read: a wrong Host or Origin header on loopback, a missing or wrong token.

    A web page may have its own name point to 127.0.0.1 (DNS rebinding); its requests then carry that name. Or it posts
    to 127.0.0.1 without being able to read the answer; browsers then name its origin.

    Forges' hooks pass: they have a signature of their own, no bearer token, and the name of a proxy in front of us.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app, self._token = app, settings.api_token.encode()
        self._is_local = is_loopback(settings.host)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        is_hook = f"{scope['path']}/".startswith(f"{hooks.PATH}/")
        scope.setdefault("state", {})["principal"] = LOCAL
        refusal = None if is_hook else self._refusal(scope["path"], dict(scope["headers"]))
        await (refusal or self._app)(scope, receive, send)

    def _refusal(self, path: str, headers: dict[bytes, bytes]) -> Response | None:
        if self._is_local and not is_loopback(_host_of(headers.get(b"host", b"").decode("latin-1"))):
            message = "this server answers on localhost only; the Host header names another"
            return _error(path, 400, message, "invalid_request_error", "wrong_host")
        if self._is_local and not _is_local_origin(headers.get(b"origin")):
            message = "web pages of other sites may not use this server"
            return _error(path, 403, message, "invalid_request_error", "foreign_origin")
        if self._token and path != "/healthz" and not self._is_authorised(headers.get(b"authorization", b"")):
            response = _error(path, 401, "a valid bearer token is needed", "authentication_error", "invalid_api_key")
            response.headers["WWW-Authenticate"] = "Bearer"
            return response
        return None

    def _is_authorised(self, header: bytes) -> bool:
        scheme, _, token = header.partition(b" ")
        return scheme.lower() == b"bearer" and secrets.compare_digest(token.strip(), self._token)


def _is_local_origin(origin: bytes | None) -> bool:
    """Programs send none; pages of this machine send their own."""
    return origin is None or is_loopback(_host_of(origin.decode("latin-1").partition("://")[2]))


def _host_of(header: str) -> str:
    """Without the port: `localhost:8080`, `[::1]:8080`."""
    return header.partition("]")[0].lstrip("[") if header.startswith("[") else header.partition(":")[0]


def _error(path: str, status: int, message: str, type: str, code: str, param: str | None = None) -> JSONResponse:
    refusal = Refusal(status=status, message=message, type=type, code=code, param=param)
    return JSONResponse(refusal_body(refusal, path), status_code=status)


async def _bad_request(request: Request, error: Exception) -> Response:
    assert isinstance(error, BadRequestError)
    return _error(request.url.path, error.status, error.message, "invalid_request_error", error.code, error.param)


async def _busy(request: Request, error: Exception) -> Response:
    assert isinstance(error, EngineBusyError)
    response = _error(request.url.path, 429, str(error), "rate_limit_error", "too_many_requests")
    response.headers["Retry-After"] = str(error.retry_after_s)
    return response


async def _unavailable(request: Request, error: Exception) -> Response:
    response = _error(request.url.path, 503, str(error), "service_unavailable_error", "not_ready")
    response.headers["Retry-After"] = "1"
    return response


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "http_error")
    response = _error(request.url.path, error.status_code, str(error.detail), "invalid_request_error", code)
    response.headers.update(error.headers or {})
    return response


async def _bug(request: Request, error: Exception) -> Response:
    """The HTTP edge's broad handler. Starlette re-raises after it, so the traceback gets to the server's log."""
    return _error(request.url.path, 500, "the server failed; its log says why", "server_error", "internal_error")
