"""The first key at a place: how long it takes where the language server had the place prepared, and where it hadn't.

    python benchmarks/first_key.py REPO [REPO ...] [--keystrokes 240] [--rest-s 1.5]

Each place of a recording (benchmarks/traces.py) is opened and focused as VS Code does it, the cursor rests, and one key
is pressed. The real language server asks a real `homespun serve`, in pairs of places: one server prepares the first of
a pair, the other the second, so that both see the same machine and neither sees a place twice.

    key          ms from the request in the editor to its answer, of keys that the server answered
    server       ms that the server took of it
    asked        keys that the server was asked about; at the others nothing is suggested
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from keystrokes import quantile
from keystrokes_editor import Editor, Relay
from peers import HomespunServer, say_how_busy
from traces import Trace, add_arguments, indexed_at_cut, recording_of, summary

from homespun_core.config import Settings
from homespun_indexer.model_files import resolve_base_model
from homespun_indexer.tokenizer import load_tokenizer

_COMMAND = (sys.executable, "-m", "homespun_core.cli", "lsp", "--stdio")


@dataclass(slots=True)
class Arm:
    editor: Editor
    relay: Relay
    key_ms: list[float] = field(default_factory=list)
    server_ms: list[float] = field(default_factory=list)
    keys: int = 0

    async def press(self, trace: Trace, folder: Path, rest_s: float) -> None:
        buffer = self.editor.open(folder / trace.repo / trace.path, trace.prefix, trace.suffix)
        await asyncio.sleep(rest_s)
        self.editor.type(buffer, trace.keys[0].text)
        before, began = self.relay.num_requests, asyncio.get_running_loop().time()
        await self.editor.suggestion(buffer)
        self.keys += 1
        if self.relay.num_requests > before and (served := self.relay.last) is not None:
            self.key_ms.append((asyncio.get_running_loop().time() - began) * 1e3)
            self.server_ms.append((served.answered_at - served.arrived_at) * 1e3)
        self.editor.close(buffer)

    def row(self) -> dict[str, Any]:
        pairs = {"key": self.key_ms, "server": self.server_ms}
        times = {f"{name} p{round(s * 100)}": quantile(v, s) for name, v in pairs.items() for s in (0.5, 0.95)}
        return times | {"asked": f"{len(self.key_ms)}/{self.keys}"}


async def measured(
    server: str, traces: Sequence[Trace], folder: Path, environ: dict[str, str], rest_s: float
) -> dict[str, Any]:
    async with AsyncExitStack() as stack:
        arms: dict[str, Arm] = {}
        for name, prefetch in (("prepared", True), ("not prepared", False)):
            relay = await stack.enter_async_context(Relay(server))
            options = {"prefetch": prefetch, "debounceMs": 0}
            made = Editor(_COMMAND, options, {**environ, "HOMESPUN_SERVER_URL": relay.url}, folder, "inlineCompletion")
            arms[name] = Arm(await stack.enter_async_context(made), relay)
        for number, trace in enumerate(traces):
            await list(arms.values())[number % 2].press(trace, folder, rest_s)
        return {name: arm.row() for name, arm in arms.items()}


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
            rows = asyncio.run(measured(server.address, recording.traces, folder / "work", environ, args.rest_s))
        finally:
            server.close()
    for column in next(iter(rows.values())):
        print(f"{column:>14}" + "".join(f"{values[column]!s:>14}" for values in rows.values()))
    print(f"{'':>14}" + "".join(f"{name:>14}" for name in rows))
    print(json.dumps({"benchmark": "first_key", "busy": round(busy, 2), "rows": rows}))


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, keystrokes=240, per_trace=4)
    parser.add_argument("--traces", type=Path, metavar="FILE", help="replay these; recorded there first if missing")
    parser.add_argument("--rest-s", type=float, default=1.5, metavar="S", help="of the cursor (default: %(default)s)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
