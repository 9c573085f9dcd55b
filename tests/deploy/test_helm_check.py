"""`helm test` can pass: its pod is let in, and waits for a server that doesn't listen yet."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.charts import CHART, EXAMPLES, one, rendered
from tests.server.test_process import serving

TOKEN = "a-token-of-the-test"


def test_the_check_waits_for_a_server_that_does_not_listen_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOMESPUN_API_TOKEN", TOKEN)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = {"SERVER": f"http://127.0.0.1:{port}", "TOKEN": TOKEN, "OUTSIDE": "127.0.0.1:9"}
    program = [sys.executable, "-I", str(CHART / "files" / "check.py")]
    checking = subprocess.Popen(program, env=os.environ | words, stdout=subprocess.PIPE, text=True)
    with checking as check, serving(tmp_path, "--port", str(port)) as server:
        server.wait_until_ready()
        said, _ = check.communicate(timeout=120)
    assert said.startswith("ok") and check.returncode == 0


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_the_pod_of_helm_test_is_let_in(example: Path) -> None:
    words = ("--values", str(example))
    labels = one("Pod", "demo-homespun-test", *words)["metadata"]["labels"]
    (rule,) = one("NetworkPolicy", "demo-homespun", *words)["spec"]["ingress"]
    assert any(_is_meant(peer, labels) for peer in rule["from"]), rule["from"]
    out = one("NetworkPolicy", "demo-homespun-test", *words)["spec"]["egress"][-1]["to"]
    (front,) = [o for o in rendered(*words) if (o["kind"], o["metadata"]["name"]) == ("Service", "demo-homespun")]
    assert any(_is_meant(peer, front["spec"]["selector"]) for peer in out)


def _is_meant(peer: dict[str, Any], labels: dict[str, str]) -> bool:
    """Whether a pod of the policy's own namespace is, of which no label but the name is known."""
    wanted = peer.get("podSelector", {}).get("matchLabels", {})
    return peer.get("namespaceSelector", {}) == {} and "ipBlock" not in peer and wanted.items() <= labels.items()
