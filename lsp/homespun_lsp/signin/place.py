"""Which server a verb is about, and the way to it."""

from __future__ import annotations

import argparse
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx

from homespun_core.errors import ConfigError, ServiceError
from homespun_core.loading import load_settings
from homespun_lsp.network import Reply, client_for, explain, reply_to
from homespun_lsp.options import server_url_problem, token_problem
from homespun_lsp.own import own_options
from homespun_lsp.servers import Server, server_of, servers_of

_WITHIN_S = 10.0


def add_server(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "server",
        nargs="?",
        help="its address (default: HOMESPUN_SERVER_URL, serverUrl in editor.toml, or this machine)",
    )


def server_named(word: str | None) -> Server:
    """With the options that the user's file has for it. Raises ConfigError."""
    if word is not None and (wrong := server_url_problem(word)):
        raise ConfigError(f"server: {'…' if '@' in word else word}: {wrong}; for example https://code.example.com")
    loaded = load_settings({}, os.environ, Path(os.devnull))
    options = own_options(loaded)
    is_set = "server_url" in loaded.sources or options.server_url != loaded.settings.server_url
    if word is not None and not is_set:
        options = replace(options, server_url=word)  # a token without an address is for the server that is named
    servers, problems = servers_of(options)
    for name, problem in problems.items():
        raise ConfigError(f"editor.toml: {name}: {problem}")
    server = server_of(options if word is None else servers.at(word))
    if wrong := token_problem(server.token):
        raise ConfigError(f"token: {wrong}")
    return server


@asynccontextmanager
async def way_to(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    async with client_for(server.url, server.route) as http:
        yield http


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What a server says of who has a token."""

    name: str = "somebody"
    """A stock server knows no names."""
    keeps: tuple[str, ...] = ()
    """Repositories whose completions it keeps, with their prompts."""


async def known_as(http: httpx.AsyncClient, url: str, token: str) -> Known | None:
    """None where it doesn't let them in. Raises ServiceError."""
    if not await is_accepted(http, url, token):
        return None
    try:
        reply = await _get(http, f"{url}/v1/homespun/me", token)
        match reply.body if reply.status == httpx.codes.OK else None:
            case {"name": str(name), "role": str(role)} if name.isprintable() and role.isprintable():
                return Known(name=f"{name}, {role}", keeps=kept_in(reply.body))
    except httpx.HTTPError:
        pass
    return Known()


def kept_in(body: object) -> tuple[str, ...]:
    """Where a server says, about somebody or with its models, in which repositories completions are kept."""
    names = body.get("keeps_completions") if isinstance(body, Mapping) else None
    return tuple(n for n in names if isinstance(n, str) and n.isprintable()) if isinstance(names, list) else ()


def notice(server: str, keeps: Sequence[str]) -> str:
    return f"{server} keeps completions that were shown in {', '.join(keeps)}, with their prompts"


async def is_accepted(http: httpx.AsyncClient, url: str, token: str) -> bool:
    """Whether the server lets this token in; one that is still starting has looked at it too. Raises ServiceError."""
    try:
        reply = await _get(http, f"{url}/v1/models", token)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ServiceError(f"{url} {explain(error)}") from None
    if reply.status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        return False
    if reply.status in (httpx.codes.OK, httpx.codes.SERVICE_UNAVAILABLE):
        return True
    raise ServiceError(f"{url} answers with status {reply.status}; is it the address of a Homespun server?")


async def _get(http: httpx.AsyncClient, url: str, token: str) -> Reply:
    headers = {"authorization": f"Bearer {token}"} if token else {}
    return await reply_to(http, http.build_request("GET", url, headers=headers), _WITHIN_S)
