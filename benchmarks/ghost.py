"""How long after the server's answer a suggestion stands in real editors: `python -m benchmarks.ghost --keys 50`.

The server answers at once, so that what is measured is the way back (language server, editor, drawing) and, from the
key on, what editor and language server wait for. Editors are those of the tests and come from npm and Debian.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.append(str(Path(__file__).parents[1]))  # of the repository, for its tests
from tests.e2e.clients.monaco import Monaco, monaco
from tests.e2e.clients.neovim import Neovim, neovim
from tests.e2e.command import HOMESPUN

_PAUSE_S = 0.5
"""Between two suggestions: until what was asked about the new line is answered."""
_MODELS = {"data": [{"id": "m", "owned_by": "homespun"}]}
_WATCH_PAGE = """wanted => {
    const now = () => performance.timeOrigin + performance.now();
    self.seenAt = null;
    self.watch?.disconnect();
    self.watch = new MutationObserver(() => requestAnimationFrame(() => {
        if (self.seenAt === null && ghost() === wanted) self.seenAt = now();
    }));
    self.watch.observe(document.getElementById("editor"), { subtree: true, childList: true, characterData: true });
}"""
_WATCH_NEOVIM = """
local set = vim.api.nvim_buf_set_extmark
vim.api.nvim_buf_set_extmark = function(...)
  local id = set(...)
  local seconds, microseconds = vim.uv.gettimeofday()
  vim.g.seen_at = seconds * 1000 + microseconds / 1000
  return id
end
"""
_PLUGIN = "require('homespun').setup({ cmd = ... })"
_OWN = """
vim.lsp.config('homespun', { cmd = ..., root_dir = vim.fn.getcwd() })
vim.lsp.enable('homespun')
vim.lsp.inline_completion.enable()
"""


class Server(ThreadingHTTPServer):
    text = ""
    answered_at = 0.0
    """In milliseconds since 1970, as editors count."""

    def handle_error(self, request: object, client_address: object) -> None:
        """A request that was given up, as the one at a line end often is, is everyday life."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(_MODELS)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self._answer({"id": "cmpl-1", "choices": [{"index": 0, "text": self.server.text}]})
        self.server.answered_at = time.time() * 1000

    def _answer(self, body: object) -> None:
        content = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@contextmanager
def answering() -> Iterator[Server]:
    server = Server(("127.0.0.1", 0), _Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()


class Times:
    """In milliseconds, one for each key."""

    def __init__(self) -> None:
        self.after_answer: list[float] = []
        self.after_key: list[float] = []

    def add(self, *, key: float, answered: float, seen: float) -> None:
        self.after_answer.append(seen - answered)
        self.after_key.append(seen - key)


async def in_monaco(keys: int) -> Times:
    times = Times()
    with answering() as server:
        async with monaco() as editor:
            await editor.start("|", serverUrl=server.url, sendEvents=False)
            for number in range(keys):
                await _one_in_monaco(editor, server, f"shown_{number}()", times)
    return times


async def _one_in_monaco(editor: Monaco, server: Server, text: str, times: Times) -> None:
    server.text = ""
    await editor.press("Enter")
    await asyncio.sleep(_PAUSE_S)
    await editor.page.evaluate(_WATCH_PAGE, text)
    server.text = text
    key = time.time() * 1000
    await editor.press("x")
    await editor.page.wait_for_function("self.seenAt")
    times.add(key=key, answered=server.answered_at, seen=await editor.page.evaluate("self.seenAt"))


def in_neovim(keys: int, setup: str, namespace: str) -> Times:
    """`setup` is Lua that is given the command of the language server."""
    times = Times()
    with answering() as server, TemporaryDirectory() as name, neovim("0.12", Path(name)) as nvim:
        nvim.command("filetype on")
        nvim.lua(setup, [*HOMESPUN, "lsp", "--server-url", server.url])
        nvim.edit(Path(name) / "sample.py", "\n")
        nvim.ready()
        nvim.lua(_WATCH_NEOVIM)
        nvim.type("i")
        for number in range(keys):
            _one_in_neovim(nvim, server, f"shown_{number}()", times, namespace)
    return times


def _one_in_neovim(nvim: Neovim, server: Server, text: str, times: Times, namespace: str) -> None:
    server.text = ""
    nvim.type("<CR>")
    time.sleep(_PAUSE_S)
    server.text = text
    key = time.time() * 1000
    nvim.type("x")
    nvim.shows(text, namespace)
    times.add(key=key, answered=server.answered_at, seen=nvim.lua("return vim.g.seen_at"))


def _quantiles(values: Sequence[float]) -> tuple[float, float]:
    return statistics.median(values), statistics.quantiles(values, n=20)[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=50, help="how many suggestions in each editor")
    keys = parser.parse_args().keys
    editors: dict[str, Callable[[], Times]] = {
        "VS Code's editor": lambda: asyncio.run(in_monaco(keys)),
        "Neovim 0.12, plugin": lambda: in_neovim(keys, _PLUGIN, "homespun"),
        "Neovim 0.12, its own": lambda: in_neovim(keys, _OWN, "nvim.lsp.inline_completion"),
    }
    results = {}
    print(f"{'':20}  ms after the answer     ms after the key")
    print(f"{'':20}  {'median':>8} {'95 %':>8}   {'median':>8} {'95 %':>8}")
    for name, measure in editors.items():
        times = measure()
        row = (*_quantiles(times.after_answer), *_quantiles(times.after_key))
        results[name] = [round(value, 1) for value in row]
        print(f"{name:20}  {row[0]:8.1f} {row[1]:8.1f}   {row[2]:8.1f} {row[3]:8.1f}", flush=True)
    print(json.dumps({"keys": keys, "after_answer_and_key_ms": results}))


if __name__ == "__main__":
    main()
