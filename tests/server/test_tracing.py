"""Traces, as a collector gets them: over HTTP, in OpenTelemetry's own format."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from homespun_core.errors import ConfigError
from homespun_server.tracing import stages, tracer

FIELDS = {
    "id": "cmpl-1",
    "repo": "shop",
    "adapter": None,
    "outcome": "shown",
    "prompt": 120,
    "cached": 100,
    "new": 7,
    "snippets": 3,
    "retrieve_ms": 4.0,
    "queue_ms": 0.0,
    "prefill_ms": 6.0,
    "decode_ms": 20.0,
    "total_ms": 31.0,
}


class _Collector(HTTPServer):
    bodies: list[bytes]


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, _Collector)
        self.server.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[_Collector]:
    with _Collector(("127.0.0.1", 0), _Handler) as server:
        server.bodies = []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_a_completion_is_a_span_with_a_child_for_each_stage(collector: _Collector) -> None:
    trace, end = tracer(f"http://127.0.0.1:{collector.server_port}", "builtin")
    trace(FIELDS)
    end()
    sent = [ExportTraceServiceRequest.FromString(body) for body in collector.bodies]
    spans = [s for request in sent for r in request.resource_spans for scope in r.scope_spans for s in scope.spans]
    by_name = {span.name: span for span in spans}
    root = by_name["text_completion builtin"]
    assert {n for n, s in by_name.items() if s.parent_span_id == root.span_id} == {"retrieve", "prefill", "decode"}
    assert root.end_time_unix_nano - root.start_time_unix_nano == 31_000_000
    said = {a.key: a.value.int_value or a.value.string_value for a in root.attributes}
    assert said["gen_ai.usage.input_tokens"] == 120 and said["homespun.repository"] == "shop"
    assert "homespun.adapter" not in said


def test_stages_follow_one_another() -> None:
    assert stages(FIELDS, 0) == [
        ("retrieve", 0, 4_000_000),
        ("prefill", 4_000_000, 10_000_000),
        ("decode", 10_000_000, 30_000_000),
    ]


def test_an_endpoint_that_is_no_address_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"otlp_endpoint: 'collector:4317'"):
        tracer("collector:4317", "builtin")
