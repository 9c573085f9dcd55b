"""Typing through `homespun lsp`, key by key at human speed: how fast it answers, how quiet it is, what it costs.

    python benchmarks/keystrokes.py REPO [REPO ...] [--keystrokes 600] [--tries 0.3] [--tabby FOLDER]

Replays recorded keystrokes (benchmarks/traces.py) with typing errors, as an editor would: a change and a request for
each key, the request before it cancelled; ghost text that shrinks while it is typed along and is accepted, whole or by
words, where it is what the developer wrote. The real language server talks over stdio here and over HTTP, through a
relay that takes the times, to a real `homespun serve` with the index as of before the recording.

A small model is seldom right. With `--tries SHARE` the developer accepts that share of what is still there when the
next key is due, in turns all of it, its first line and its first word, looks at what follows, and takes it back.

    overhead     ms from request to answer in the editor, less what the server took; for what was answered without the
                 server all of it. It includes the pause that the language server makes on purpose
    after        ms from the server's answer to that in the editor
    total        ms from request to answer in the editor
    accepted     ms from the request right after an accept to its answer
    at once      of the accepts that another suggestion followed, those for which nothing was sent after the accept
    flicker      how often ghost text went away and came back although all that was typed agreed with it
    sent         requests to the server for 100 keys (completions; `ahead` those made before they are asked for,
                 `prepared` those that only prepare a place)
    connections  made to the server for 100 keys: under HTTP/1.1, each request that is cancelled costs one
    accepts      of suggestions, whole or (`of a part`) the words at their start that are what the developer wrote
    tried        accepts that were taken back
    local        share of the answers with a suggestion that needed no request
    CPU          processor time of the language server for a key, in ms: what of the overhead doesn't depend on how busy
                 the machine is
    idle         processor time of the language server in a while of nothing, in % of a core
    MB           its peak memory

The language server is measured as it comes, and again without its deliberate pause (`debounceMs: 0`), which is what the
overhead is without it. With `--tabby FOLDER`, a folder in which `npm install tabby-agent@1.5.0` was run, the same again
with that in its place, by `textDocument/completion`, since it has no ghost text. The last line is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from keystrokes_editor import Buffer, Editor, Relay
from peers import HomespunServer, say_how_busy
from traces import Recording, Trace, add_arguments, indexed_at_cut, recording_of, summary

from homespun_core.config import Settings
from homespun_indexer.model_files import resolve_base_model
from homespun_indexer.tokenizer import load_tokenizer

_TYPO = 0.02
"""Keys that are wrong and taken back; people make errors of 1 to 3 % (uncorrected ones are fewer)."""
_ACCEPT_CHARS = 4
"""Shorter ones are typed rather than accepted."""
_WORD = re.compile(r"\s*(?:\w+|[^\w\s]+)")
"""As the key goes that accepts a word."""
_PARTS = (re.compile(r"(?s).+"), re.compile(r".+"), _WORD)
"""Of a suggestion: all, its first line, its first word."""
_REACTION_S = 0.4
_ACCEPTS = 0.7
_IDLE_S = 5.0


@dataclass(slots=True)
class Seen:
    """What the session measured."""

    keys: int = 0
    totals_ms: list[float] = field(default_factory=list)
    overheads_ms: list[float] = field(default_factory=list)
    afters_ms: list[float] = field(default_factory=list)
    accepted_ms: list[float] = field(default_factory=list)
    accepts: int = 0
    words: int = 0
    """Of them, those of a part of what was shown."""
    tried: int = 0
    followed: int = 0
    """Accepts after which there was another suggestion."""
    at_once: int = 0
    """Of them, those for which nothing was sent after the accept."""
    flicker: int = 0
    local: int = 0
    shown: int = 0


@dataclass(slots=True)
class Ghost:
    """What stands before somebody's eyes, and what of it went away."""

    target: str | None = None
    """The text before and in the ghost."""
    gone: str | None = None

    def show(self, before: str, text: str) -> bool:
        """Whether it flickered: it had been taken away while all that was typed agreed with it."""
        flickered = self.target is None and self.gone is not None and (before + text).startswith(self.gone)
        self.target, self.gone = before + text, None
        return flickered

    def clear(self) -> None:
        self.gone = self.target or self.gone
        self.target = None

    def typed(self, before: str) -> None:
        """What doesn't agree with the text any more is no flicker when it goes."""
        self.target = self.target if self.target and self.target.startswith(before) else None
        self.gone = self.gone if self.gone and self.gone.startswith(before) else None

    def rest(self, before: str) -> str:
        return self.target[len(before) :] if self.target else ""


