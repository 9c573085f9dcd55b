from __future__ import annotations

from typing import Any

import pytest

from homespun_core.config import Settings
from homespun_server.dialects import BadRequestError
from homespun_server.dialects.tabby import is_tabby, tabby_call

SETTINGS = Settings(max_new_tokens=48)


def test_a_body_becomes_a_request() -> None:
    body: dict[str, Any] = {
        "language": "python",
        "segments": {
            "prefix": "a",
            "suffix": "b",
            "filepath": "x.py",
            "git_url": "git@git.example.com:loomworks/loom.git",
            "clipboard": "tolerated",
            "relevant_snippets_from_recently_opened_files": [{"filepath": "w.py", "body": "w", "score": 0.1}],
            "declarations": [{"filepath": "y.py", "body": "z"}],
        },
        "user": "someone",
        "mode": "standard",
        "debug_options": {"return_snippets": True, "raw_prompt": None},
    }
    assert is_tabby(body)
    call = tabby_call(body, SETTINGS)
    assert (call.request.prefix, call.request.suffix, call.request.path) == ("a", "b", "x.py")
    assert call.request.repo == "git@git.example.com:loomworks/loom.git" and call.request.user == "someone"
    assert [s.path for s in call.request.snippets] == ["y.py", "w.py"]
    assert call.mode == "standard" and call.return_snippets


@pytest.mark.parametrize(
    ("segments", "param"),
    [
        ({}, "segments.prefix"),
        ({"prefix": "x", "declarations": "y"}, "segments.declarations"),
        ({"prefix": "x", "declarations": [{"body": "y"}]}, "segments.declarations.filepath"),
    ],
)
def test_a_wrong_segment_is_named(segments: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequestError) as refused:
        tabby_call({"segments": segments}, SETTINGS)
    assert refused.value.param == param
