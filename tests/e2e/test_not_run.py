"""What `make test` says where the downloads can't be reached."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
pytestmark = pytest.mark.e2e


def test_real_clients_that_were_not_run_are_named_at_the_end_with_the_reason(tmp_path: Path) -> None:
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:1")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-n",
            "0",
            "-p",
            "no:cacheprovider",
            "-k",
            "compiles",
            "e2e/test_emacs.py",
        ],
        env=os.environ | nowhere | {"XDG_CACHE_HOME": str(tmp_path), "no_proxy": "", "NO_PROXY": ""},
        cwd=TESTS,
        capture_output=True,
        text=True,
        check=False,
    )
    *_, title, line, total = done.stdout.strip().splitlines()
    assert "real clients that were NOT run" in title, done.stdout
    assert line.startswith("tests/e2e/test_emacs.py (1 tests): emacs-30") and "can't be downloaded" in line
    assert "1 skipped" in total