class Session:
    def __init__(self, editor: Editor, relay: Relay, seed: int, max_pause_s: float, tries: float) -> None:
        self._editor, self._relay, self._seen = editor, relay, Seen()
        self._tries = tries
        self._chooser = random.Random(seed)
        self._max_pause_s = max_pause_s
        self._ghost = Ghost()
        self._asking: asyncio.Task[None] | None = None

    async def replay(self, traces: Sequence[Trace], folder: Path) -> Seen:
        for trace in traces:
            path = folder / trace.repo / trace.path
            buffer = self._editor.open(path, trace.prefix, trace.suffix)
            self._ghost = Ghost()
            await self._write(buffer, trace)
            await self._settled()
            self._editor.close(buffer)
        return self._seen

    async def _write(self, buffer: Buffer, trace: Trace) -> None:
        keys = list(trace.keys)
        while keys:
            key = keys.pop(0)
            await asyncio.sleep(min(key.after_ms / 1e3, self._max_pause_s))
            if self._ghost.target and self._chooser.random() < self._tries:
                await self._try(buffer)
            if self._chooser.random() < _TYPO and key.text.strip():
                await self._press(buffer, self._chooser.choice("etaoinshr"))
                await asyncio.sleep(key.after_ms / 1e3 if key.after_ms < 1_000 else 0.2)
                await self._press(buffer, None)
            await self._press(buffer, key.text)
            if self._wanted(buffer, keys) and self._chooser.random() < _ACCEPTS:
                keys = await self._accept(buffer, keys)

    async def _accept(self, buffer: Buffer, keys: list[Any]) -> list[Any]:
        await asyncio.sleep(_REACTION_S)
        wanted = rest = self._wanted(buffer, keys)
        if not wanted:
            return keys
        self._seen.accepts += 1
        self._seen.words += wanted != self._ghost.rest(buffer.before)
        while rest and rest.startswith(keys[0].text):
            key = keys.pop(0)
            rest = rest.removeprefix(key.text)
        accepted = wanted[: -len(rest) or None]
        self._change(buffer, accepted)
        self._ask(buffer, self._seen.accepted_ms)
        return keys

    async def _try(self, buffer: Buffer) -> None:
        """Accepts what is shown, or a part of it, and takes it back."""
        part = _PARTS[self._seen.tried % len(_PARTS)].match(self._ghost.rest(buffer.before))
        if part is None or not part[0]:
            return
        self._seen.tried += 1
        self._change(buffer, part[0])
        self._ask(buffer, self._seen.accepted_ms)
        await asyncio.sleep(_REACTION_S)
        self._editor.take_back(buffer, len(part[0]))
        self._ghost = Ghost()
        self._ask(buffer, self._seen.totals_ms)
        await asyncio.sleep(_REACTION_S)

    def _wanted(self, buffer: Buffer, keys: Sequence[Any]) -> str:
        return worth_accepting(self._ghost.rest(buffer.before), "".join(key.text for key in keys))

    async def _press(self, buffer: Buffer, text: str | None) -> None:
        """None is a backspace."""
        self._seen.keys += 1
        self._change(buffer, text)
        self._ask(buffer, self._seen.totals_ms)
        await asyncio.sleep(0)

    def _change(self, buffer: Buffer, text: str | None) -> None:
        if text is None:
            self._editor.take_back(buffer, 1)
        else:
            self._editor.type(buffer, text)
        self._ghost.typed(buffer.before)

    def _ask(self, buffer: Buffer, times_ms: list[float]) -> None:
        if self._asking is not None:
            self._asking.cancel()
        self._asking = asyncio.create_task(self._answered(buffer, times_ms))

    async def _answered(self, buffer: Buffer, times_ms: list[float]) -> None:
        version, began = buffer.version, time.perf_counter()
        num_before = self._relay.num_requests
        found = await self._editor.suggestion(buffer)
        if buffer.version != version:
            return
        ended, seen = time.perf_counter(), self._seen
        times_ms.append((ended - began) * 1e3)
        served = self._relay.last if self._relay.last and self._relay.last.answered_at >= began else None
        is_local = self._relay.num_requests == num_before and served is None
        server_ms = (served.answered_at - max(began, served.arrived_at)) * 1e3 if served else 0.0
        seen.overheads_ms.append((ended - began) * 1e3 - server_ms)
        if served:
            seen.afters_ms.append((ended - served.answered_at) * 1e3)
        if found.text and times_ms is seen.accepted_ms:
            seen.followed += 1
            seen.at_once += is_local
        if found.text:
            seen.shown += 1
            seen.local += is_local
            seen.flicker += self._ghost.show(buffer.before, found.text)
        elif not found.keeps:
            self._ghost.clear()

    async def _settled(self) -> None:
        if self._asking is not None:
            await asyncio.wait({self._asking}, timeout=2)


def worth_accepting(shown: str, left: str) -> str:
    """All that is shown, or the words at its start that are what is written next; empty if that is too short."""
    ends = [found.end() for found in _WORD.finditer(shown)]
    parts = (shown, *(shown[:end] for end in reversed(ends)))
    return next((part for part in parts if len(part) >= _ACCEPT_CHARS and left.startswith(part)), "")


def quantile(values: Sequence[float], share: float) -> float | None:
    return round(sorted(values)[min(len(values) - 1, int(len(values) * share))], 2) if values else None


