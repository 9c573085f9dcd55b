from __future__ import annotations

import pytest

from homespun_server.dialects import BadRequestError, parse_body
from homespun_server.dialects.fields import Fields


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b"7",
        b'"text"',
        b"null",
        b"\xff\xfe{",
        b'{"a": NaN}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"9" * 5000,
    ],
)
def test_a_body_that_is_no_json_object_is_refused(raw: bytes) -> None:
    with pytest.raises(BadRequestError) as refused:
        parse_body(raw)
    assert refused.value.code == "invalid_json"


def test_null_is_as_good_as_absent() -> None:
    fields = Fields({"text": None, "flag": None, "list": None, "object": None})
    assert fields.text("text") is None and fields.flag("flag") is None and fields.stops("list") == ()
    assert fields.inside("object").values == {} and list(fields.items("list")) == []


def test_a_field_of_an_inner_object_is_named_with_its_way() -> None:
    with pytest.raises(BadRequestError) as refused:
        Fields({"options": {"stop": 3}}).inside("options").stops()
    assert refused.value.param == "options.stop" and refused.value.message.startswith("options.stop must be")


def test_a_whole_number_may_be_written_with_a_point() -> None:
    assert Fields({"n": 3.0}).integer("n") == 3
    for wrong in (3.5, True, "3"):
        with pytest.raises(BadRequestError):
            Fields({"n": wrong}).integer("n")


def test_a_list_longer_than_any_clients_is_read_no_further() -> None:
    assert len(list(Fields({"extra": [{}] * 10_000}).items("extra"))) == 256
