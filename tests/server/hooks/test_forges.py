"""Signatures and payloads of every forge, as they send them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homespun_server.hooks.forges import FORGES, Hook, forge_of, payload_of, repository_names
from tests.server.hooks.deliveries import DELIVERIES, NOW, SECRET, Delivery


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
