"""What goes over the wire to a vLLM server and what comes back: bodies, events, errors. Pure.

Written against vLLM 0.32. Nothing of a body or an answer to a completion goes into an error's text: a validation error
of vLLM repeats the prompt.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from homespun_core.errors import ConfigError, ServiceError
from homespun_server.engine.protocol import EngineRequest, Priority, Token

FailureKind = Literal["busy", "missing", "refused", "broken", "gone"]
"""Full; doesn't know the model; will never take this request; out of order; not there."""

RANKS: dict[Priority, int] = {"invoked": 0, "typed": 1, "ahead": 2, "warm": 3}
"""As vLLM counts: lower is served earlier."""

CONCURRENCY = 32
"""Requests that a server computes together, where nobody says otherwise."""

# Said with each request, or a model's generation_config.json decides.
_LEAST_TOP_P = 1e-6
"""vLLM takes no 0; the likeliest token is always kept."""
_PLAIN_SAMPLING = {
    "n": 1,
    "top_p": 1.0,
    "top_k": 0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}
_TOKEN_ID = "token_id:"


class VllmError(ServiceError):
    """One server failed a request; another may not."""

    def __init__(self, kind: FailureKind, text: str, retry_after_s: int = 1) -> None:
        super().__init__(text)
        self.kind: FailureKind = kind
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """One event of a stream; the last but one has the finish, the last the counts."""

    tokens: tuple[Token, ...] = ()
    finish: str | None = None
    cached_tokens: int = 0
    num_steps: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Models:
    """What a server serves."""

    base: str
    max_context: int
    adapters: frozenset[str]


def urls_of(setting: str) -> list[str]:
    """Of several servers, separated by commas; not checked."""
    return [url.strip() for url in setting.split(",") if url.strip()]


def checked_url(url: str) -> str:
    """Raises ConfigError. Credentials belong into the token, which is never logged, as URLs are."""
    try:
        parts = urlsplit(url)
        is_fine = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_fine = False
    if not is_fine:
        raise ConfigError("vllm_urls: not the http or https address of a server; write http://host:8000")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ConfigError(
            f"vllm_urls: {parts.hostname}: only scheme, host, port and path; a token goes into vllm_token"
        )
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}".removesuffix("/v1")


