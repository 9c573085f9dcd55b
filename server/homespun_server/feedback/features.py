"""What is known of a completion when it is ready: numbers for a show/hide filter to decide on. Pure; no code in it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from homespun_core.types import Completion, CompletionRequest


def features(
    request: CompletionRequest, completion: Completion, logprobs: Sequence[float], *, is_invoked: bool
) -> Mapping[str, float]:
    line = request.prefix[request.prefix.rfind("\n") + 1 :]
    rest = request.suffix.partition("\n")[0]
    score = max((s.score for s in completion.snippets), default=0.0)
    found = {
        "mean_logprob": sum(logprobs) / len(logprobs) if logprobs else 0.0,
        "min_logprob": min(logprobs, default=0.0),
        "log_characters": math.log1p(len(completion.text)),
        "num_lines": float(completion.text.count("\n") + 1),
        "log_line_before": math.log1p(len(line)),
        "is_space_after": float(not rest or rest[0].isspace()),
        "num_snippets": float(len(completion.snippets)),
        "log_score": math.log1p(max(score, 0.0)),
        "is_adapted": float(completion.adapter is not None),
        "is_invoked": float(is_invoked),
        f"after_{kind_before(line)}": 1.0,
    }
    return {name: round(value, 4) for name, value in found.items() if value}


def kind_before(line: str) -> str:
    """The kind of the character before the cursor."""
    if not line.strip():
        return "indent"
    last = line[-1]
    if last.isalnum() or last == "_":
        return "word"
    if last.isspace():
        return "space"
    return {".": "dot", "(": "opener", "[": "opener", "{": "opener"}.get(last, "sign")
