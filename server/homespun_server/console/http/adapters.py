"""Adapters: versions, how the gate judged each, and a person's decisions."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, Response

from homespun_core import registry
from homespun_core.errors import HomespunError
from homespun_server.access.changing import changing
from homespun_server.adapters import REPORT_PAGE
from homespun_server.console import adapters, losses
from homespun_server.console.http.web import (
    Form,
    actor_of,
    allowed,
    back_to,
    data_of,
    is_recording,
    not_found,
    page,
    runtime_of,
)
from homespun_server.console.sections import PATH
from homespun_server.feedback.store import FeedbackStore
from homespun_server.rollout import showing

router = APIRouter()

_SANDBOX = {
    # A page that training wrote: it may have its own style and nothing else, and is a stranger to the console.
    "Content-Security-Policy": "sandbox; default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


@router.get(f"{PATH}/adapters")
def index(request: Request) -> Response:
    who, data = allowed(request, "adapters"), data_of(request)
    found = {repo: adapters.facts_of(data, repo) for repo in adapters.readable(data, who)}
    return page(request, "adapters.html", "adapters", adapters=found)


@router.get(f"{PATH}/adapters/{{repo}}")
def show(request: Request, repo: str) -> Response:
    _folder(request, repo)
    return _shown(request, repo)


@router.post(f"{PATH}/adapters/{{repo}}")
def decide(request: Request, repo: str, form: Form) -> Response:
    _folder(request, repo)
    what, _, version = form.get("decision", "").partition("/")
    by, why = allowed(request, "adapters").name, form.get("why", "")
    try:
        # First the entry in the audit log: where that can't be written, nothing is decided.
        with changing(runtime_of(request).database, actor_of(request)) as change:
            change.note(f"adapter.{what}"[:64], f"adapter:{repo}/{version}"[:256], why=why[:500])
            adapters.decide(data_of(request), repo, what, version=version, by=by, why=why)
    except HomespunError as error:
        return _shown(request, repo, status=409, error=str(error))
    return back_to(f"{PATH}/adapters/{repo}", what)


@router.get(f"{PATH}/adapters/{{repo}}/{{version}}")
def show_version(request: Request, repo: str, version: str) -> Response:
    place = _version(request, repo, version)
    try:
        report, card = registry.read_report(place), registry.model_card_of(place)
    except HomespunError as error:
        report, card = {}, str(error)
    facts = adapters.facts_of(data_of(request), repo)
    return page(
        request,
        "version.html",
        "adapters",
        repo=repo,
        version=next((v for v in facts["versions"] if v["version"] == version), {"version": version, "aliases": []}),
        is_champion=facts.get("champion") == version,
        report=report,
        gains=adapters.gains(report),
        loss=losses.of_report(report.get("training", {})),
        arms=adapters.arms(report),
        measures=adapters.MEASURES,
        card=card,
        history=[event for event in facts["history"] if event["version"] == version],
        promote=adapters.DECISIONS["promote"],
        has_page=(place / REPORT_PAGE).is_file(),
    )


@router.get(f"{PATH}/adapters/{{repo}}/{{version}}/report")
def report(request: Request, repo: str, version: str) -> Response:
    place = _version(request, repo, version) / REPORT_PAGE
    if not place.is_file():
        raise not_found("report")
    return FileResponse(place, media_type="text/html", headers=_SANDBOX)


def _folder(request: Request, repo: str) -> Path:
    who, data = allowed(request, "adapters"), data_of(request)
    if repo not in adapters.readable(data, who):
        raise not_found("adapter")
    return data.adapters(repo)


def _version(request: Request, repo: str, version: str) -> Path:
    place = _folder(request, repo)
    if version not in registry.versions(place):
        raise not_found("version")
    return place / version


def _shown(request: Request, repo: str, *, status: int = 200, error: str | None = None) -> Response:
    facts = adapters.facts_of(data_of(request), repo)
    decisions = [(name, adapters.DECISIONS[name], version) for name, version in adapters.open_decisions(facts).items()]
    return page(
        request,
        "adapter.html",
        "adapters",
        status=status,
        error=error or facts.get("error"),
        repo=repo,
        facts=facts,
        decisions=decisions,
        rollout=_rollout(request, repo) if "error" not in facts else None,
        now=time.time(),
    )


def _rollout(request: Request, repo: str) -> Mapping[str, Any] | None:
    """How users do with the candidate; None without one."""
    runtime = runtime_of(request)
    store = FeedbackStore(runtime.database) if is_recording(request) else None
    found = showing.rollout_of(data_of(request).adapters(repo), store, runtime.settings)
    return found if found["candidate"] else None
