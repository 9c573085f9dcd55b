"""Signatures and payloads of every forge, as they send them."""

from __future__ import annotations

import json
import tracemalloc
from dataclasses import replace
from urllib.parse import parse_qs, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homespun_server.hooks.forges import FORGES, Hook, forge_of, payload_of, repository_names
from tests.server.hooks.deliveries import (
    DELIVERIES,
    FORM,
    NOW,
    SECRET,
    Delivery,
    forgejo,
    gitea,
    github_form,
    in_form,
    signed,
)


def test_githubs_own_test_vector() -> None:
    """From their documentation of webhooks."""
    signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    headers = {"x-github-event": "push", "x-hub-signature-256": signature}
    hook = Hook(headers=headers, body=b"Hello, World!")
    github = forge_of(headers)
    assert github is not None and github.name == "github"
    assert github.is_genuine(hook, b"It's a Secret to Everybody", NOW)


@pytest.mark.parametrize("delivery", DELIVERIES, ids=lambda d: d.name)
def test_every_forge_is_recognised_and_its_signature_holds(delivery: Delivery) -> None:
    forge = forge_of(delivery.headers)
    assert forge is not None and forge.name == delivery.forge
    assert forge.is_genuine(delivery.hook, SECRET, NOW)


@pytest.mark.parametrize("delivery", DELIVERIES, ids=lambda d: d.name)
def test_another_secret_another_body_and_no_signature_are_refused(delivery: Delivery) -> None:
    forge = forge_of(delivery.headers)
    assert forge is not None
    assert not forge.is_genuine(delivery.hook, SECRET + b"x", NOW)
    bare = {k: v for k, v in delivery.headers.items() if k not in delivery.signatures}
    assert not forge.is_genuine(Hook(headers=bare, body=delivery.body), SECRET, NOW)
    if delivery.name != "gitlab, plain token":  # which doesn't sign the body
        assert not forge.is_genuine(Hook(headers=delivery.headers, body=delivery.body + b" "), SECRET, NOW)


FORMS = (in_form(gitea()), in_form(forgejo()))


def is_genuine(delivery: Delivery, **changed: bytes) -> bool:
    forge = forge_of(delivery.headers)
    assert forge is not None
    return forge.is_genuine(replace(delivery, **changed).hook, SECRET, NOW)  # type: ignore[arg-type]


@pytest.mark.parametrize("delivery", FORMS, ids=lambda d: d.name)
def test_the_signature_of_a_form_is_over_what_is_read_of_it(delivery: Delivery) -> None:
    """Gitea's and Forgejo's were refused: the signature was held against the form itself, as GitHub's has to be."""
    other = urlencode({"payload": '{"repository": {"full_name": "team/other"}}'}).encode()
    for body in (
        other,
        delivery.body + b"&" + other,
        other + b"&" + delivery.body,
        b"a=b&" + delivery.body,
        delivery.body + b"&",
        delivery.body + b"%",
        delivery.body + b"%4",
        delivery.body.replace(b"payload=", b"Payload="),
        delivery.body.removeprefix(b"payload="),
        delivery.body.replace(b"shop", b"shup"),
        b"payload=",
        b"",
    ):
        assert not is_genuine(delivery, body=body), body


@pytest.mark.parametrize("delivery", FORMS, ids=lambda d: d.name)
def test_a_form_that_is_signed_as_a_whole_is_githubs_alone(delivery: Delivery) -> None:
    headers = delivery.headers | dict.fromkeys(delivery.signatures, signed(delivery.body))
    assert not is_genuine(replace(delivery, headers=headers))
    over_payload = {"x-hub-signature-256": f"sha256={signed(gitea().body)}"}
    assert not is_genuine(replace(github_form(), headers=github_form().headers | over_payload))


@pytest.mark.parametrize(
    "kind", ["Application/X-WWW-Form-Urlencoded", "application/x-www-form-urlencoded; charset=utf-8"]
)
def test_a_form_is_one_however_its_type_is_written(kind: str) -> None:
    assert is_genuine(replace(FORMS[0], headers=FORMS[0].headers | {"content-type": kind}))
    plain = FORMS[0].headers | {"content-type": "application/x-www-form-urlencoded-not"}
    assert not is_genuine(replace(FORMS[0], headers=plain))


@given(st.dictionaries(st.text(), st.text()), st.booleans())
def test_a_payload_comes_out_of_a_form_as_it_was_put_in(payload: dict[str, str], is_ascii: bool) -> None:
    body = json.dumps(payload, ensure_ascii=is_ascii).encode("utf-8", "surrogatepass")
    form = urlencode({"payload": body}).encode()
    if is_ascii:
        assert parse_qs(form.decode())["payload"] == [body.decode()]
    headers = FORMS[0].headers | {"x-gitea-signature": signed(body)}
    assert is_genuine(replace(FORMS[0], headers=headers, body=form))
    assert payload_of(Hook(headers=FORM, body=form)) == payload


@given(st.binary(max_size=40))
def test_no_form_breaks_us(body: bytes) -> None:
    for delivery in FORMS:
        assert not is_genuine(delivery, body=body) and not is_genuine(delivery, body=b"payload=" + body)


def test_a_form_takes_little_memory_before_anybody_knows_who_sent_it() -> None:
    """A megabyte of escapes took 74."""
    body = b"payload=" + b"%41" * 333_333
    tracemalloc.start()
    try:
        assert not is_genuine(FORMS[0], body=body)
        assert tracemalloc.get_traced_memory()[1] < 5 * len(body)
    finally:
        tracemalloc.stop()


@given(st.sampled_from(FORGES), st.text(), st.binary(max_size=50))
def test_no_made_up_signature_holds_or_breaks_us(forge: object, text: str, body: bytes) -> None:
    names = ("x-hub-signature-256", "x-hub-signature", "x-gitea-signature", "x-forgejo-signature", "x-gitlab-token")
    made_up = dict.fromkeys((*names, "webhook-signature", "webhook-timestamp", "webhook-id"), text)
    for known in FORGES:
        assert not known.is_genuine(Hook(headers=made_up, body=body), SECRET, NOW) or text == SECRET.decode()


@pytest.mark.parametrize("delivery", DELIVERIES, ids=lambda d: d.name)
def test_every_payload_names_its_repository(delivery: Delivery) -> None:
    names = list(repository_names(payload_of(delivery.hook)))
    assert any("team/shop" in name.lower() for name in names)


@given(st.recursive(st.none() | st.text() | st.integers(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)))
def test_any_json_is_taken_for_what_it_is(value: object) -> None:
    for payload in ({"repository": value}, {"project": value}, {"repository": {"links": value, "slug": value}}):
        assert all(isinstance(name, str) for name in repository_names(payload))
    hook = Hook(headers={}, body=json.dumps(value).encode())
    if not isinstance(value, dict):
        with pytest.raises(ValueError, match="object"):
            payload_of(hook)
