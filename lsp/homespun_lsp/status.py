"""How things stand, in a word for programs and a line for people. Shown by editors that like to; never a pop-up."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    CONNECTING = "connecting"
    """Nothing is known yet."""
    READY = "ready"
    STARTING = "starting"
    """The server is there and can't answer yet."""
    BUSY = "busy"
    OFFLINE = "offline"
    SIGNED_OUT = "signed out"
    NOT_PERMITTED = "not permitted"
    FAILING = "failing"
    """It answers, and not as it should; or our own options make no sense."""
    PAUSED = "paused"
    """By the user."""


# As in Copilot's `didChangeStatus`, which its clients and ours understand.
_KINDS = {
    State.CONNECTING: "Normal",
    State.READY: "Normal",
    State.PAUSED: "Inactive",
    State.SIGNED_OUT: "Error",
    State.NOT_PERMITTED: "Error",
    State.FAILING: "Error",
}
_WORKING = frozenset((State.CONNECTING, State.STARTING))
SIGN_IN = "homespun.signIn"


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    state: State
    server: str | None = None
    """Its address, without path."""
    says: str = ""
    """What is wrong, to be read after the address."""

    @property
    def message(self) -> str:
        """In one line."""
        return f"{self.server} {self.says}" if self.says else str(self.state)

    def as_json(self) -> dict[str, object]:
        """What `didChangeStatus` and `homespun/status` say."""
        status: dict[str, object] = {
            "busy": self.state in _WORKING,
            "kind": _KINDS.get(self.state, "Warning"),
            "message": self.message,
            "state": str(self.state),
            "server": self.server,
        }
        if self.state is State.SIGNED_OUT:
            status["command"] = {"command": SIGN_IN, "title": "Sign in to Homespun"}
        return status


PAUSED = Status(state=State.PAUSED)
