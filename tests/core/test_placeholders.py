from __future__ import annotations

from homespun_core.placeholders import byte_spans, placeholder, spans


def test_a_placeholder_is_found_where_it_stands() -> None:
    text = f"key = '{placeholder('AWS_KEY')}'; REDACTED"
    assert spans(text) == byte_spans(text.encode()) == [(7, 23)]
