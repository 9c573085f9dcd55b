"""llama.vim, llama.cpp's plugin for Vim and Neovim, in the real Neovim. It is on GitHub only."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.clients import debian
from tests.e2e.clients.downloads import Unreachable, kept

_SOURCE = "https://github.com/ggml-org/llama.vim"
_COMMIT = "a1c8e6e40cb45df59b78add5b65d575386832465"


_GHOST = """join(map(nvim_buf_get_extmarks(0, nvim_create_namespace('vt_fim'), 0, -1, {'details': v:true}),
 {_, mark -> mark[3]->get('virt_text', [['']])[0][0]}), '')""".replace("\n", "")


class LlamaVim:
    """Asked by a second Neovim each time."""

    def __init__(self, command: Sequence[str], socket: Path) -> None:
        self._remote = [*command, "--server", str(socket)]

    def type(self, keys: str) -> None:
        self._run("--remote-send", keys)

    def wait_for_ghost(self, wanted: str) -> None:
        """Until this is suggested behind the cursor."""
        self._wait_for(_GHOST, wanted)

    def wait_for_text(self, wanted: str) -> None:
        self._wait_for("join(getline(1, '$'), nr2char(10))", wanted)

    def _wait_for(self, expression: str, wanted: str, timeout_s: float = 20) -> None:
        deadline = time.monotonic() + timeout_s
        while (said := self._run("--remote-expr", expression)) != wanted:
            assert time.monotonic() < deadline, repr(said)

    def _run(self, *words: str) -> str:
        done = subprocess.run([*self._remote, *words], capture_output=True, text=True, timeout=20, check=True)
        return done.stdout


@contextmanager
def llama_vim(url: str, file: Path) -> Iterator[LlamaVim]:
    if not shutil.which("curl"):
        pytest.skip("llama.vim asks with curl, which isn't there")
    plugin = kept(f"llama.vim-{_COMMIT[:12]}", _clone)
    root = debian.unpacked("neovim-0.12")
    command = ["env", f"VIMRUNTIME={root}/usr/share/nvim/runtime", *_lua(root), *debian.command(root, "usr/bin/nvim")]
    command += ["-u", "NONE", "-i", "NONE", "-n", "--headless"]
    socket = file.with_suffix(".socket")
    config = f"let g:llama_config = {{'endpoint_fim': '{url}/infill', 'show_info': 0}}"
    words = ["--listen", str(socket), "--cmd", config, "--cmd", f"set runtimepath^={plugin}"]
    with subprocess.Popen([*command, *words, "-c", "runtime plugin/llama.vim", str(file)]) as process:
        try:
            _wait_until(socket.exists)
            yield LlamaVim(command, socket)
        finally:
            process.kill()


def _wait_until(holds: Callable[[], bool], timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, "Neovim doesn't listen"
        time.sleep(0.02)


def _lua(root: Path) -> list[str]:
    lua = root / "usr/share/lua/5.1"
    return [f"LUA_PATH={lua}/?.lua;{lua}/?/init.lua;;", f"LUA_CPATH={root / debian.LIBRARIES}/lua/5.1/?.so;;"]


def _clone(folder: Path) -> None:
    """The commit's hash is a check of what it holds."""
    environ = os.environ | {"GIT_TERMINAL_PROMPT": "0"}
    steps = [["init", "-q"], ["fetch", "-q", "--depth=1", _SOURCE, _COMMIT], ["checkout", "-q", "FETCH_HEAD"]]
    for step in steps:
        try:
            subprocess.run(["git", *step], cwd=folder, env=environ, check=True, capture_output=True, timeout=60)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
            raise Unreachable(f"{_SOURCE} can't be cloned") from None
