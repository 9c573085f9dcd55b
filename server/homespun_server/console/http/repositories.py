"""Repositories: all of them, and one with all that is known of it."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from homespun_core.errors import HomespunError
from homespun_core.retraining import read_ledger, read_scores
from homespun_server.access.principal import Principal
from homespun_server.console.http.web import Form, allowed, data_of, not_found, page, runtime_of
from homespun_server.console.repositories import Repository, described, disk_bytes
from homespun_server.console.sections import PATH
from homespun_server.jobs.http import queue_of
from homespun_server.jobs.states import Kind
from homespun_server.pages.forms import PageError
from homespun_server.pages.http import HEADERS

router = APIRouter()

_KINDS: Mapping[str, Kind] = {"index": "index", "train": "train", "evaluate": "evaluate"}
_JOBS = 5


def repositories_of(request: Request, who: Principal) -> list[Repository]:
    loaded = runtime_of(request).loaded
    live = loaded.watcher.visible_to(who.readable) if loaded else ()
    # They may name other repositories, so they are for those who see all.
    problems = loaded.watcher.problems if loaded and who.readable is None else []
    configured = {target.repository: target.source for target in queue_of(request).configured}
    return described(data_of(request), live, problems, who, configured)


@router.get(f"{PATH}/repositories")
def index(request: Request) -> Response:
    who = allowed(request, "repositories")
    return page(request, "repositories.html", "repositories", repositories=repositories_of(request, who))


@router.get(f"{PATH}/repositories/{{repo}}")
def show(request: Request, repo: str) -> Response:
    found = _one(request, repo)
    data = data_of(request)
    jobs = queue_of(request).store.jobs(repositories=[repo], limit=_JOBS)
    scores = read_scores(data.retraining(repo))
    return page(
        request,
        "repository.html",
        "repositories",
        repository=found,
        disk=disk_bytes(data, repo),
        jobs=jobs,
        decision=read_ledger(data.retraining(repo)).decision,
        fresh=scores[-1] if scores else None,
    )


@router.post(f"{PATH}/repositories/{{repo}}")
def work(request: Request, repo: str, form: Form) -> Response:
    """Asks for a job, and shows it."""
    found, who = _one(request, repo), allowed(request, "repositories")
    kind = _KINDS.get(form.get("job", ""))
    if kind is None:
        raise not_found("kind of job")
    try:
        job = queue_of(request).ask(kind, found.id, asked_by=who.name, known=True)
    except HomespunError as error:
        raise PageError(409, "It can’t be done", str(error)) from None
    return RedirectResponse(f"{PATH}/jobs/{job.id}", status_code=303, headers=HEADERS)


def _one(request: Request, repo: str) -> Repository:
    who = allowed(request, "repositories")
    found = next((r for r in repositories_of(request, who) if r.id == repo), None)
    if found is None:
        raise not_found("repository")
    return found
