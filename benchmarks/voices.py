"""How much should what stands in the repository and in the file count beside the model? Learned from lines that people
wrote, each repository's from all others'.

    python benchmarks/voices.py REPO REPO [REPO ...] [--tasks 500] [--base-model NAME]

The lines are the corpus's held-out ones, the index is frozen at its cut, the old version of a line's own file left out.
At each token of a line the two voices of `homespun_server/mixing.py` are asked, and the model with the snippets that
the server would show. Then the odds (`Odds` there) that make the lines of all other repositories likeliest are learned,
and a repository's own lines told with them, with either voice alone and with both, beside the model alone: lines of
which each token is the mixture's likeliest, so that they would be written; bits per token. With 95 % intervals by
commit. The odds from all of them, for `mixing.py`, come last.

A token that the model gives less than its 20 likeliest is taken to have one in 100,000 of it. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from retrieval import Frozen, opened

from homespun_core.config import Settings
from homespun_core.fim import line_ends, resolve_family
from homespun_core.prompt import PromptBuilder, PromptLimits, heals
from homespun_core.types import EvalTask, ModelFiles
from homespun_indexer.model_files import resolve_base_model
from homespun_server.engine.protocol import EngineRequest, Ids
from homespun_server.engine.spelling import Vocabulary
from homespun_server.engine.torch_engine import TorchEngine
from homespun_server.mixing import FILE, REPOSITORY, Around, Match, Odds, Voices
from homespun_trainer.evaluate import MAX_NEW_TOKENS, query_of
from homespun_trainer.intervals import Share, change

VOICES = (REPOSITORY, FILE)
USES = {"repository": (True, False), "file": (False, True), "both": (True, True)}
_ALTERNATIVES = 20
_LEAST = 1e-5
_CANDIDATES = 24
_END = -1
_RIDGE = 1e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """One of what was written, and what speaks for which that could stand there."""

    shares: NDArray[np.float32]
    """(candidates, 1 + voices): the model's, then those of each voice."""
    is_right: NDArray[np.bool_]
    """Which candidates go on with the line: what was written, and what writes all that is left of it in one token with
    the line break, which is another way to the same text."""
    is_last: NDArray[np.bool_]
    """Which of them end it."""
    matches: NDArray[np.float32]
    """(voices, 4): one, ln(length), share, ln(places); zeros of a silent one."""
    unsure: float
    """ln sqrt(1 - certainty), which all odds have in common."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lines:
    """All tokens of a repository's lines, stacked."""

    commits: Sequence[str]
    """By line."""
    line: NDArray[np.int64]
    """By token."""
    shares: torch.Tensor
    is_right: torch.Tensor
    is_last: torch.Tensor
    matches: torch.Tensor
    unsure: torch.Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    engine: TorchEngine
    builder: PromptBuilder
    vocabulary: Vocabulary
    ends: Ids

    def chances(self, ids: Sequence[int], rest: bytes) -> dict[int, float]:
        """Of the likeliest tokens, the line's ends as one; where a word is still to be spelled, among those that do."""
        num = len(self.vocabulary.spelled) if rest else _ALTERNATIVES
        request = EngineRequest(ids=ids, max_new_tokens=1, num_alternatives=num)
        (token,) = self.engine.generate(request).tokens
        found = {i: math.exp(p) for i, p in token.alternatives}
        if (allowed := self.allowed(rest)) is not None:
            may_follow = set(allowed.tolist())
            found = dict([(i, p) for i, p in found.items() if i in may_follow][:_ALTERNATIVES])
        return self.merged(found, rest)

    def allowed(self, rest: bytes) -> Ids | None:
        return self.vocabulary.beginning(rest)().allowed() if rest else None

    def merged(self, by_token: Mapping[int, float], rest: bytes) -> dict[int, float]:
        found = dict[int, float]()
        for token, value in by_token.items():
            key = _END if not rest and token in self.ends else token
            found[key] = found.get(key, 0.0) + value
        return found

    def text(self, token: int) -> bytes:
        return b"" if token == _END else self.vocabulary.spelled[token] or b""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repositories", nargs="+", metavar="REPO", help="two at least")
    parser.add_argument("--tasks", type=int, default=500)
    parser.add_argument("--base-model", default="builtin")
    parser.add_argument("--data", type=Path, default=Path("build/benchmark-data"))
    args = parser.parse_args()
    if len(set(args.repositories)) < 2:
        parser.error("what is told of a repository is learned from the others: name two at least")
    settings = Settings(data_dir=str(args.data.absolute()), eval_tasks=args.tasks, base_model=args.base_model)
    lines = {source: lines_of(source, settings) for source in args.repositories}
    results = {source: told(source, lines) for source in lines}
    odds = learned([*lines.values()], USES["both"]).tolist()
    for name, values in zip(("repository", "file"), odds, strict=True):
        print(f"odds of the {name}: " + ", ".join(f"{value:.2f}" for value in values))
    print(json.dumps({"benchmark": "voices", "base_model": args.base_model, "results": results, "odds": odds}))


