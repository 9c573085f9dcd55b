"""Repositories: all of them, and one with all that is known of it."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from homespun_core.nudges import nudge
from homespun_core.retraining import read_ledger, read_scores
from homespun_server.access.principal import Principal
from homespun_server.console.http.web import Form, allowed, back_to, data_of, not_found, page, runtime_of
from homespun_server.console.repositories import Repository, described, disk_bytes
from homespun_server.console.sections import PATH

router = APIRouter()


def repositories_of(request: Request, who: Principal) -> list[Repository]:
    loaded = runtime_of(request).loaded
    live = loaded.watcher.visible_to(who.readable) if loaded else ()
    # They may name other repositories, so they are for those who see all.
    problems = loaded.watcher.problems if loaded and who.readable is None else []
    return described(data_of(request), live, problems, who)


@router.get(f"{PATH}/repositories")
def index(request: Request) -> Response:
    who = allowed(request, "repositories")
    return page(request, "repositories.html", "repositories", repositories=repositories_of(request, who))


@router.get(f"{PATH}/repositories/{{repo}}")
def show(request: Request, repo: str) -> Response:
    found = _one(request, repo)
    data = data_of(request)
    scores = read_scores(data.retraining(repo))
    return page(
        request,
        "repository.html",
        "repositories",
        repository=found,
        disk=disk_bytes(data, repo),
        decision=read_ledger(data.retraining(repo)).decision,
        fresh=scores[-1] if scores else None,
    )


@router.post(f"{PATH}/repositories/{{repo}}/index")
def reindex(request: Request, repo: str, form: Form) -> Response:
    found = _one(request, repo)
    nudge(data_of(request), found.id)
    return back_to(f"{PATH}/repositories/{found.id}", "index")


def _one(request: Request, repo: str) -> Repository:
    who = allowed(request, "repositories")
    found = next((r for r in repositories_of(request, who) if r.id == repo), None)
    if found is None:
        raise not_found("repository")
    return found
