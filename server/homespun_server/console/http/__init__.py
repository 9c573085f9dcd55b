"""The console's routes. `install` is all an application needs."""

from homespun_server.console.http.installing import install

__all__ = ["install"]