def lines_of(source: str, settings: Settings) -> Lines:
    files = resolve_base_model(settings.base_model, settings.fim_family)
    with opened(source, settings) as frozen, closing(TorchEngine(Path(files.path))) as engine:
        model = model_of(frozen, files, engine)
        tokens = [(number, token) for number, task in enumerate(frozen.tasks) for token in heard(task, frozen, model)]
    made = [token for _, token in tokens]
    print(f"{frozen.name}: {len(frozen.tasks)} lines, {len(made)} tokens", flush=True)
    return Lines(
        commits=[task.commit for task in frozen.tasks],
        line=np.array([number for number, _ in tokens]),
        shares=torch.tensor(np.stack([token.shares for token in made])),
        is_right=torch.tensor(np.stack([token.is_right for token in made])),
        is_last=torch.tensor(np.stack([token.is_last for token in made])),
        matches=torch.tensor(np.stack([token.matches for token in made])),
        unsure=torch.tensor([token.unsure for token in made]),
    )


def model_of(frozen: Frozen, files: ModelFiles, engine: TorchEngine) -> Model:
    tokenizer = frozen.tokenizer
    format = resolve_family(tokenizer, files.config, name=files.name, forced=files.family)
    room = min(frozen.settings.max_prompt_tokens, engine.max_context - 2 * MAX_NEW_TOKENS)
    is_healing = heals(frozen.settings.token_healing, format.family, tokenizer, can_constrain=engine.can_constrain)
    builder = PromptBuilder(
        tokenizer=tokenizer, format=format, limits=PromptLimits(max_tokens=room), is_healing=is_healing
    )
    ends = np.array(sorted(line_ends(format, tokenizer, len(tokenizer.spelled))))
    return Model(engine=engine, builder=builder, vocabulary=Vocabulary(tokenizer.spelled), ends=ends)


def heard(task: EvalTask, frozen: Frozen, model: Model) -> Iterator[Token]:
    """At each token that was written, and at the end behind them."""
    found = frozen.reader.search(query_of(task), frozen.settings.snippet_count)
    prompt = model.builder.build(
        prefix=task.prefix,
        suffix=task.suffix,
        path=task.path,
        language=task.language,
        repo=frozen.repo.identity.rpartition("/")[2],
        snippets=[snippet for snippet in found if snippet.path != task.path],
    )
    around = Around.cursor(frozen.tokenizer, task.prefix, task.suffix, prompt.opening)
    voices = Voices(around, lambda ids: frozen.reader.continuations(ids, task.path), model.ends)
    written = frozen.tokenizer.encode(prompt.opening + task.middle)
    ids, rest = [*prompt.ids], prompt.opening.encode()
    for number, token in enumerate([*written, _END]):
        line = b"".join(model.text(later) for later in written[number:])
        yield _token(token, line, model.chances(ids, rest), dict(voices.matches(model.allowed(rest))), model, rest)
        if token != _END:
            ids.append(token)
            rest = rest[len(model.text(token) or rest) :]
            voices.extend(token)


