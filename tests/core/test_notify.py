"""`[[notify]]` tables: checked as strictly as settings."""

from __future__ import annotations

from typing import Any

import pytest

from homespun_core.errors import ConfigError
from homespun_core.notify import WORK, parse_notify

SECRET = "0123456789abcdef"
GOOD: dict[str, Any] = {"url": "https://chat.example.com/hook", "secret": SECRET}


def test_a_table_names_where_and_what() -> None:
    (one, two) = parse_notify(
        [GOOD, {"url": "http://chat.internal/x", "internal": True, "secret_env": "S", "events": ["job.failed"]}],
        "homespun.toml",
        {"S": SECRET},
    )
    assert (one.events, one.internal) == (WORK, False)
    assert (two.events, two.secret) == (("job.failed",), SECRET)
    assert SECRET not in repr(one)


def test_several_events_are_named_by_a_pattern_each_once() -> None:
    (one,) = parse_notify([GOOD | {"events": ["adapter.p*", "adapter.pinned", "user.erased"]}], "homespun.toml")
    assert one.events == ("adapter.promoted", "adapter.pinned", "user.erased")


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"secret": SECRET}, "url is missing"),
        (GOOD | {"url": "http://chat.example.com"}, "https://"),
        (GOOD | {"url": "https://"}, "https://"),
        (GOOD | {"url": "https://h:x/"}, "can't be read"),
        (GOOD | {"url": "https://ann:pa55word@chat.example.com"}, "holds a password"),
        (GOOD | {"url": "file:///etc/passwd", "internal": True}, "https://"),
        (GOOD | {"events": "job.failed"}, "brackets"),
        (GOOD | {"events": ["job.faild"]}, "did you mean 'job.failed'"),
        (GOOD | {"evnts": []}, "unknown key"),
        (GOOD | {"internal": "yes"}, "true or false"),
        (GOOD | {"secret": "short"}, "less than 16"),
        (GOOD | {"secret_env": "S"}, "one of them"),
        ({"url": GOOD["url"]}, "one of them"),
        ({"url": GOOD["url"], "secret_env": "UNSET"}, "UNSET"),
        ({"url": GOOD["url"], "secret_env": "A B"}, "not the name"),
    ],
)
def test_a_mistake_is_one_line_without_secrets(table: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        parse_notify([table], "homespun.toml", {})
    assert "pa55word" not in str(caught.value) and "\n" not in str(caught.value)
