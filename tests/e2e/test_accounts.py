"""Accounts, with a real server and the command beside it: what one process says, the other does."""

from __future__ import annotations

import time
from pathlib import Path

import httpx
import pytest

from tests.e2e.command import homespun, running

REVOKED_WITHIN_S = 5.0
"""What we promise."""
BODY = {"prompt": "def add(a, b):\n    return", "max_tokens": 4}


def _said(tmp_path: Path, words: str) -> str:
    done = homespun(*words.split(), "--data-dir", "data", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.e2e
def test_from_a_machine_of_ones_own_to_accounts_and_back_out(tmp_path: Path) -> None:
    with running("serve", "--data-dir", "data", "--port", "0", cwd=tmp_path) as server:
        url = server.wait_for("homespun is ready: ").split()[-1]

        def status(token: str | None = None) -> int:
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            return httpx.post(f"{url}/v1/completions", json=BODY, headers=headers, timeout=20).status_code

        def becomes(expected: int, token: str | None = None) -> float:
            """After how many seconds."""
            start = time.monotonic()
            while status(token) != expected:
                assert time.monotonic() - start < REVOKED_WITHIN_S
                time.sleep(0.05)
            return time.monotonic() - start

        assert status() == 200
        _said(tmp_path, "user add root --role admin")
        becomes(401)
        _said(tmp_path, "user add ada")
        first, second = (_said(tmp_path, "token create ada").split()[0] for _ in range(2))
        assert status(first) == status(second) == 200
        _said(tmp_path, f"token revoke {first}")
        print(f"revoked after {becomes(401, first):.2f} s")
        assert status(second) == 200
        _said(tmp_path, "user deactivate ada")
        print(f"deactivated after {becomes(401, second):.2f} s")
        assert server.interrupt() == 0
    assert not any(first.split("_", 2)[2] in line for line in server.lines)


@pytest.mark.e2e
def test_another_address_needs_accounts_or_a_token(tmp_path: Path) -> None:
    refused = homespun("serve", "--data-dir", "data", "--host", "0.0.0.0", "--port", "0", cwd=tmp_path)
    *_, why = refused.stderr.splitlines()
    assert refused.returncode == 1 and why.startswith("homespun: host: 0.0.0.0")
    assert "homespun user add" in why and "HOMESPUN_API_TOKEN" in why
    _said(tmp_path, "user add root --role admin")
    with running("serve", "--data-dir", "data", "--host", "0.0.0.0", "--port", "0", cwd=tmp_path) as server:
        port = server.wait_for("homespun is ready: ").rpartition(":")[2]
        assert httpx.get(f"http://127.0.0.1:{port}/v1/models", timeout=20).status_code == 401
        assert httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=20).json() == {"ready": True}
