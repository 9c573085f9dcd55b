"""The verb `homespun logout`."""

from __future__ import annotations

import argparse
import asyncio
import sys

from homespun_core.errors import ConfigError
from homespun_lsp.servers import Server
from homespun_lsp.signin import device, tokens
from homespun_lsp.signin.place import add_server, server_named, way_to


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "Has the server revoke the token that `homespun login` kept, and deletes it here."
    add_server(parser)


def run(args: argparse.Namespace) -> int:
    """Signed out here in any case; says so when the server couldn't be told. Raises ConfigError."""
    server = server_named(args.server)
    kept = tokens.find(server.url)
    if kept is None:
        tokens.forget(server.url)
        print(f"Not signed in to {server.url}.")
        return 0
    try:
        is_revoked = asyncio.run(_revoke(server, kept.token))
    except ConfigError as error:  # a missing certificate keeps nobody signed in
        print(f"homespun: {error}", file=sys.stderr)
        is_revoked = False
    tokens.forget(server.url)
    print(f"Signed out of {server.url}.")
    if not is_revoked:
        why = "the server couldn't be told; have the token revoked there if others may know it"
        print(f"homespun: {why}", file=sys.stderr)
    return 0


async def _revoke(server: Server, token: str) -> bool:
    async with way_to(server) as http:
        return await device.revoke(http, server.url, token)
