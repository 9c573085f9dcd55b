"""What the server counts, for Prometheus. No label says who, which repository or which file."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from homespun_core import __version__
from homespun_core.types import Completion

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0)


def outcome_of(completion: Completion) -> str:
    return "hidden" if completion.hidden_by else "shown" if completion.text else "empty"


class Metrics:
    """One set for each app, so that two apps in a process (tests) don't share counts."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self.duration = Histogram(
            "homespun_completion_duration_seconds",
            "Time of a completion by stage (retrieve, queue, prefill, decode, total)",
            ["stage", "outcome"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.ttft = Histogram(
            "homespun_ttft_seconds", "Time to the first token of the model", buckets=_SECONDS, registry=registry
        )
        self.retrieval = Histogram(
            "homespun_retrieval_seconds", "Time spent on finding snippets", buckets=_SECONDS, registry=registry
        )
        self.completions = Counter(
            "homespun_completions",
            "Completions by outcome (shown, hidden, empty, cancelled, shed)",
            ["outcome"],
            registry=registry,
        )
        self.prepared = Counter(
            "homespun_prepared",
            "Places prepared before anybody asks, no completions (prepared, left under load, cancelled, shed)",
            ["outcome"],
            registry=registry,
        )
        self.degraded = Counter(
            "homespun_degraded", "Completions that went without something", ["reason"], registry=registry
        )
        self.shed = Counter(
            "homespun_shed",
            "Completions refused, by reason (queue: the engine is full; crowded: too many are on their way, unread)",
            ["reason"],
            registry=registry,
        )
        self.tokens = Counter(
            "homespun_tokens",
            "Tokens by kind (prompt, cached, completion, drafted, accepted)",
            ["kind"],
            registry=registry,
        )
        self.events = Counter(
            "homespun_events",
            "What clients say became of completions (shown, accepted, dismissed, kept, saved)",
            ["kind"],
            registry=registry,
        )
        self.lost_facts = Counter(
            "homespun_feedback_lost",
            "Facts that are not in the database, by why (full queue, failed write, unknown completion)",
            ["reason"],
            registry=registry,
        )
        self.refused_tokens = Counter(
            "homespun_refused_tokens", "Requests with a token that is nobody's", registry=registry
        )
        self.audit_entries = Gauge("homespun_audit_entries", "Entries of the audit log", registry=registry)
        self.queue_depth = Gauge("homespun_queue_depth", "Completions that wait for the engine", registry=registry)
        self.index_age = Gauge("homespun_index_age_seconds", "Age of the oldest live index", registry=registry)
        self.indexes = Counter(
            "homespun_indexes",
            "Indexes put live, by why they were built (missing, corrupt, format, options, content, worn)",
            ["state"],
            registry=registry,
        )
        self.hooks = Counter("homespun_hooks", "Push hooks of forges by outcome", ["outcome"], registry=registry)
        self.jobs = Gauge("homespun_jobs", "Jobs by kind and state", ["kind", "state"], registry=registry)
        self.adapters = Gauge("homespun_adapters", "Adapters that are live", registry=registry)
        self.adapter_loads = Gauge(
            "homespun_adapter_loads",
            "Loads so far of adapters that adapter_cache_mb had no room for; while it lasts, others complete",
            registry=registry,
        )
        Gauge("homespun_build_info", "Version", ["version"], registry=registry).labels(__version__).set(1)

    def completed(self, completion: Completion, total_s: float) -> None:
        outcome = outcome_of(completion)
        timings = completion.timings
        self.completions.labels(outcome).inc()
        self.retrieval.observe(timings.retrieve_ms / 1e3)
        self.ttft.observe((timings.retrieve_ms + timings.queue_ms + timings.prefill_ms) / 1e3)
        for stage in ("retrieve", "queue", "prefill", "decode"):
            self.duration.labels(stage, outcome).observe(getattr(timings, f"{stage}_ms") / 1e3)
        self.duration.labels("total", outcome).observe(total_s)

    def exposition(self) -> bytes:
        return generate_latest(self._registry)
