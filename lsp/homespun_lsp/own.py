"""The user's own file of options, below those of the editor: for several editors at once, and for `homespun login`.

It lies in the user's configuration and nowhere else. What a repository brings along must not say where code and token
are sent.
"""

from __future__ import annotations

import os
import tomllib
from dataclasses import replace
from pathlib import Path

from homespun_core.errors import ConfigError
from homespun_core.loading import LoadedSettings
from homespun_lsp.options import Options, defaults, merge, server_url_problem


def own_options(loaded: LoadedSettings) -> Options:
    """What is given on the command line or in the environment wins. Raises ConfigError, also for an option that would
    only be warned of in the editor: here the file can still be mended before code goes anywhere."""
    base = defaults(loaded.settings)
    if problem := server_url_problem(base.server_url):
        raise ConfigError(f"server_url: {problem}")
    path = _path()
    own = _read(path) if path else {}
    if "token" in own:  # an editor may name another server, and the token would go there
        raise ConfigError(f"{path}: token: is kept for its server by 'homespun login --token', not in this file")
    options, problems = merge(base, own)
    for name, problem in problems.items():
        raise ConfigError(f"{path}: {name}: {problem.removesuffix('; using the default')}")
    return replace(options, server_url=base.server_url) if "server_url" in loaded.sources else options


def _path() -> Path | None:
    base = Path(os.environ.get("XDG_CONFIG_HOME", ""))
    try:
        return (base if base.is_absolute() else Path.home() / ".config") / "homespun" / "editor.toml"
    except RuntimeError:  # there is no home at all
        return None


def _read(path: Path) -> dict[str, object]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: {error}") from None
