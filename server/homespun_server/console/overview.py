"""The first page: what to do next while there is something, and how the server does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from homespun_server.console.repositories import Repository
from homespun_server.feedback.summary import Summary


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    title: str
    text: str
    command: str
    is_done: bool
    is_for_owners: bool = True
    """Whether it takes somebody who manages repositories."""
    adds_repository: bool = False
    """Whether there is a form for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A decision that a person has to make."""

    repo: str
    version: str


def steps(
    repositories: Sequence[Repository], *, url: str, has_completions: bool, is_owner: bool, has_accounts: bool
) -> list[Step]:
    """What a new installation needs, in order, of that what somebody can do; empty once all of it is done."""
    first = repositories[0].name if repositories else "~/code/my-project"
    found = [
        Step(
            title="Index a repository",
            text="A path or a URL of git, on the machine that runs this server. Completions know it seconds later.",
            command="homespun index ~/code/my-project",
            is_done=bool(repositories),
            adds_repository=True,
        ),
        Step(
            title="Point an editor here",
            text="Neovim, VS Code and others: this is the language server’s command."
            + (" It needs a token, which the first line gets." if has_accounts else ""),
            command=(f"homespun login {url}\n" if has_accounts else "") + f"homespun lsp --server-url {url}",
            is_done=has_completions,
            is_for_owners=False,
        ),
        Step(
            title="Train an adapter",
            text="It goes live by itself if it proves better on code written after what it was trained on.",
            command=f"homespun train {first}",
            is_done=any(r.adapter for r in repositories),
        ),
    ]
    own = [step for step in found if is_owner or not step.is_for_owners]
    return [] if all(step.is_done for step in own) else own


def waiting(adapters: Mapping[str, Mapping[str, Any]]) -> list[Waiting]:
    return [
        Waiting(repo=repo, version=facts["candidate"]) for repo, facts in adapters.items() if facts.get("candidate")
    ]


def health(state: Mapping[str, Any]) -> tuple[str, str]:
    """The server in a word, and its tone. `state` is what `/readyz` says."""
    if state.get("error"):
        return "Not working", "bad"
    if not state["ready"]:
        return "Loading the model", "warn"
    return ("Working, with problems", "warn") if state.get("problems") else ("Working", "good")


def tiles(today: Summary | None) -> list[tuple[str, str]]:
    """The numbers of today as (name, value); none where nothing is remembered."""
    if today is None:
        return []
    return [
        ("completions shown", f"{today.shown:,}"),
        ("accepted", f"{today.acceptance:.0%}" if today.shown else "–"),
        ("characters kept", f"{today.kept_characters:,}"),
    ]
