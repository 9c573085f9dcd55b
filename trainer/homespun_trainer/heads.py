"""Commits of several repositories as one word, which a run of a shared adapter is about: `ID=COMMIT,ID=COMMIT`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from homespun_core.errors import ConfigError


def joined(heads: Mapping[str, str]) -> str:
    return ",".join(f"{id}={commit}" for id, commit in sorted(heads.items()))


def is_joined(commit: str) -> bool:
    return "=" in commit


def parted(commit: str) -> dict[str, str]:
    """Raises ConfigError."""
    pairs = [pair.partition("=") for pair in commit.split(",")]
    if not all(id and mark and head for id, mark, head in pairs):
        raise ConfigError(f"--commit {commit}: several repositories share this adapter; write ID=COMMIT,ID=COMMIT")
    return {id: head for id, _, head in pairs}


def corpus_of(report: Mapping[str, Any], repository: str) -> Mapping[str, Any]:
    """What an adapter learned of a repository, by id: head and cut among others; empty when it saw nothing."""
    corpora = report.get("corpora")
    found: Mapping[str, Any] = corpora.get(repository, {}).get("sources", {}) if corpora else report.get("corpus", {})
    return found


def held_out_of(report: Mapping[str, Any], repository: str) -> frozenset[str]:
    """Paths of whole files that an adapter learned nothing from, by the repository's id."""
    corpora = report.get("corpora")
    found = corpora.get(repository, {}).get("report", {}) if corpora else report.get("corpus_report", {})
    return frozenset(found.get("held_out", ()))


def trained_head(report: Mapping[str, Any]) -> str | None:
    """What an adapter was trained on, by its report: a commit, or those of several repositories, of which some may have
    had nothing to train on."""
    corpora = report.get("corpora")
    if not corpora:
        head = report.get("corpus", {}).get("head")
        return str(head) if head else None
    heads = {id: corpus.get("sources", {}).get("head") for id, corpus in corpora.items()}
    heads |= report.get("left_out", {})
    return joined(heads) if all(heads.values()) else None
