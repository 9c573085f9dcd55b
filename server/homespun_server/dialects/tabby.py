"""Tabby's completions: what its editors gather around the cursor in, one choice out. It shares its path with OpenAI's
and is told apart by `segments`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from homespun_core.config import Settings
from homespun_core.types import Completion, Snippet
from homespun_server.dialects.calls import Call, Sampling, Stamp, moment, note, request_at
from homespun_server.dialects.facts import ServerFacts
from homespun_server.dialects.fields import Fields
from homespun_server.dialects.templates import Place, editor_snippet

API_VERSION = "0.32.0"
"""Of the Tabby whose protocol this is; its clients ask for less below 0.9."""
_GATHERED = (
    "declarations",
    "relevant_snippets_from_changed_files",
    "relevant_snippets_from_recently_opened_files",
)
"""Best first, as Tabby's server takes them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TabbyCall(Call):
    """Never streamed."""

    mode: str | None = None
    return_snippets: bool = False

    def reply(self, completions: Sequence[Completion], stamp: Stamp) -> object:
        (completion,) = completions
        reply: dict[str, Any] = {"id": stamp.id, "choices": [{"index": 0, "text": completion.text}]}
        if self.mode is not None:
            reply["mode"] = "standard"
        if self.return_snippets:
            found = [{"filepath": s.path, "body": s.text, "score": s.score} for s in completion.snippets]
            reply["debug_data"] = {"snippets": found}
        return reply | note(completion)


def is_tabby(body: Mapping[str, Any]) -> bool:
    return body.get("segments") is not None


def tabby_call(body: Mapping[str, Any], settings: Settings) -> TabbyCall:
    fields = Fields(body)
    segments = fields.inside("segments")
    place = Place(
        prefix=segments.required("prefix"),
        suffix=segments.text("suffix") or "",
        path=segments.text("filepath"),
        repo=segments.text("git_url"),
        snippets=_snippets(segments),
    )
    sampling = Sampling(max_tokens=None, temperature=fields.temperature(), seed=fields.integer("seed"), stop=())
    request = request_at(place, sampling, fields, settings)
    return TabbyCall(
        request=replace(
            request,
            language=request.language or fields.text("language"),
            user=request.user or fields.name("user"),
        ),
        mode=fields.text("mode"),
        return_snippets=fields.inside("debug_options").flag("return_snippets") or False,
    )


def _snippets(segments: Fields) -> tuple[Snippet, ...]:
    items = [item for name in _GATHERED for item in segments.items(name)]
    return tuple(
        editor_snippet(item.required("filepath"), item.required("body"), rank) for rank, item in enumerate(items)
    )


def health(facts: ServerFacts) -> dict[str, Any]:
    """A client offers completions only where `model` is not empty, and fails without `version`."""
    is_cuda = facts.device.startswith("cuda")
    return {
        "model": facts.model,
        "device": "cuda" if is_cuda else "cpu",
        "arch": facts.arch,
        "cpu_info": facts.cpu,
        "cpu_count": facts.num_cpus,
        "cuda_devices": [facts.device] if is_cuda else [],
        "models": {"completion": {"local": {"model_id": facts.model, "device": facts.device}}},
        "version": {
            "build_date": moment(facts.modified),
            "build_timestamp": moment(facts.modified),
            "git_sha": facts.version,
            "git_describe": f"v{API_VERSION}-homespun-{facts.version}",
        },
    }


def models(facts: ServerFacts) -> dict[str, Any]:
    return {"completion": [facts.model], "chat": None, "embedding": None}


def server_setting() -> dict[str, Any]:
    """Else its clients report to their maker."""
    return {"disable_client_side_telemetry": True}
