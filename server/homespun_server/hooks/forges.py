"""What forges send when somebody pushes: whose hook it is, whether it is genuine, and which repository it names. Pure.

A hook is a hint. It says that a repository may have changed; what is fetched, and from where, is decided by our own
configuration, so the worst that a forged, replayed or missing one can do is a fetch too many or a few minutes' delay.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

TOLERANCE_S = 300.0
"""How old or new a signature with a time may be."""

_COMMIT = re.compile(r"[0-9a-f]{40,64}")
_SECONDS = re.compile(r"[0-9]{1,12}")
_FORM = "application/x-www-form-urlencoded"
_FIELD = b"payload="
_NO_VALUE = re.compile(rb"&|%(?![0-9A-Fa-f]{2})")
"""Another field, half an escape."""
_PIECES = re.compile(rb"(?:%..|[^%]){1,4096}")

Headers = Mapping[str, str]
"""By lower-case name."""
Payload = Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook:
    headers: Headers
    body: bytes
    """As it came: signatures are over these very bytes, or over a form's payload."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forge:
    name: str
    event_header: str
    push_events: tuple[str, ...]
    delivery_headers: tuple[str, ...]
    """The first that is there is what a delivery, sent again or not, is known by."""
    is_genuine: Callable[[Hook, bytes, float], bool]
    """(hook, secret, now). Compares in constant time."""


def forge_of(headers: Headers) -> Forge | None:
    return next((forge for forge in FORGES if forge.event_header in headers), None)


def is_push(forge: Forge, headers: Headers) -> bool:
    return headers.get(forge.event_header) in forge.push_events


def delivery_of(forge: Forge, headers: Headers) -> str | None:
    return next((headers[name] for name in forge.delivery_headers if name in headers), None)


def payload_of(hook: Hook) -> Payload:
    """JSON, or JSON in a form, as GitHub, Gitea and Forgejo send it if told so. Raises ValueError if it is neither."""
    try:
        found = json.loads(_json(hook))
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(found, dict):
        raise ValueError("not an object")
    return found


def _json(hook: Hook) -> bytes:
    """Raises ValueError for a form that has anything but a payload."""
    if hook.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        return hook.body
    if not hook.body.startswith(_FIELD) or _NO_VALUE.search(hook.body):
        raise ValueError("not a form of one payload")
    return _unquoted(hook.body.removeprefix(_FIELD).replace(b"+", b" "))


def _unquoted(value: bytes) -> bytes:
    """In pieces: at once takes up to 74 times the value's memory (5 MB, Python 3.11); nobody knows yet who sent it."""
    return b"".join(unquote_to_bytes(piece.group()) for piece in _PIECES.finditer(value))


def repository_names(payload: Payload) -> Iterator[str]:
    """URLs of the repository and its `owner/name`, as far as they are there."""
    for key in ("repository", "project"):
        found = payload.get(key)
        if isinstance(found, Mapping):
            yield from _texts(found)


_NAMES = (
    "clone_url",
    "git_http_url",
    "ssh_url",
    "git_ssh_url",
    "html_url",
    "http_url",
    "web_url",
    "full_name",
    "path_with_namespace",
)


def _texts(repository: Payload) -> Iterator[str]:
    for key in _NAMES:
        if isinstance(value := repository.get(key), str):
            yield value
    links = repository.get("links")
    if isinstance(links, Mapping):
        yield from _links(links)
    project = repository.get("project")
    if isinstance(project, Mapping) and isinstance(repository.get("slug"), str):
        yield f"{project.get('key')}/{repository['slug']}"


def pushed_commit(payload: Payload) -> str | None:
    """The newest commit of a push, where the forge says it as GitHub does; for people to see."""
    commit = payload.get("after")
    return commit if isinstance(commit, str) and _COMMIT.fullmatch(commit) else None


def _links(links: Payload) -> Iterator[str]:
    """Bitbucket's: {"clone": [{"href": ...}], "html": {"href": ...}}."""
    for value in links.values():
        for link in value if isinstance(value, list) else [value]:
            if isinstance(link, Mapping) and isinstance(href := link.get("href"), str):
                yield href


def _body(hook: Hook) -> bytes:
    return hook.body


def _hex(
    header: str, prefix: str = "", signed: Callable[[Hook], bytes] = _body
) -> Callable[[Hook, bytes, float], bool]:
    """HMAC-SHA256 over what `signed` makes of the hook, in hexadecimal digits after `prefix`."""

    def is_genuine(hook: Hook, secret: bytes, now: float) -> bool:
        try:
            message = signed(hook)
        except ValueError:
            return False
        expected = prefix + hmac.new(secret, message, hashlib.sha256).hexdigest()
        return _equal(hook.headers.get(header, ""), expected.encode())

    return is_genuine


def _gitlab(hook: Hook, secret: bytes, now: float) -> bool:
    """A signature with a time where GitLab was given a signing token; else its older way, the secret itself."""
    headers = hook.headers
    if "webhook-signature" not in headers:
        return _equal(headers.get("x-gitlab-token", ""), secret)
    signed_at, identity = headers.get("webhook-timestamp", ""), headers.get("webhook-id", "")
    if not _SECONDS.fullmatch(signed_at) or abs(now - int(signed_at)) > TOLERANCE_S:
        return False
    message = f"{identity}.{signed_at}.".encode() + hook.body
    made = b"v1," + base64.b64encode(hmac.new(_signing_key(secret), message, hashlib.sha256).digest())
    return any(_equal(given, made) for given in headers["webhook-signature"].split())


def _signing_key(secret: bytes) -> bytes:
    """Standard Webhooks writes keys as `whsec_` and base64."""
    if not secret.startswith(b"whsec_"):
        return secret
    try:
        return base64.b64decode(secret.removeprefix(b"whsec_"), validate=True)
    except binascii.Error:
        return secret


def _equal(given: str, expected: bytes) -> bool:
    """Of a header as it came: HTTP's texts are bytes, which starlette reads as Latin-1."""
    return hmac.compare_digest(given.encode("latin-1", "backslashreplace"), expected)


FORGES = (
    Forge(
        name="forgejo",
        event_header="x-forgejo-event",
        push_events=("push",),
        delivery_headers=("x-forgejo-delivery",),
        is_genuine=_hex("x-forgejo-signature", signed=_json),
    ),
    Forge(
        name="gitea",
        event_header="x-gitea-event",
        push_events=("push",),
        delivery_headers=("x-gitea-delivery",),
        is_genuine=_hex("x-gitea-signature", signed=_json),
    ),
    Forge(
        name="github",
        event_header="x-github-event",
        push_events=("push",),
        delivery_headers=("x-github-delivery",),
        is_genuine=_hex("x-hub-signature-256", "sha256="),
    ),
    Forge(
        name="gitlab",
        event_header="x-gitlab-event",
        push_events=("Push Hook", "System Hook"),
        delivery_headers=("idempotency-key", "webhook-id", "x-gitlab-event-uuid"),
        is_genuine=_gitlab,
    ),
    Forge(
        name="bitbucket",
        event_header="x-event-key",
        push_events=("repo:push", "repo:refs_changed"),  # Cloud's, Data Center's
        delivery_headers=("x-request-uuid", "x-request-id"),
        is_genuine=_hex("x-hub-signature", "sha256="),
    ),
)
"""In the order of recognising: Forgejo sends Gitea's headers as well, and both send GitHub's."""
