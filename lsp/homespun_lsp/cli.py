"""The verb `homespun lsp`. Importing this imports neither pygls nor httpx: the command has other verbs."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path
from typing import BinaryIO

from homespun_core.config import LSP, SETTINGS
from homespun_core.loading import LoadedSettings, add_flags, load_settings
from homespun_core.logs import configure_logging
from homespun_lsp.own import own_options

_EPILOG = """\
Editors start it; what it can be told, and how each editor does that, is in lsp/editors/README.md. Options for
all editors of yours can stand in ~/.config/homespun/editor.toml (XDG_CONFIG_HOME), under the same names:

  serverUrl = "https://code.example.com"   # sign in with: homespun login https://code.example.com
  caFile = "~/company-ca.pem"
  [servers."git.example.com/payments"]     # repositories or folders with a server of their own
  serverUrl = "https://payments.example.com"

Without a Homespun server, a stock one can be tried (openai, as vLLM speaks; llama.cpp, ollama, mistral,
deepseek, tabby):

  serverUrl = "http://127.0.0.1:8012"
  backend = "llama.cpp"
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _EPILOG
    parser.add_argument(
        "--stdio", action="store_true", help="talk over standard input and output (the only way there is)"
    )
    add_flags(parser, (LSP,))


def run(args: argparse.Namespace) -> int:
    """Serve one editor until it says goodbye. Raises ConfigError when the settings make no sense."""
    loaded = _loaded(args)
    defaults = own_options(loaded)
    protocol = _claim_stdout()
    _configure_logging(loaded.settings.log_level)
    from homespun_lsp.handlers import create_server

    create_server(defaults).serve(sys.stdin.buffer, protocol)
    return 0


def _loaded(args: argparse.Namespace) -> LoadedSettings:
    """Without --config no homespun.toml is read: editors start us in the repository that is open, and one that was only
    cloned to be looked at must not say where the developer's code and token are sent."""
    flags = {name: value for name, value in vars(args).items() if name in SETTINGS}
    return load_settings(flags, os.environ, args.config or Path(os.devnull))


def _claim_stdout() -> BinaryIO:
    """Standard output for the protocol alone; whatever else is printed, by whomever, goes to standard error."""
    protocol = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    sys.stdout = sys.stderr
    return protocol


def _configure_logging(level: str) -> None:
    configure_logging(level)
    # pygls logs messages with the code in them, as errors too; `report_server_error` says what of those can be said.
    # httpx logs addresses, which may hold a password.
    logging.getLogger("pygls").setLevel(logging.CRITICAL)
    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)
