"""The verb `homespun whoami`."""

from __future__ import annotations

import argparse
import asyncio
import os

from homespun_core.errors import ServiceError
from homespun_lsp.servers import Server
from homespun_lsp.signin import tokens
from homespun_lsp.signin.place import Known, add_server, known_as, notice, server_named, way_to


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "Says which token this machine's editors send to the server, whether it lets them in, and as whom."
    add_server(parser)


def run(args: argparse.Namespace) -> int:
    """Raises ConfigError and ServiceError; the latter also when the server doesn't let us in."""
    server = server_named(args.server)
    token, place = token_for(server)
    known = asyncio.run(_known(server, token))
    if known is None:
        raise ServiceError(f"{server.url} doesn't let you in ({place}); sign in with: homespun login {server.url}")
    print(f"{server.url} lets you in as {known.name} ({place}).")
    if known.keeps:
        print(f"{notice(server.url, known.keeps)}.")
    return 0


async def _known(server: Server, token: str) -> Known | None:
    async with way_to(server) as http:
        return await known_as(http, server.url, token)


def token_for(server: Server) -> tuple[str, str]:
    """And where it is from. The order is the language server's."""
    if server.token:
        is_from_environment = os.environ.get("HOMESPUN_API_TOKEN") == server.token
        return server.token, f"token from {'HOMESPUN_API_TOKEN' if is_from_environment else 'editor.toml'}"
    kept = tokens.find(server.url)
    if kept is None:
        return "", "without a token"
    return kept.token, f"token from {'the keyring' if kept.place == tokens.KEYRING else kept.place}"
