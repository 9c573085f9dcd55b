"""Who can reach this server, judged by the address it listens on."""

from __future__ import annotations

import ipaddress

from homespun_core.config import Settings
from homespun_core.errors import ConfigError


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_exposure(settings: Settings, *, has_accounts: bool) -> None:
    """Raises ConfigError when others could reach a server that asks nobody who they are."""
    asks = has_accounts or settings.api_token or settings.oidc_issuer
    if not is_loopback(settings.host) and not asks:
        raise ConfigError(
            f"host: {settings.host} can be reached by others, who could read indexed code through completions;"
            " make accounts (homespun user add NAME --role admin), set HOMESPUN_API_TOKEN, or listen on 127.0.0.1"
        )
