"""kill -9 at bad moments: no orphans, nothing finished is lost, the next run goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.e2e.command import HOMESPUN, homespun, running
from tests.e2e.company import make_company

pytestmark = pytest.mark.e2e


def is_running(pid: int) -> bool:
    """A zombie that nobody has waited for yet has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_killing_up_leaves_no_server_behind_and_the_next_one_starts(tmp_path: Path) -> None:
    make_company(tmp_path / "loomworks")
    words = ("up", "loomworks", "--data-dir=data", "--no-train", "--port=0")
    with running(*words, cwd=tmp_path) as first:
        first.wait_for("ready on", timeout=90)
        server = json.loads((tmp_path / "data" / "server.json").read_text())["pid"]
        first.process.send_signal(signal.SIGKILL)
        first.process.wait()
    for _ in range(200):
        if not is_running(server):
            break
        time.sleep(0.1)
    assert not is_running(server)
    with running(*words, cwd=tmp_path) as second:
        second.wait_for("ready on", timeout=90)
        url = json.loads((tmp_path / "data" / "server.json").read_text())["url"]
        while ":up:index" not in homespun("jobs", "list", f"--server-url={url}", cwd=tmp_path).stdout:
            time.sleep(0.5)  # its worker asks for jobs in a moment
        assert second.interrupt() == 0


def test_killing_the_indexer_at_any_moment_leaves_an_index_that_the_next_run_completes(tmp_path: Path) -> None:
    make_company(tmp_path / "loomworks")
    for delay in (0.6, 0.8, 1.0, 1.2, 1.4):
        process = subprocess.Popen(
            [*HOMESPUN, "index", "loomworks", "--data-dir=data"],
            cwd=tmp_path,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ,
        )
        time.sleep(delay)
        process.kill()
        process.wait()
    done = homespun("index", "loomworks", "--data-dir=data", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "17 files" in done.stdout
    assert not list((tmp_path / "data").rglob(".tmp-*"))
