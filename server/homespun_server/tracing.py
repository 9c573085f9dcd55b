"""Completions as OpenTelemetry traces: one span each, with a child for each stage. Numbers and names, never code.

Names follow the semantic conventions for generative AI, which are still being developed (`gen_ai.*`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from homespun_core import __version__
from homespun_core.errors import ConfigError

Trace = Callable[[Mapping[str, Any]], None]
"""Takes what `services` logs of a completion, right after its end."""

STAGES = ("retrieve", "queue", "prefill", "decode")
_NS_PER_MS = 1_000_000


def tracer(endpoint: str, model: str) -> tuple[Trace, Callable[[], None]]:
    """How to trace a completion, and how to end: what waits is sent then. Sends in a thread of its own; while the
    collector is away spans are dropped, not kept. Raises ConfigError where the extra isn't installed or the endpoint
    is no address."""
    if not endpoint.startswith(("http://", "https://")):
        raise ConfigError(f"otlp_endpoint: {endpoint!r} is no address; it looks like http://collector:4318")
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace import set_span_in_context
    except ModuleNotFoundError as error:
        raise ConfigError("otlp_endpoint: needs the otel extra: pip install 'homespun[otel]'") from error

    resource = Resource.create({"service.name": "homespun", "service.version": __version__})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=5)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    spans = provider.get_tracer("homespun")

    def trace(fields: Mapping[str, Any]) -> None:
        end = time.time_ns()
        start = end - _ns(fields["total_ms"])
        root = spans.start_span(f"text_completion {model}", start_time=start, attributes=attributes(fields, model))
        for name, begun, ended in stages(fields, start):
            spans.start_span(name, context=set_span_in_context(root), start_time=begun).end(ended)
        root.end(end)

    return trace, provider.shutdown


def attributes(fields: Mapping[str, Any], model: str) -> dict[str, str | int]:
    found = {
        "gen_ai.operation.name": "text_completion",
        "gen_ai.provider.name": "homespun",
        "gen_ai.request.model": model,
        "gen_ai.response.id": fields["id"],
        "gen_ai.usage.input_tokens": fields["prompt"],
        "gen_ai.usage.output_tokens": fields["new"],
        "homespun.cached_tokens": fields["cached"],
        "homespun.snippets": fields["snippets"],
        "homespun.outcome": fields["outcome"],
        "homespun.adapter": fields["adapter"],
        "homespun.repository": fields["repo"],
        "homespun.prompt_version": fields.get("prompt_version"),
    }
    return {name: value for name, value in found.items() if value is not None}


def stages(fields: Mapping[str, Any], start: int) -> list[tuple[str, int, int]]:
    """Name, begin and end of each that took any time: they follow one another."""
    found = []
    for name in STAGES:
        took = _ns(fields[f"{name}_ms"])
        if took:
            found.append((name, start, start + took))
        start += took
    return found


def _ns(ms: float) -> int:
    return int(ms * _NS_PER_MS)