def _token(
    token: int, line: bytes, chances: Mapping[int, float], matches: Mapping[Odds, Match], model: Model, rest: bytes
) -> Token:
    """`line`: what is left of it, from this token on; `rest`: what is left of a word that is spelled again."""
    shares = [chances, *({} for _ in VOICES)]
    numbers = np.zeros((len(VOICES), 4), np.float32)
    for odds, match in matches.items():
        at = VOICES.index(odds)
        shares[1 + at] = {t: c / match.places for t, c in model.merged(match.counts, rest).items()}
        numbers[at] = match.features
    best = sorted({t for of in shares for t in of} - {token}, key=lambda t: -max(of.get(t, 0.0) for of in shares))
    candidates = [token, *best[: _CANDIDATES - 1]]
    table = np.zeros((_CANDIDATES, len(shares)), np.float32)
    table[: len(candidates)] = [[of.get(t, 0.0) for of in shares] for t in candidates]
    table[: len(candidates), 0] = np.maximum(table[: len(candidates), 0], _LEAST)
    is_last = np.array([_ends(t, line, model) for t in candidates] + [False] * (_CANDIDATES - len(candidates)))
    is_right = is_last.copy()
    is_right[0] = True
    certainty = min(max(chances.values(), default=0.0), 1 - 1e-6)
    return Token(
        shares=table, is_right=is_right, is_last=is_last, matches=numbers, unsure=0.5 * math.log(1 - certainty)
    )


def _ends(candidate: int, line: bytes, model: Model) -> bool:
    """Whether it writes what is left of the line, and a line break if anything is."""
    if candidate == _END or not line:
        return candidate == _END and not line
    text, has_end, _ = model.text(candidate).partition(b"\n")
    return bool(has_end) and text.rstrip() == line.rstrip()


def mixed(lines: Lines, odds: torch.Tensor, uses: Sequence[bool]) -> torch.Tensor:
    """(tokens, candidates)."""
    logs = (lines.matches * odds).sum(-1) + lines.unsure[:, None]
    speaks = (lines.matches[:, :, 0] > 0) & torch.tensor(uses)
    logs = torch.cat([torch.zeros(len(logs), 1), torch.where(speaks, logs, torch.tensor(-1e9))], 1)
    return torch.einsum("tcv,tv->tc", lines.shares, logs.softmax(1))


def learned(lines: Sequence[Lines], uses: Sequence[bool]) -> torch.Tensor:
    """(voices, 4): the odds that make these lines likeliest, each repository counting as much."""
    odds = torch.zeros(len(VOICES), 4)
    odds[:, 0] = -2.0
    odds.requires_grad_()
    optimiser = torch.optim.LBFGS([odds], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        bits = torch.stack([bits_of(some, odds, uses).mean() for some in lines]).mean()
        total = bits + _RIDGE * (odds[:, 1:] ** 2).sum()
        total.backward()
        return total

    optimiser.step(loss)
    return odds.detach()


def bits_of(lines: Lines, odds: torch.Tensor, uses: Sequence[bool]) -> torch.Tensor:
    """By token."""
    return -(mixed(lines, odds, uses) * lines.is_right).sum(1).clamp_min(1e-12).log2()


def are_written(lines: Lines, odds: torch.Tensor, uses: Sequence[bool]) -> list[bool]:
    """By line, whether it comes out as it was written: each token likeliest, up to one that ends it."""
    top = mixed(lines, odds, uses).argmax(1)[:, None]
    right, last = (of.gather(1, top)[:, 0].numpy() for of in (lines.is_right, lines.is_last))
    written = []
    for number in range(len(lines.commits)):
        of_line = lines.line == number
        until = np.flatnonzero(~right[of_line] | last[of_line])
        written.append(bool(len(until)) and bool(right[of_line][until[0]]))
    return written


def told(source: str, lines: Mapping[str, Lines]) -> dict[str, Any]:
    own, others = lines[source], [some for other, some in lines.items() if other != source]
    nothing, ones = (False, False), [1.0] * len(own.commits)
    plain = are_written(own, torch.zeros(len(VOICES), 4), nothing)
    alone = 100 * sum(plain) / len(plain)
    bits = {"alone": float(bits_of(own, torch.zeros(len(VOICES), 4), nothing).mean())}
    print(f"\n{source}\n{'model alone':12} {alone:6.1f} %              {bits['alone']:6.3f} bits a token")
    row: dict[str, Any] = {"alone": alone, "lines": len(plain), "bits": bits}
    for label, uses in USES.items():
        odds = learned(others, uses)
        made = are_written(own, odds, uses)
        gain = change(Share(tops=made, bottoms=ones), Share(tops=plain, bottoms=ones), own.commits)
        bits[label] = float(bits_of(own, odds, uses).mean())
        row[label] = gain.as_json()
        values = [100 * value for value in (gain.value, gain.low, gain.high)]
        print(f"{label:12} {values[0]:+6.1f} [{values[1]:+.1f}, {values[2]:+.1f}] {bits[label]:6.3f}", flush=True)
    return row


if __name__ == "__main__":
    main()