def completion_body(
    request: EngineRequest, *, model: str, max_context: int, secret: str, has_priorities: bool
) -> dict[str, Any]:
    """Token ids both ways; `ignore_eos`, because the request alone says what ends it."""
    ids = list(request.ids)
    if request.max_new_tokens == 0:  # vLLM generates at least one
        ids = ids[: max_context - 1]
    body = _body(model, ids) | {
        "max_tokens": max(request.max_new_tokens, 1),
        "temperature": request.temperature,
        "stop_token_ids": sorted(request.end_ids),
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if request.top_p < 1:
        body["top_p"] = max(request.top_p, _LEAST_TOP_P)
    if request.top_k:
        body["top_k"] = request.top_k
    if request.seed is not None:
        body["seed"] = request.seed
    if request.num_alternatives:
        body["logprobs"] = request.num_alternatives
    if request.tenant:
        body["cache_salt"] = salt(request.tenant, secret)
    if has_priorities:
        body["priority"] = RANKS[request.priority]
    return body


def score_body(ids: Sequence[int], *, model: str) -> dict[str, Any]:
    """The last id is generated, as the only one allowed, because vLLM takes no prompt as long as its context.

    Its log-probability is still the model's own (`--logprobs-mode raw_logprobs`, the default).
    """
    last = {"max_tokens": 1, "allowed_token_ids": [ids[-1]]}
    return _body(model, list(ids[:-1])) | {"echo": True, "temperature": 0.0} | last


def trial_body(model: str, *, has_priorities: bool) -> dict[str, Any]:
    """The smallest completion that takes all the ways of a real one."""
    body = _body(model, [1]) | {"max_tokens": 1, "temperature": 0.0}
    return body | {"priority": RANKS["warm"]} if has_priorities else body


def _body(model: str, ids: list[int]) -> dict[str, Any]:
    # Ids as "token_id:7" among the log-probabilities, not `return_token_ids`, which also sends the whole prompt back.
    body = {"model": model, "prompt": ids, "logprobs": 0, "return_tokens_as_token_ids": True, "ignore_eos": True}
    return body | _PLAIN_SAMPLING


def salt(tenant: str, secret: str) -> str:
    """Opaque, and not to be guessed by who knows the tenant's name."""
    return hmac.new(secret.encode(), tenant.encode(), hashlib.sha256).hexdigest()


def event_data(line: str) -> str | None:
    """The data of one line of server-sent events; None for comments, other fields and the blank line between events.

    vLLM's events are one line each.
    """
    return line[5:].removeprefix(" ") if line.startswith("data:") else None


def parse_chunk(data: str) -> Chunk | None:
    """None is the end of the stream. Raises VllmError."""
    if data == "[DONE]":
        return None
    try:
        event = json.loads(data)
        if "error" in event:
            raise failure_of(int(event["error"].get("code") or 500))
        choice = event["choices"][0] if event["choices"] else {}
        finish = choice.get("finish_reason")
        if finish in ("abort", "error"):
            raise VllmError("broken", "gave a completion up")
        return Chunk(tokens=_tokens(choice.get("logprobs")), finish=finish, **_counts(event))
    except (ValueError, LookupError, TypeError, AttributeError):
        raise VllmError("broken", "sends something else than the events of a completion; is it vLLM?") from None


def check_trial(answer: str) -> None:
    """Raises VllmError unless it has a token and a finite number."""
    chunk = parse_chunk(answer)
    if chunk is None or not chunk.tokens or not math.isfinite(chunk.tokens[0].logprob):
        raise VllmError("broken", "computes nonsense")


def parse_scores(payload: Any, ids: Sequence[int]) -> list[float]:
    """Of each of `ids` but the first, for which vLLM has none. Raises VllmError."""
    try:
        tokens = _tokens(payload["choices"][0]["logprobs"], is_first_unknown=True)
    except (LookupError, TypeError, ValueError, AttributeError):
        tokens = ()
    if [token.id for token in tokens] != list(ids):
        raise VllmError("broken", "answers with other tokens than those to be scored; is it vLLM?")
    return [token.logprob for token in tokens[1:]]


def parse_models(payload: Any) -> Models:
    """Raises VllmError."""
    try:
        cards = payload["data"]
        base = next(card for card in cards if not card.get("parent"))
        adapters = frozenset(str(card["id"]) for card in cards if card.get("parent"))
        return Models(str(base["id"]), int(base["max_model_len"]), adapters)
    except (LookupError, TypeError, ValueError, AttributeError, StopIteration):
        raise VllmError("broken", "doesn't say what it serves; is it vLLM?") from None


def failure_of(status: int, retry_after: str | None = None) -> VllmError:
    """What a status other than 200 means to a request."""
    if status in (429, 503):
        return VllmError("busy", f"is busy (status {status})", _seconds(retry_after))
    if status in (401, 403):
        return VllmError("refused", "refuses the token; set HOMESPUN_VLLM_TOKEN")
    kind: FailureKind = "missing" if status == 404 else "refused" if 400 <= status < 500 else "broken"
    return VllmError(kind, f"answers with status {status}")


def reason_of(payload: Any) -> str:
    """Why an adapter was refused, in one short line. Not for completions, see above."""
    try:
        lines = str(payload["error"]["message"]).strip().splitlines()
    except (LookupError, TypeError):
        lines = []
    return lines[0][:200] if lines else "no reason given"


def _tokens(logprobs: Any, *, is_first_unknown: bool = False) -> tuple[Token, ...]:
    if not logprobs:
        return ()
    pairs = list(zip(logprobs["tokens"], logprobs["token_logprobs"], strict=True))
    if is_first_unknown:
        pairs[0] = (pairs[0][0], math.nan)
    tops = logprobs.get("top_logprobs") or [None] * len(pairs)
    return tuple(
        Token(_id(name), float(logprob), _alternatives(top)) for (name, logprob), top in zip(pairs, tops, strict=True)
    )


def _id(name: str) -> int:
    return int(name.removeprefix(_TOKEN_ID))


def _alternatives(top: Any) -> tuple[tuple[int, float], ...]:
    """The token itself is always told, and is no alternative where it stands alone."""
    told = sorted(((_id(name), float(logprob)) for name, logprob in (top or {}).items()), key=lambda pair: -pair[1])
    return tuple(told) if len(told) > 1 else ()


def _counts(event: Any) -> dict[str, int]:
    """Cached tokens are told by servers with --enable-prompt-tokens-details, drafts by those that draft."""
    details = (event.get("usage") or {}).get("prompt_tokens_details") or {}
    drafts = (event.get("metrics") or {}).get("speculative_decoding") or {}
    return {
        "cached_tokens": int(details.get("cached_tokens") or 0),
        "num_steps": int(drafts.get("num_spec_steps") or 0),
        "drafted_tokens": int(drafts.get("num_draft_tokens") or 0),
        "accepted_tokens": int(drafts.get("num_accepted_draft_tokens") or 0),
    }


def _seconds(retry_after: str | None) -> int:
    return min(max(int(retry_after), 1), 60) if retry_after and retry_after.isdecimal() else 1
