from __future__ import annotations

import random

import pytest

from homespun_trainer.canaries import EVERY, KINDS, CanaryStream, make_canaries, slots
from homespun_trainer.examples import Example
from homespun_trainer.randomness import LearnableStream, random_spans
from tests.trainer.tiny import BUILDER, FORMAT, TOKENIZER, make_stream


@pytest.mark.parametrize(
    "code",
    [
        "self._read_x86_64_registers(utf8, base64_encode, sha256_digest)",
        "test_http2_upgrade_from_http1_over_tls13",
        "0x7fffffff + 1_000_000 - 65535",
        "Float32Array, Int16Array, vec3, mat4x4, i18n, l10n, a11y",
        "https://example.com/api/v1/users?page=2&size=100",
        "std::array<uint8_t, 16> in_addr6_any;",
        "2026-01-31T12:00:00Z",
    ],
)
def test_code_is_learned(code: str) -> None:
    assert random_spans(code.encode()) == []


@pytest.mark.parametrize("kind", ["hexadecimal", "uuid", "card number", "token", "access key"])
def test_nearly_everything_random_is_found(kind: str) -> None:
    rng = random.Random(1)
    found = sum(bool(random_spans(f'KEY="{KINDS[kind](rng)}"'.encode())) for _ in range(200))
    assert found >= 170


def test_tokens_of_a_random_string_have_no_weight_and_all_others_keep_theirs() -> None:
    canaries = make_canaries("run")
    stream = LearnableStream(CanaryStream(make_stream(), canaries, BUILDER, "shop"), TOKENIZER)
    for turn, number in enumerate(slots()[:28]):
        (planted,) = stream.batch(EVERY * turn + EVERY - 1, 1)
        assert planted.kind == "canary"
        learned = [i for i, weight in zip(planted.ids, planted.weights, strict=True) if weight]
        is_random = bool(random_spans(canaries[number].value.encode()))
        assert FORMAT.end_id in learned and (len(learned) < 8) is is_random  # the end, and what is spelled again
    assert stream.batch(0, 15) == make_stream().batch(0, 15)


class Random:
    def batch(self, step: int, size: int) -> list[Example]:
        ids = tuple(TOKENIZER.encode("a1b2c3d4e5f6"))
        return [Example(ids=ids, weights=(1.0,) * len(ids), prompt_tokens=0, kind="code")] * size


def test_an_example_of_nothing_else_stays_as_it_was() -> None:
    assert LearnableStream(Random(), TOKENIZER).batch(0, 2) == Random().batch(0, 2)
