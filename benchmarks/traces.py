"""Keystrokes as recordings: lines that developers committed, typed again one key after the other, with times.

    python benchmarks/traces.py REPO [REPO ...] [--keystrokes 500] [--per-trace 12] --out traces.jsonl

A trace is one place in one commit: the file as it stood before the line was added, and the keys that write the line
and those after it. `benchmarks/latency.py` and `benchmarks/load.py` replay them; both take the file, so that a run can
be repeated on another machine, and both record anew when they get none. The same repositories and seed give the same
file, byte for byte.

What is real: files, places and text. The text before the cursor is the committed file's, the text after it that of the
file before the commit; after Enter an editor indents, so a line's indentation comes with the key that ends the line
before. Only places that an index of the cut (the commit before the oldest one used) can't know are taken.

What is modelled: the times between keys. Log-normal, which González et al. find an excellent choice for free text ("On
the shape of timings distributions in free-text keystroke dynamics profiles", Heliyon 2021, doi 10.1016/j.heliyon
.2021.e08413; the log-logistic fits still better). Typists differ: their means have mean 239 ms and standard deviation
112 ms, as the 168,000 of Dhakal et al. ("Observations on Typing from 136 Million Keystrokes", CHI 2018; figures from
memory, the paper wasn't at hand). Pauses of 2 to 15 s are "micro pauses" in Shrestha et al. ("Pausing While
Programming", ICSE-SEET 2022), who find that programmers think in them; how many there are is our guess: at half of the
starts of lines and before one word in twelve, where most are shorter.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import random
import statistics
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from homespun_core.config import Settings
from homespun_core.languages import language_of_path
from homespun_core.paths import DataDir
from homespun_core.types import ModelFiles, SilentProgress, Tokenizer
from homespun_indexer.filters import path_reason
from homespun_indexer.history import AddedLines, ChangedFile, Step, mainline, steps
from homespun_indexer.indexing import index_repository
from homespun_indexer.repository import Repository, open_repository
from homespun_indexer.tasks import line_reason
from homespun_indexer.tree import BlobReader

FORMAT = 1
MAX_LINES = 4
"""Of a trace: what is added in one piece beyond that was pasted or generated more often than typed."""
_CANDIDATES_PER_TRACE = 8
_PER_COMMIT, _PER_FILE = 2, 3
_MAX_COMMITS = 4_000
_MAX_CHARS = 200_000

TYPIST_MEAN_MS, TYPIST_SD_MS = 239.0, 112.0
_TYPIST_RANGE_MS = 100.0, 600.0
_KEY_SIGMA = 0.45
_MIN_KEY_MS = 30.0
_LINE_PAUSE, _WORD_PAUSE = 0.5, 1 / 12
"""How often somebody stops to think there."""
_LINE_PAUSE_MS, _WORD_PAUSE_MS = (2_500.0, 0.7), (900.0, 0.6)
"""Median and sigma."""
_MAX_PAUSE_MS = 15_000.0


@dataclass(frozen=True, slots=True)
class Key:
    after_ms: float
    """Since the key before; for the first one, since the cursor was put there."""
    text: str
    """One character, or a line end with the indentation that the editor adds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    number: int
    repo: str
    """Name of the recording's repository."""
    commit: str
    path: str
    prefix: str
    suffix: str
    keys: tuple[Key, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """A repository that traces come from."""

    name: str
    source: str
    cut: str
    """The commit that an index may be of: no trace's commit is in its history."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    repositories: tuple[Recorded, ...]
    traces: tuple[Trace, ...]

    @property
    def num_keys(self) -> int:
        return sum(len(trace.keys) for trace in self.traces)

    def save(self, path: Path) -> None:
        header = {"format": FORMAT, "repositories": [asdict(r) for r in self.repositories]}
        rows = [asdict(t) | {"keys": [[k.after_ms, k.text] for k in t.keys]} for t in self.traces]
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in [header, *rows])
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8") as handle:
            handle.writelines(lines)

    @staticmethod
    def load(path: Path) -> Recording:
        with path.open(encoding="utf-8") as handle:
            header, *rows = map(json.loads, handle)
        if header["format"] != FORMAT:
            raise SystemExit(f"{path}: recorded in format {header['format']}, not {FORMAT}; record it again")
        traces = (Trace(**row | {"keys": tuple(Key(*key) for key in row["keys"])}) for row in rows)
        return Recording(repositories=tuple(Recorded(**r) for r in header["repositories"]), traces=tuple(traces))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidate:
    step: Step
    file: ChangedFile
    added: AddedLines
    offset: int
    """Of the first line typed, within `added`."""

    @property
    def number(self) -> int:
        return self.added.start + self.offset


def record(sources: Sequence[str], *, keystrokes: int, per_trace: int, seed: int, min_prefix: int = 3_000) -> Recording:
    """`per_trace` keys at most at each place, equally many places of each repository; places with less than
    `min_prefix` characters before the cursor make shorter prompts than are wanted, and are left out."""
    repositories, traces = list[Recorded](), list[Trace]()
    for i, source in enumerate(sources):
        left = (keystrokes - sum(len(t.keys) for t in traces)) / (len(sources) - i)
        with TemporaryDirectory() as folder:
            repo = open_repository(source, DataDir(Path(folder)), timeout_s=600, progress=SilentProgress())
            candidates, cut = _candidates(repo, math.ceil(left / per_trace) * _CANDIDATES_PER_TRACE)
            name = _name(source, {r.name for r in repositories})
            repositories.append(Recorded(name=name, source=str(Path(source).absolute()), cut=cut))
            traces += _traces(repo, name, candidates, math.ceil(left), per_trace, seed, min_prefix, len(traces))
    return Recording(repositories=tuple(repositories), traces=tuple(_shortened(traces, keystrokes)))


def recording_of(file: Path | None, sources: Sequence[str], *, keystrokes: int, per_trace: int, seed: int) -> Recording:
    """The one in `file`, where there is one; else a new one, kept there."""
    if file is not None and file.is_file():
        return Recording.load(file)
    if not sources:
        raise SystemExit("give repositories to record, or --traces with a file that was recorded")
    recording = record(sources, keystrokes=keystrokes, per_trace=per_trace, seed=seed)
    if file is not None:
        recording.save(file)
    return recording


def checked_out_at(recorded: Recorded, folder: Path) -> Path:
    """A bare repository in `folder` that shares the objects of the recorded one and ends at the cut."""
    git_dir = subprocess.run(
        ["git", "-C", recorded.source, "rev-parse", "--absolute-git-dir"], check=True, capture_output=True, text=True
    ).stdout.strip()
    path = folder / recorded.name
    subprocess.run(["git", "init", "--quiet", "--bare", "--initial-branch=main", str(path)], check=True)
    (path / "objects/info/alternates").write_text(f"{git_dir}/objects\n")
    (path / "refs/heads/main").write_text(f"{recorded.cut}\n")
    return path


def indexed_at_cut(
    recorded: Recorded, folder: Path, settings: Settings, model: ModelFiles, tokenizer: Tokenizer
) -> Path:
    """The repository's index as of the cut, made current in the settings' data directory; returns its generation."""
    data, quiet = DataDir(settings.data_root), SilentProgress()
    repo = open_repository(str(checked_out_at(recorded, folder)), data, timeout_s=600, progress=quiet)
    return index_repository(repo, settings=settings, data=data, model=model, tokenizer=tokenizer, progress=quiet)


def _name(source: str, taken: set[str]) -> str:
    """The folder's name, or for a mirror's `owner+name/repo` the name."""
    path = Path(source).absolute()
    stem = (path.parent.name if path.name in ("repo", ".git") else path.name).rpartition("+")[2].removesuffix(".git")
    return next(name for name in (stem, *(f"{stem}-{n}" for n in range(2, 100))) if name not in taken)


def _candidates(repo: Repository, wanted: int) -> tuple[list[_Candidate], str]:
    """The places of the newest commits, and the commit before the oldest of these."""
    line = mainline(repo, _MAX_COMMITS + 1)
    before = dict(zip(line.commits, line.commits[1:], strict=False))
    found, cut = list[_Candidate](), repo.head
    for step in steps(repo, _MAX_COMMITS):
        if step.commit not in before or len(found) >= wanted:
            break
        cut = before[step.commit]
        found += _limited(_places(step))
    if not found:
        raise SystemExit(f"{repo.identity}: no commit added a line that can be typed")
    return found, cut


def _places(step: Step) -> Iterator[_Candidate]:
    for file in step.files if step.reason is None else ():
        if path_reason(file.path) or language_of_path(file.path) is None or not file.new_blob.strip("0"):
            continue
        for added in file.added:
            for offset, text in enumerate(added.lines):
                if line_reason(text) is None:
                    yield _Candidate(step=step, file=file, added=added, offset=offset)


def _limited(candidates: Iterable[_Candidate]) -> list[_Candidate]:
    return sorted(candidates, key=lambda c: _chance("place", c.step.commit, c.file.path, c.number))[:_PER_COMMIT]


def _traces(
    repo: Repository,
    name: str,
    candidates: Sequence[_Candidate],
    keystrokes: int,
    per_trace: int,
    seed: int,
    min_prefix: int,
    first: int,
) -> list[Trace]:
    traces, files = list[Trace](), Counter[str]()
    order = sorted(candidates, key=lambda c: _chance(seed, c.step.commit, c.file.path, c.number))
    with BlobReader(repo) as blobs:
        for candidate in order:
            if sum(len(t.keys) for t in traces) >= keystrokes:
                break
            if files[candidate.file.path] >= _PER_FILE:
                continue
            trace = _trace(candidate, blobs, name, first + len(traces), per_trace, seed)
            if trace is not None and len(trace.prefix) >= min_prefix:
                files[candidate.file.path] += 1
                traces.append(trace)
    return traces


def _trace(candidate: _Candidate, blobs: BlobReader, name: str, number: int, per_trace: int, seed: int) -> Trace | None:
    """None where the file isn't what the commit says, as for a file with other line ends."""
    file, added = candidate.file, candidate.added
    new, old = _text(blobs, file.new_blob), _text(blobs, file.old_blob)
    lines = new.split("\n")
    texts = added.lines[candidate.offset : candidate.offset + MAX_LINES]
    at = candidate.number - 1
    if not new or len(new) > _MAX_CHARS or tuple(lines[at : at + len(texts)]) != texts:
        return None
    indent = _indent(texts[0])
    chooser = random.Random(_chance("typist", seed, candidate.step.commit, file.path, candidate.number))
    return Trace(
        number=number,
        repo=name,
        commit=candidate.step.commit,
        path=file.path,
        prefix="\n".join([*lines[:at], indent]),
        suffix="\n".join(["", *old.split("\n")[added.old_below - 1 :]]) if old else "",
        keys=tuple(_typed(_strokes(texts)[:per_trace], chooser)),
    )


def _text(blobs: BlobReader, blob: str) -> str:
    content = blobs.find(blob) if blob.strip("0") else None
    return content.decode("utf-8", "replace") if content is not None else ""


def _strokes(lines: Sequence[str]) -> list[str]:
    first, *rest = lines
    strokes = list(first.strip())
    for line in rest:
        strokes += [f"\n{_indent(line)}", *line.strip()]
    return strokes


def _indent(line: str) -> str:
    return line[: len(line) - len(line.lstrip())]


def _typed(strokes: Sequence[str], chooser: random.Random) -> Iterator[Key]:
    sigma = math.sqrt(math.log1p((TYPIST_SD_MS / TYPIST_MEAN_MS) ** 2))
    low, high = _TYPIST_RANGE_MS
    mean = min(high, max(low, chooser.lognormvariate(math.log(TYPIST_MEAN_MS) - sigma**2 / 2, sigma)))
    before = "\n"
    for text in strokes:
        delay = max(_MIN_KEY_MS, chooser.lognormvariate(math.log(mean) - _KEY_SIGMA**2 / 2, _KEY_SIGMA))
        yield Key(round(min(delay + _pause(before, text, chooser), _MAX_PAUSE_MS), 1), text)
        before = text


def _pause(before: str, text: str, chooser: random.Random) -> float:
    """Drawn whether it is used or not, so that a rule that changes changes nothing else."""
    chance, line, word = chooser.random(), _drawn(_LINE_PAUSE_MS, chooser), _drawn(_WORD_PAUSE_MS, chooser)
    if before.startswith("\n"):
        return line if chance < _LINE_PAUSE else 0.0
    starts_word = text[0].isalnum() and not before[-1].isalnum()
    return word if starts_word and chance < _WORD_PAUSE else 0.0


def _drawn(shape: tuple[float, float], chooser: random.Random) -> float:
    median, sigma = shape
    return chooser.lognormvariate(math.log(median), sigma)


def _shortened(traces: Sequence[Trace], keystrokes: int) -> Iterator[Trace]:
    """No more than `keystrokes` keys in all."""
    left = keystrokes
    for trace in traces:
        if left <= 0:
            return
        keys = trace.keys[:left]
        left -= len(keys)
        yield replace(trace, keys=keys)


def _chance(*parts: object) -> int:
    return int.from_bytes(hashlib.sha256("\0".join(map(str, parts)).encode()).digest()[:8])


def summary(recording: Recording) -> str:
    delays = sorted(key.after_ms for trace in recording.traces for key in trace.keys)
    places = ", ".join(f"{r.name} as of {r.cut[:8]}" for r in recording.repositories)
    return (
        f"{len(delays)} keystrokes at {len(recording.traces)} places of {places}; between keys: median"
        f" {statistics.median(delays):.0f} ms, mean {statistics.mean(delays):.0f} ms,"
        f" {sum(d >= 1_000 for d in delays) / len(delays):.1%} of 1 s and longer"
    )


def add_arguments(parser: argparse.ArgumentParser, *, keystrokes: int, per_trace: int) -> None:
    """What all that replay traces take."""
    parser.add_argument("repositories", nargs="*", metavar="REPO", help="git repositories to record traces from")
    parser.add_argument("--keystrokes", type=int, default=keystrokes, help="in all (default: %(default)s)")
    parser.add_argument("--per-trace", type=int, default=per_trace, help="at one place at most (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, keystrokes=500, per_trace=12)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    args = parser.parse_args()
    recording = record(args.repositories, keystrokes=args.keystrokes, per_trace=args.per_trace, seed=args.seed)
    recording.save(args.out)
    print(summary(recording))


if __name__ == "__main__":
    main()
