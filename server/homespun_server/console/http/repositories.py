"""Repositories: all of them, and one with all that is known of it."""

from __future__ import annotations

import time
from collections.abc import Mapping

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from homespun_core.errors import ConfigError, HomespunError
from homespun_core.paths import hide_credentials, is_remote, repo_identity_on_disk, why_unreadable
from homespun_core.retraining import fall, read_ledger, read_receptions, read_scores
from homespun_server.access.decisions import may
from homespun_server.access.desk import anybody
from homespun_server.access.http import principal_of
from homespun_server.access.principal import Principal
from homespun_server.console.http.web import Form, allowed, data_of, not_found, page, runtime_of
from homespun_server.console.repositories import Repository, described
from homespun_server.console.sections import PATH
from homespun_server.disk import disk_bytes
from homespun_server.jobs.admin import note
from homespun_server.jobs.http import queue_of
from homespun_server.jobs.states import Job, Kind
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
    return _listed(request)


@router.post(f"{PATH}/repositories")
def add(request: Request, form: Form) -> Response:
    """Asks for a first index of one that nobody has named yet, and shows that job."""
    if not may(allowed(request, "repositories"), "manage-people"):
        raise PageError(403, "Not for you", "A repository that this server doesn’t know yet is added by an admin.")
    try:
        source = _source(form.get("source", ""))
        note(anybody(request), "job.add", f"index {source}")
        job = queue_of(request).ask("index", source, asked_by=principal_of(request).name, known=False)
    except HomespunError as error:
        return _listed(request, status=400, error=str(error), source=hide_credentials(form.get("source", "")))
    return _to(job)


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
        fallen=fall(read_receptions(data.retraining(found.adapter_of or repo)), found.adapter, time.time()),
    )


@router.post(f"{PATH}/repositories/{{repo}}")
def work(request: Request, repo: str, form: Form) -> Response:
    """Asks for a job, and shows it."""
    found, who = _one(request, repo), allowed(request, "repositories")
    kind = _KINDS.get(form.get("job", ""))
    if kind is None:
        raise not_found("kind of job")
    try:
        note(anybody(request), "job.add", f"{kind} {found.id}")
        job = queue_of(request).ask(kind, found.id, asked_by=who.name, known=True)
    except HomespunError as error:
        raise PageError(409, "It can’t be done", str(error)) from None
    return _to(job)


def _listed(request: Request, *, status: int = 200, error: str | None = None, source: str = "") -> Response:
    who = allowed(request, "repositories")
    shown = {"repositories": repositories_of(request, who), "may_add": may(who, "manage-people")}
    template = "repositories.html"
    return page(request, template, "repositories", status=status, error=error, source=source, **shown)


def _source(text: str) -> str:
    """A URL, or the path of a repository on the server's machine. Raises ConfigError."""
    word = text.strip()
    if (unreadable := why_unreadable(word)) is not None:
        raise ConfigError(unreadable)
    if hide_credentials(word) != word:
        raise ConfigError(
            "the URL has a password in it, which every page would show; put it into homespun.toml"
            " ([[repository]], token_file)"
        )
    if is_remote(word):
        return word
    if not word.startswith(("/", "~", "file:")):
        raise ConfigError("write a URL, or a whole path on the server’s machine, as /srv/git/shop or ~/code/shop")
    return repo_identity_on_disk(word)


def _to(job: Job) -> Response:
    return RedirectResponse(f"{PATH}/jobs/{job.id}", status_code=303, headers=HEADERS)


def _one(request: Request, repo: str) -> Repository:
    who = allowed(request, "repositories")
    found = next((r for r in repositories_of(request, who) if r.id == repo), None)
    if found is None:
        raise not_found("repository")
    return found
