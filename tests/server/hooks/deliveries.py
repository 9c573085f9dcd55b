"""One push, as every forge would deliver it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

from homespun_server.hooks.forges import Hook

SECRET = b"0p3n-sesame"
NOW = 1_800_000_000.0
_HUB = "x-hub-signature-256"
FORM = {"content-type": "application/x-www-form-urlencoded"}
CLONE = "https://git.example.com/team/shop.git"
_REPOSITORY: dict[str, Any] = {"full_name": "team/shop", "clone_url": CLONE, "default_branch": "main"}
_PUSH: dict[str, Any] = {"ref": "refs/heads/main", "before": "0" * 40, "after": "1" * 40, "repository": _REPOSITORY}


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    name: str
    forge: str
    headers: dict[str, str]
    body: bytes
    signatures: tuple[str, ...]

    @property
    def hook(self) -> Hook:
        return Hook(headers=self.headers, body=self.body)


def signed(body: bytes, secret: bytes = SECRET) -> str:
    return hmac.new(secret, body, hashlib.sha256).hexdigest()


def github(payload: dict[str, Any] = _PUSH, *, delivery: str = "72d3162e", event: str = "push") -> Delivery:
    body = json.dumps(payload).encode()
    headers = {"x-github-event": event, "x-github-delivery": delivery, "x-hub-signature-256": f"sha256={signed(body)}"}
    return Delivery(name="github", forge="github", headers=headers, body=body, signatures=(_HUB,))


def github_form() -> Delivery:
    body = urlencode({"payload": json.dumps(_PUSH)}).encode()
    headers = github(delivery="f0").headers | FORM
    headers["x-hub-signature-256"] = f"sha256={signed(body)}"
    return Delivery(name="github, form", forge="github", headers=headers, body=body, signatures=(_HUB,))


def gitea() -> Delivery:
    body = json.dumps(_PUSH).encode()
    headers = {
        "x-gitea-event": "push",
        "x-gogs-event": "push",
        "x-github-event": "push",
        "x-gitea-delivery": "g1",
        "x-github-delivery": "g1",
        "x-gitea-signature": signed(body),
        "x-hub-signature-256": f"sha256={signed(body)}",
    }
    return Delivery(name="gitea", forge="gitea", headers=headers, body=body, signatures=("x-gitea-signature",))


def forgejo() -> Delivery:
    made = gitea()
    own = {"x-forgejo-event": "push", "x-forgejo-delivery": "f1", "x-forgejo-signature": signed(made.body)}
    return Delivery(
        name="forgejo",
        forge="forgejo",
        headers=made.headers | own,
        body=made.body,
        signatures=("x-forgejo-signature",),
    )


def in_form(made: Delivery) -> Delivery:
    """As Gitea and Forgejo send it: what they sign is the payload, whatever it is sent in.

    https://github.com/go-gitea/gitea/blob/05a2257af2f29077a2c0374111aa12becf7f6083/services/webhook/deliver.go
    """
    body = urlencode({"payload": made.body}).encode()
    return replace(made, name=f"{made.name}, form", headers=made.headers | FORM, body=body)


def _gitlab_body() -> bytes:
    project = {"path_with_namespace": "team/shop", "git_http_url": CLONE, "default_branch": "main"}
    return json.dumps({"object_kind": "push", "ref": "refs/heads/main", "after": "1" * 40, "project": project}).encode()


def gitlab_token() -> Delivery:
    headers = {"x-gitlab-event": "Push Hook", "x-gitlab-event-uuid": "u1", "x-gitlab-token": SECRET.decode()}
    return Delivery(
        name="gitlab, plain token",
        forge="gitlab",
        headers=headers,
        body=_gitlab_body(),
        signatures=("x-gitlab-token",),
    )


def gitlab_signed(at: float = NOW, key: bytes = SECRET) -> Delivery:
    body, moment = _gitlab_body(), f"{at:.0f}"
    mac = hmac.new(key, f"d1.{moment}.".encode() + body, hashlib.sha256).digest()
    headers = {
        "x-gitlab-event": "Push Hook",
        "idempotency-key": "d1",
        "webhook-id": "d1",
        "webhook-timestamp": moment,
        "webhook-signature": f"v1,bm9uc2Vuc2U= v1,{base64.b64encode(mac).decode()}",
    }
    return Delivery(
        name="gitlab, signed", forge="gitlab", headers=headers, body=body, signatures=("webhook-signature",)
    )


def bitbucket_cloud() -> Delivery:
    links = {"html": {"href": "https://git.example.com/team/shop"}}
    body = json.dumps({"repository": {"full_name": "team/shop", "links": links}, "push": {"changes": []}}).encode()
    return _bitbucket("bitbucket cloud", "repo:push", "x-request-uuid", body)


def bitbucket_data_center() -> Delivery:
    links = {"clone": [{"href": "https://git.example.com/scm/team/shop.git", "name": "http"}]}
    repository = {"slug": "shop", "project": {"key": "TEAM"}, "links": links}
    body = json.dumps({"eventKey": "repo:refs_changed", "repository": repository, "changes": []}).encode()
    return _bitbucket("bitbucket data center", "repo:refs_changed", "x-request-id", body)


def bitbucket_data_center_without_links() -> Delivery:
    """As 5.9.1 writes it."""
    project = {"key": "TEAM", "id": 2, "name": "team", "public": False, "type": "NORMAL"}
    repository = {
        "slug": "shop",
        "id": 11,
        "name": "shop",
        "scmId": "git",
        "state": "AVAILABLE",
        "statusMessage": "Available",
        "forkable": True,
        "project": project,
        "public": False,
    }
    ref = {"id": "refs/heads/main", "displayId": "main", "type": "BRANCH"}
    change = {"ref": ref, "refId": ref["id"], "fromHash": "1" * 40, "toHash": "2" * 40, "type": "UPDATE"}
    body = json.dumps({"eventKey": "repo:refs_changed", "repository": repository, "changes": [change]}).encode()
    return _bitbucket("bitbucket data center without links", "repo:refs_changed", "x-request-id", body)


def _bitbucket(name: str, event: str, delivery: str, body: bytes) -> Delivery:
    headers = {"x-event-key": event, delivery: "b1", "x-hub-signature": f"sha256={signed(body)}"}
    return Delivery(name=name, forge="bitbucket", headers=headers, body=body, signatures=("x-hub-signature",))


DELIVERIES = (
    github(),
    github_form(),
    gitea(),
    forgejo(),
    in_form(gitea()),
    in_form(forgejo()),
    gitlab_token(),
    gitlab_signed(),
    bitbucket_cloud(),
    bitbucket_data_center(),
    bitbucket_data_center_without_links(),
)