def row(seen: Seen, relay: Relay) -> dict[str, Any]:
    pairs = {
        "overhead": seen.overheads_ms,
        "after": seen.afters_ms,
        "total": seen.totals_ms,
        "accepted": seen.accepted_ms,
    }
    times = {f"{name} p{round(s * 100)}": quantile(v, s) for name, v in pairs.items() for s in (0.5, 0.95)}
    return times | {
        "keys": seen.keys,
        "accepts": seen.accepts,
        "of a part": seen.words,
        "tried": seen.tried,
        "at once": f"{seen.at_once}/{seen.followed}",
        "flicker": seen.flicker,
        "sent": round(100 * relay.num_requests / seen.keys, 1),
        "connections": round(100 * relay.num_connections / seen.keys, 1),
        "ahead": round(100 * relay.num_ahead / seen.keys, 1),
        "prepared": round(100 * relay.num_prepared / seen.keys, 1),
        "shown": seen.shown,
        "local": round(seen.local / max(1, seen.shown), 2),
    }


async def measured(
    command: Sequence[str],
    options: Mapping[str, Any],
    environ: Mapping[str, str],
    server: str,
    recording: Recording,
    folder: Path,
    args: argparse.Namespace,
) -> dict[str, Any]:
    async with Relay(server) as relay:
        configure_tabby(Path(environ["HOME"]), relay.url)
        method = "completion" if "--lsp" in command else "inlineCompletion"
        environ = {**environ, "HOMESPUN_SERVER_URL": relay.url}
        async with Editor(command, options, environ, folder, method) as editor:
            started = editor.cpu_s
            seen = await Session(editor, relay, args.seed, args.max_pause_s, args.tries).replay(
                recording.traces, folder
            )
            await asyncio.sleep(1.0)
            ended = editor.cpu_s
            await asyncio.sleep(_IDLE_S)
            costs = {
                "CPU": round(1e3 * (ended - started) / seen.keys, 2),
                "idle %": round(100 * (editor.cpu_s - ended) / _IDLE_S, 2),
                "MB": round(editor.peak_mb, 1),
            }
            return row(seen, relay) | costs


def candidates(args: argparse.Namespace) -> Iterator[tuple[str, Sequence[str], dict[str, Any]]]:
    ours = [sys.executable, "-m", "homespun_core.cli", "lsp", "--stdio"]
    yield "homespun lsp", ours, {}
    yield "no pause", ours, {"debounceMs": 0}
    if args.tabby:
        script = args.tabby / "node_modules/tabby-agent/dist/cli.js"
        yield "tabby-agent", [shutil.which("node") or "node", str(script), "--lsp", "--stdio"], {}


def configure_tabby(home: Path, url: str) -> None:
    folder = home / ".tabby-client/agent"
    folder.mkdir(parents=True, exist_ok=True)
    text = f'[server]\nendpoint = "{url}"\n[anonymousUsageTracking]\ndisable = true\n'
    (folder / "config.toml").write_text(text)


def main() -> None:
    args = _parsed()
    busy = say_how_busy()
    recording = recording_of(
        args.traces, args.repositories, keystrokes=args.keystrokes, per_trace=args.per_trace, seed=args.seed
    )
    print(summary(recording))
    with TemporaryDirectory() as name:
        folder = Path(name)
        settings = Settings(data_dir=f"{folder}/data")
        model = resolve_base_model("builtin", "auto")
        tokenizer = load_tokenizer(model)
        for recorded in recording.repositories:
            indexed_at_cut(recorded, folder, settings, model, tokenizer)
            (folder / "work" / recorded.name / ".git").mkdir(parents=True)
        environ = {**os.environ, "HOME": str(folder), "XDG_STATE_HOME": str(folder / "state")}
        server = HomespunServer(settings.data_root)
        try:
            rows = {
                name: asyncio.run(measured(command, options, environ, server.address, recording, folder / "work", args))
                for name, command, options in candidates(args)
            }
        finally:
            server.close()
    columns = list(next(iter(rows.values())))
    for column in columns:
        print(f"{column:>14}" + "".join(f"{values[column]!s:>14}" for values in rows.values()))
    print(f"{'':>14}" + "".join(f"{name:>14}" for name in rows))
    print(json.dumps({"benchmark": "keystrokes", "busy": round(busy, 2), "rows": rows}))


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, keystrokes=600, per_trace=80)
    parser.add_argument("--traces", type=Path, metavar="FILE", help="replay these; recorded there first if missing")
    parser.add_argument("--max-pause-s", type=float, default=1.5, metavar="S", help="longer pauses are cut short")
    parser.add_argument(
        "--tries", type=float, default=0.0, metavar="SHARE", help="of suggestions accepted, then undone"
    )
    parser.add_argument("--tabby", type=Path, metavar="FOLDER", help="where tabby-agent is installed")
    return parser.parse_args()


if __name__ == "__main__":
    main()
