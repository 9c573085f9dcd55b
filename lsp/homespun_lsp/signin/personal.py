"""The verb `homespun personal`."""

from __future__ import annotations

import argparse
import asyncio
from typing import Any

import httpx

from homespun_core.errors import ServiceError
from homespun_lsp.network import explain
from homespun_lsp.servers import Server
from homespun_lsp.signin.place import add_server, server_named, way_to
from homespun_lsp.signin.whoami import token_for

_EPILOG = """\
An adapter of your own is trained on lines that you committed yourself (by your account's e-mail address, .mailmap
heeded), on top of the adapter that everybody has, and only you are ever served with it.

  homespun personal on       from now on there may be one
  homespun personal show     whether there is, and for which repositories
  homespun personal off      delete it, and all that was made for it, at once
"""
_METHODS = {"on": "PUT", "off": "DELETE", "show": "GET"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _EPILOG
    parser.add_argument("action", choices=_METHODS, help="ask for one, delete it, or say what there is")
    add_server(parser)


def run(args: argparse.Namespace) -> int:
    """Raises ConfigError and ServiceError."""
    server = server_named(args.server)
    token, _ = token_for(server)
    answer = asyncio.run(_asked(server, token, _METHODS[args.action]))
    print(_said(args.action, answer))
    return 0


async def _asked(server: Server, token: str, method: str) -> dict[str, Any]:
    headers = {"authorization": f"Bearer {token}"} if token else {}
    async with way_to(server) as http:
        try:
            response = await http.request(method, f"{server.url}/v1/homespun/me/adapter", headers=headers)
            body = response.json()
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ServiceError(f"{server.url} {explain(error)}") from None
        except (ValueError, RecursionError):
            body = None
    if response.status_code == httpx.codes.OK and isinstance(body, dict):
        return body
    raise ServiceError(f"{server.url}: {_why(response.status_code, body)}")


def _why(status: int, body: object) -> str:
    match body:
        case {"error": {"message": str(message)}} if message.isprintable():
            return message[:300]
    if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        return "it doesn't let you in; sign in with: homespun login"
    return f"it answers with status {status}; is it a Homespun server with accounts?"


def _said(action: str, answer: dict[str, Any]) -> str:
    if action == "off":
        gone = ", ".join(map(str, answer.get("deleted", ())))
        return f"Deleted, with all that was made for it{f' ({gone})' if gone else ''}; none is trained any more."
    if not answer.get("wanted"):
        return "You have no adapter of your own; ask for one: homespun personal on"
    adapters, not_served = answer.get("adapters") or {}, answer.get("not_served") or {}
    rows = [f"  {name}: {_state(version, not_served.get(name))}" for name, version in adapters.items()]
    return "\n".join(["You want adapters of your own.", *(rows or ["  None was trained yet."])])


def _state(version: object, why_not: object) -> str:
    if not version:
        return "none is live"
    return f"{version} is live" if not why_not else f"you are not served with {version}: it {why_not}"
