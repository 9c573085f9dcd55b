"""The HTTP application: who may call, how errors look, and the life of what is behind the routes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from homespun_core import __version__
from homespun_core.config import Settings
from homespun_core.errors import ConfigError, ServiceError, StorageError
from homespun_core.forges import ForgeConfig
from homespun_core.notify import NotifyConfig
from homespun_core.paths import DataDir
from homespun_core.prompt_versions import PromptVersion
from homespun_core.scopes import ScopeConfig
from homespun_core.types import ModelFiles
from homespun_server import open_files, routes
from homespun_server.access import admin, own, own_adapter, rights
from homespun_server.access.desk import NotThereError
from homespun_server.access.forges import ForgeFollower
from homespun_server.access.gate import Gate, too_many
from homespun_server.access.heads import EVERY_S, HeadKeeper, heads_file
from homespun_server.access.http import ForbiddenError, TooOftenError
from homespun_server.access.leavers import following
from homespun_server.access.noting import Noting
from homespun_server.connections import BoundedBodies
from homespun_server.console import http as console
from homespun_server.dialects import BadRequestError
from homespun_server.engine.protocol import EngineBusyError
from homespun_server.exposure import check_exposure
from homespun_server.feedback import http as feedback_routes
from homespun_server.feedback.filter.upkeep import LOOK_S, Upkeep
from homespun_server.hooks import routes as hooks
from homespun_server.hooks.receiver import Receiver
from homespun_server.jobs import admin as job_routes
from homespun_server.jobs import http as worker_routes
from homespun_server.jobs.keeper import Keeper, counting, noticing
from homespun_server.jobs.queue import Queue, queue_for
from homespun_server.jobs.targets import Targets
from homespun_server.lane import Lane, places_of
from homespun_server.pages import http as pages
from homespun_server.refused import refused
from homespun_server.routes import openapi
from homespun_server.runtime import EngineLoader, Runtime
from homespun_server.runtime import load_engine as load_configured_engine
from homespun_server.signin import http as signin
from homespun_server.signin.service import SignIn

logger = logging.getLogger(__name__)


def build_app(
    settings: Settings,
    model: ModelFiles,
    load_engine: EngineLoader = load_configured_engine,
    on_loaded: Callable[[Runtime], None] = lambda runtime: None,
    scopes: Sequence[ScopeConfig] = (),
    targets: Targets | None = None,
    notify: Sequence[NotifyConfig] = (),
    origins: Mapping[str, str] | None = None,
    forges: Sequence[ForgeConfig] = (),
    prompts: Sequence[PromptVersion] = (),
) -> FastAPI:
    """The application; its lifespan loads the engine in the background. `app.state.runtime` holds the parts.

    `on_loaded` is called in the loading thread, also when loading failed. `scopes` are the shared adapters of the
    settings, `targets` what jobs may be about (without, what is indexed), `notify` who hears of what happens, `origins`
    says where settings come from that aren't at their defaults, `forges` are asked who may read what, `prompts` are
    tried by a share of the users. Raises ConfigError when the settings would open the server to a network without
    asking who is there.
    """
    runtime = Runtime(settings, model, load_engine, scopes, targets.keeping if targets else frozenset(), prompts)
    try:
        check_exposure(settings, has_accounts=runtime.lookup.has_accounts)
        service = SignIn(settings, runtime.database, runtime.lookup)
        queue = queue_for(settings, runtime.database, targets)
    except ConfigError:
        runtime.close()
        raise
    runtime.ask_for_index = queue.damaged
    keepers = _keepers(settings, runtime, queue, notify)
    follower = ForgeFollower(runtime.database, forges, runtime.guarded)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        asyncio.get_running_loop().set_exception_handler(open_files.on_loop_error)
        runtime.start(on_loaded)
        for keeper in keepers:
            keeper.start()
        follower.start()
        yield
        follower.close()
        for keeper in keepers:
            keeper.close()
        service.close()
        runtime.close()

    # /openapi.json, but no pages about it: they load their scripts from a public network.
    app = FastAPI(title="Homespun", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    openapi.install(app)
    app.state.runtime, app.state.origins = runtime, origins or {}
    app.state.is_stopping = lambda: False
    app.state.jobs = queue
    app.state.hooks = Receiver(DataDir(settings.data_root), settings.webhook_secret, ask=queue.pushed)
    _include_routes(app, service)
    _explain_errors(app)
    _guard(app, settings, runtime, service)
    return app


def _keepers(settings: Settings, runtime: Runtime, queue: Queue, notify: Sequence[NotifyConfig]) -> Sequence[Keeper]:
    data, database = DataDir(settings.data_root), runtime.database
    head = HeadKeeper(database, heads_file(data), runtime.metrics.audit_entries.set)
    hides = settings.show_filter == "auto" and settings.feedback_days > 0
    return [
        Keeper([queue.store.tidy, counting(queue.store, runtime.metrics.jobs)]),
        Keeper([following(data, database)]),
        *noticing(settings, database, queue.store, notify, runtime.problems),
        Keeper([rights.noting(settings, database, runtime.guarded)], rights.EVERY_S),
        Keeper([head.note], EVERY_S),
        *([Keeper([Upkeep(settings).look], LOOK_S)] if hides else []),
    ]


def _include_routes(app: FastAPI, service: SignIn) -> None:
    app.include_router(routes.router)
    app.include_router(hooks.router)
    app.include_router(feedback_routes.router)
    app.include_router(admin.router)
    app.include_router(own.router)
    app.include_router(own_adapter.router)
    app.include_router(pages.router)
    app.include_router(worker_routes.router)
    app.include_router(job_routes.router)
    signin.include(app, service)
    console.install(app)


def _explain_errors(app: FastAPI) -> None:
    app.add_exception_handler(BadRequestError, _bad_request)
    app.add_exception_handler(EngineBusyError, _busy)
    app.add_exception_handler(ServiceError, _unavailable)
    app.add_exception_handler(ForbiddenError, _forbidden)
    app.add_exception_handler(TooOftenError, _too_often)
    app.add_exception_handler(NotThereError, _not_there)
    app.add_exception_handler(ConfigError, _senseless)
    app.add_exception_handler(StorageError, _unavailable)
    app.add_exception_handler(RequestValidationError, _misshapen)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _bug)


def _guard(app: FastAPI, settings: Settings, runtime: Runtime, service: SignIn) -> None:
    """What was added last comes first."""
    shed = runtime.metrics.shed.labels("crowded")
    paths = [*routes.completions.router.routes, *routes.explaining.router.routes]
    app.add_middleware(Lane, routes=paths, places=places_of(settings), on_refused=shed.inc)
    app.add_middleware(
        Gate,
        settings=settings,
        lookup=runtime.lookup,
        signed=(hooks.PATH, worker_routes.PATH, *signin.SIGNED),
        doors=(pages.PATH, *signin.DOORS),
        browsers=service,
        noting=Noting(runtime.database, runtime.metrics.refused_tokens.inc),
    )
    app.add_middleware(BoundedBodies)


async def _bad_request(request: Request, error: Exception) -> Response:
    assert isinstance(error, BadRequestError)
    return refused(request.url.path, error.status, error.message, "invalid_request_error", error.code, error.param)


async def _busy(request: Request, error: Exception) -> Response:
    assert isinstance(error, EngineBusyError)
    response = refused(request.url.path, 429, str(error), "rate_limit_error", "too_many_requests")
    response.headers["Retry-After"] = str(error.retry_after_s)
    return response


async def _unavailable(request: Request, error: Exception) -> Response:
    response = refused(request.url.path, 503, str(error), "service_unavailable_error", "not_ready")
    response.headers["Retry-After"] = "1"
    return response


async def _forbidden(request: Request, error: Exception) -> Response:
    return refused(request.url.path, 403, str(error), "permission_error", "forbidden")


async def _too_often(request: Request, error: Exception) -> Response:
    assert isinstance(error, TooOftenError)
    return too_many(request.url.path, error.taken)


async def _not_there(request: Request, error: Exception) -> Response:
    return refused(request.url.path, 404, str(error), "invalid_request_error", "not_found")


async def _senseless(request: Request, error: Exception) -> Response:
    return refused(request.url.path, 400, str(error), "invalid_request_error", "invalid_value")


async def _misshapen(request: Request, error: Exception) -> Response:
    """Says where and what, and repeats nothing of what was sent."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"][1:])
    message = f"{place or 'the body'}: {first['msg']}"
    return refused(request.url.path, 400, message, "invalid_request_error", "invalid_value", place or None)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "http_error")
    response = refused(request.url.path, error.status_code, str(error.detail), "invalid_request_error", code)
    response.headers.update(error.headers or {})
    return response


async def _bug(request: Request, error: Exception) -> Response:
    """The HTTP edge's broad handler. Starlette re-raises after it, so the traceback gets to the server's log."""
    return refused(request.url.path, 500, "the server failed; its log says why", "server_error", "internal_error")
