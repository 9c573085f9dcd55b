"""Who can reach this server, judged by the address it listens on and the one that people are given."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from homespun_core.config import Settings
from homespun_core.errors import ConfigError

MIN_TOKEN_CHARS = 16


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def is_private(settings: Settings) -> bool:
    """Whether only people on this machine can reach the server."""
    return not _reached_by_others(settings)


def check_exposure(settings: Settings, *, has_accounts: bool) -> None:
    """Raises ConfigError when others could reach a server that asks nobody who they are."""
    asks = has_accounts or settings.api_token or settings.oidc_issuer or settings.setup
    reached = _reached_by_others(settings)
    if reached and not asks:
        raise ConfigError(
            f"{reached} can be reached by others, who could read indexed code through completions;"
            " make accounts (homespun user add NAME --role admin, or --setup and a browser), set HOMESPUN_API_TOKEN, or"
            " listen on 127.0.0.1 alone"
        )
    if reached:
        _check_tokens(settings)


def _check_tokens(settings: Settings) -> None:
    """What others may try without end must be too long to guess."""
    for name in ("api_token", "scim_token", "worker_token"):
        if 0 < len(getattr(settings, name)) < MIN_TOKEN_CHARS:
            raise ConfigError(
                f"{name}: is shorter than {MIN_TOKEN_CHARS} characters and could be guessed by whoever reaches this"
                " server; set a long random text (openssl rand -hex 24)"
            )


def _reached_by_others(settings: Settings) -> str:
    """The setting that says so, and its value; a public name is that of a proxy in front of a server on loopback."""
    if not is_loopback(settings.host):
        return f"host: {settings.host}"
    public = urlsplit(settings.public_url).hostname
    return f"public_url: {settings.public_url}" if public and not is_loopback(public) else ""
