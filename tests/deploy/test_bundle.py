"""The air-gap bundle, made and then installed where there is no network."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.server.test_process import BODY

ROOT = Path(__file__).parents[2]
MAKE = ROOT / "deploy/bundle/make.py"
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


def _made(folder: Path, extras: str, *words: str) -> Path:
    bundle = folder / "bundle"
    command = [sys.executable, str(MAKE), f"--output={bundle}", f"--extras={extras}", *words]
    done = subprocess.run(command, capture_output=True, text=True)
    if "No matching distribution" in done.stderr or "Connection" in done.stderr:
        pytest.skip(f"pip can't download here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    return bundle


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("ssh-keygen") is None:
        pytest.skip("signing needs ssh-keygen")
    path = tmp_path_factory.mktemp("keys") / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return path


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, key: Path) -> Path:
    return _made(tmp_path_factory.mktemp("made"), "lsp", f"--sign={key}")


def _verified(bundle: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([bundle / "verify.sh", *words], capture_output=True, text=True)


_LOOPBACK = "import fcntl, socket, struct; fcntl.ioctl(socket.socket(), 0x8914, struct.pack('16sh', b'lo', 1))"
"""SIOCSIFFLAGS, IFF_UP: as `ip link set lo up`, which not every machine has."""


def _offline(script: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """`script` in a network that has a loopback and no route; pip has no settings but the command's."""
    if subprocess.run(["unshare", "-n", "true"], capture_output=True).returncode:
        pytest.skip("a network namespace needs root")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON"))}
    environ |= {"PIP_CONFIG_FILE": os.devnull, "PYTHON": sys.executable, "LOOPBACK": _LOOPBACK}
    command = ["unshare", "-n", "sh", "-ec", f'"$PYTHON" -c "$LOOPBACK"\n{script}']
    return subprocess.run(command, cwd=cwd, env=environ, capture_output=True, text=True)


def test_a_bundle_verifies_with_the_key_that_signed_it_and_no_other(bundle: Path, key: Path, tmp_path: Path) -> None:
    done = _verified(bundle, f"{key}.pub")
    assert done.returncode == 0 and "signature is right" in done.stdout, done.stderr
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "other"], check=True)
    assert _verified(bundle, str(tmp_path / "other.pub")).returncode == 1


@pytest.mark.parametrize("change", ["flipped", "missing", "added"])
def test_a_changed_bundle_is_refused(change: str, bundle: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(bundle, tmp_path / "copy")
    victim = copy / "model/model.safetensors"
    if change == "flipped":
        content = bytearray(victim.read_bytes())
        content[len(content) // 2] ^= 1
        victim.write_bytes(content)
    elif change == "missing":
        victim.unlink()
    else:
        victim.with_name("evil.whl").write_bytes(b"")
    assert _verified(copy).returncode == 1


def test_the_bundle_lists_what_it_holds(bundle: Path) -> None:
    components = json.loads((bundle / "sbom.cdx.json").read_text())["components"]
    wheels = list((bundle / "wheels").glob("*.whl"))
    assert len(components) == len(wheels) == len((bundle / "requirements.txt").read_text().splitlines())
    with tarfile.open(next(bundle.glob("homespun-[0-9]*.tgz"))) as chart:
        assert "homespun/Chart.yaml" in chart.getnames()


def test_a_bundle_that_is_there_is_not_overwritten(bundle: Path) -> None:
    done = subprocess.run([sys.executable, str(MAKE), f"--output={bundle}"], capture_output=True, text=True)
    assert done.returncode == 1 and "is there already" in done.stderr


_INSTALL = """
"$PYTHON" -m venv "$VENV"
"$VENV/bin/pip" install -q --no-index --find-links wheels --no-deps --require-hashes -r requirements.txt
"""


def test_a_laptop_is_set_up_without_a_network(bundle: Path, tmp_path: Path) -> None:
    done = _offline(
        f"VENV={tmp_path}/venv\n{_INSTALL}\n$VENV/bin/homespun --version; $VENV/bin/homespun lsp --help", bundle
    )
    assert done.returncode == 0 and done.stdout.startswith("homespun "), done.stderr


_COMPLETE = """
$VENV/bin/homespun serve --port 8080 --data-dir "$DATA" >"$DATA.log" 2>&1 &
server=$!
for _ in $(seq 300); do grep -q 'is ready' "$DATA.log" && break; sleep 0.2; done
"$VENV/bin/python" -c "$ASK" || { cat "$DATA.log"; exit 1; }
kill -TERM $server; wait $server
"""
_ASK = """
import json, urllib.request
body = json.dumps({body!r}).encode()
request = urllib.request.Request("http://127.0.0.1:8080/v1/completions", body, {{"Content-Type": "application/json"}})
print("text:", json.load(urllib.request.urlopen(request, timeout=60))["choices"][0]["text"])
"""


@pytest.mark.airgap
def test_a_server_is_set_up_without_a_network_and_completes(tmp_path: Path) -> None:
    bundle = _made(tmp_path, "server")
    ask = _ASK.format(body=BODY).replace("'", '"')
    names = f"VENV={tmp_path}/venv; DATA={tmp_path}/data; ASK='{ask}'"
    done = _offline(f"{names}\n./verify.sh\n{_INSTALL}\n{_COMPLETE}", bundle)
    assert done.returncode == 0 and "text:" in done.stdout, done.stdout + done.stderr
