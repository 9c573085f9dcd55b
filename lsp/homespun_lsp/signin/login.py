"""The verb `homespun login`."""

from __future__ import annotations

import argparse
import asyncio
import getpass
import os
import sys
import webbrowser

from homespun_core.errors import ConfigError, ServiceError
from homespun_lsp.network import is_loopback
from homespun_lsp.servers import Server
from homespun_lsp.signin import device, tokens
from homespun_lsp.signin.place import add_server, is_accepted, server_named, way_to

_EPILOG = """\
Prints an address and a code. Open the address on any screen, sign in as your company does, and confirm
the code; editors that run are signed in seconds later. The token is kept in the system's keyring where the
package keyring is installed and works (pip install keyring), else in a file that only you can read
(~/.local/state/homespun/tokens). The option 'token' and HOMESPUN_API_TOKEN win over it.

  homespun login https://code.example.com
  homespun login https://code.example.com --token    # asks for a token that an administrator made
  pass show homespun | homespun login --token
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _EPILOG
    add_server(parser)
    parser.add_argument("--token", action="store_true", help="ask for a token, or read it from standard input")
    parser.add_argument("--browser", action="store_true", help="open the address in this machine's browser too")


def run(args: argparse.Namespace) -> int:
    """Raises ConfigError and ServiceError."""
    server = server_named(args.server)
    if server.url.startswith("http:") and not is_loopback(server.url):
        print(f"homespun: {server.url} isn't encrypted; whoever is in between can read token and code", file=sys.stderr)
    token = asyncio.run(_check_given(server) if args.token else _confirmed(server, opens_browser=args.browser))
    place = tokens.keep(server.url, token)
    print(f"Signed in to {server.url}. The token is in {'the keyring' if place == tokens.KEYRING else place}.")
    if server.token and server.token != token:
        where = "HOMESPUN_API_TOKEN" if os.environ.get("HOMESPUN_API_TOKEN") else "the option 'token'"
        print(f"homespun: {where} is set and wins over it; remove it to use the new one", file=sys.stderr)
    return 0


async def _confirmed(server: Server, *, opens_browser: bool) -> str:
    async with way_to(server) as http:
        invitation = await device.invite(http, server.url)
        print(f"Open {invitation.url} and enter the code\n\n    {invitation.user_code}\n")
        if invitation.complete_url:
            print(f"or open {invitation.complete_url} and compare it.")
        print(f"Waiting for up to {max(1, round(invitation.expires_in_s / 60))} min …", flush=True)
        if opens_browser:
            await asyncio.to_thread(webbrowser.open, invitation.complete_url or invitation.url)
        return await device.await_token(http, server.url, invitation)


async def _check_given(server: Server) -> str:
    token = _given()
    async with way_to(server) as http:
        if not await is_accepted(http, server.url, token):
            raise ServiceError(f"{server.url} refuses this token; check it with who gave it to you")
    return token


def _given() -> str:
    """Never from the command line, which other users of the machine can read."""
    is_asked = sys.stdin.isatty()
    token = (getpass.getpass("Token: ") if is_asked else sys.stdin.readline()).strip()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigError("token: is empty or no token; give it in one line on standard input")
    return token
