"""The air-gap bundle, made and then installed where there is no network."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from tests.deploy import oci
from tests.deploy.bundles import make
from tests.deploy.containers import alone
from tests.server.test_process import BODY

ROOT = Path(__file__).parents[2]
MAKE = ROOT / "deploy/bundle/make.py"
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


def _made(folder: Path, *words: str, compiler: str = "false") -> Path:
    """Without the kernels, which take long to compile and which a laptop has no use for."""
    bundle = folder / "bundle"
    command = [sys.executable, str(MAKE), f"--output={bundle}", *words]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"CXX": compiler})
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
def inputs(tmp_path_factory: pytest.TempPathFactory, key: Path) -> list[str]:
    image = tmp_path_factory.mktemp("images") / "tiny.tar"
    oci.archive(image)
    return ["--extras=lsp", f"--sign={key}", f"--image={image}=homespun:0.2"]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, inputs: list[str]) -> Path:
    return _made(tmp_path_factory.mktemp("made"), *inputs)


def _verified(bundle: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([bundle / "verify.sh", *words], capture_output=True, text=True)


def _offline(script: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """`script` in a network that has a loopback and no route; pip has no settings but the command's."""
    if subprocess.run(["unshare", "-n", "true"], capture_output=True).returncode:
        pytest.skip("a network namespace needs root")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON"))}
    environ |= {"PIP_CONFIG_FILE": os.devnull, "PYTHON": sys.executable}
    return subprocess.run(alone(["sh", "-ec", script]), cwd=cwd, env=environ, capture_output=True, text=True)


def test_a_bundle_verifies_with_the_key_that_signed_it_and_no_other(bundle: Path, key: Path, tmp_path: Path) -> None:
    done = _verified(bundle, f"{key}.pub")
    assert done.returncode == 0 and "signature is right" in done.stdout, done.stderr
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "other"], check=True)
    assert _verified(bundle, str(tmp_path / "other.pub")).returncode == 1


@pytest.fixture
def copy(bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle, tmp_path / "copy"))


@pytest.mark.parametrize("name", ["model/model.safetensors", "images/homespun-0.2.tar", "requirements.txt", "load.sh"])
def test_a_flipped_bit_is_refused(name: str, copy: Path) -> None:
    victim = copy / name
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)
    assert _verified(copy).returncode == 1


def _missing(copy: Path) -> None:
    (copy / "model/model.safetensors").unlink()


def _added(copy: Path) -> None:
    (copy / "wheels/evil.whl").write_bytes(b"")


def _linked(copy: Path) -> None:
    (copy / "wheels/evil.whl").symlink_to("/etc/passwd")


def _named_as_checksums(copy: Path) -> None:
    (copy / "wheels/SHA256SUMS.whl").write_bytes(b"")


def _cut_short(copy: Path) -> None:
    sums = copy / "SHA256SUMS"
    sums.write_text("".join(sums.read_text().splitlines(keepends=True)[:-1]))


def _forgotten(copy: Path) -> None:
    (copy / "SHA256SUMS").unlink()


@pytest.mark.parametrize("change", [_missing, _added, _linked, _named_as_checksums, _cut_short, _forgotten])
def test_a_changed_bundle_is_refused(change: Callable[[Path], None], copy: Path) -> None:
    assert _verified(copy).returncode == 0
    change(copy)
    assert _verified(copy).returncode == 1


def test_the_bundle_lists_what_it_holds(bundle: Path) -> None:
    components = json.loads((bundle / "sbom.cdx.json").read_text())["components"]
    wheels = {hashlib.sha256(path.read_bytes()).hexdigest() for path in (bundle / "wheels").glob("*.whl")}
    assert {each["hashes"][0]["content"] for each in components} == wheels
    assert len(components) == len(wheels) == len((bundle / "requirements.txt").read_text().splitlines())
    assert all(each["licenses"] for each in components)
    with tarfile.open(next(bundle.glob("homespun-[0-9]*.tgz"))) as chart:
        assert "homespun/Chart.yaml" in chart.getnames()


def test_the_plugins_are_those_of_all_editors(tmp_path: Path) -> None:
    """VS Code's is given, since it has to be built."""
    vsix = tmp_path / "any.vsix"
    vsix.touch()
    make().plugins(tmp_path / "editors", vsix)
    editors = {path.name for path in (ROOT / "lsp/editors").iterdir() if path.is_dir()}
    packed = {path.name for path in (tmp_path / "editors").iterdir()}
    assert packed == {f"{name}.tgz" for name in editors - {"vscode"}} | {"homespun.vsix"} and len(packed) > 3


def test_the_vllm_that_the_bundle_names_is_the_charts() -> None:
    (named,) = set(re.findall(r"vllm/vllm-openai:(\S+?)[\s\"]", (MAKE.parent / "README.md").read_text()))
    assert f"vllm/vllm-openai:{named}\n" in (ROOT / "deploy/helm/homespun/values.yaml").read_text()


def test_the_list_is_what_the_schema_of_cyclonedx_allows(bundle: Path) -> None:
    text = (bundle / "sbom.cdx.json").read_text()
    validator = JsonStrictValidator(SchemaVersion.V1_6)
    assert validator.validate_str(text) is None
    assert validator.validate_str(text.replace('"library"', '"lib"')) is not None


def test_the_same_inputs_give_the_same_bytes(bundle: Path, inputs: list[str], tmp_path: Path) -> None:
    """But for the signature, of which there are many that are right."""
    assert (_made(tmp_path, *inputs) / "SHA256SUMS").read_text() == (bundle / "SHA256SUMS").read_text()


_KILLED = """
import os, pathlib, shutil, signal, sys
sys.path.insert(0, {folder!r})
import make
output, wheels, fatal, *words = sys.argv[1:]
make.wheels = lambda folder, source, extras: shutil.copytree(wheels, folder)
make.archive = lambda target, *content, **names: target.write_text("packed")
steps = 0
def step(event, values):
    global steps
    if event == "os.rename" or event == "open" and str(values[0]).startswith(output) and "w" in (values[1] or ""):
        steps += 1
        if steps == int(fatal):
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(step)
code = make.main(["--output", output, *words])
print(steps)
sys.exit(code)
"""
"""Makes a bundle, without what takes long, and is killed before the given step (a file to write, the rename)."""


def _killed(output: Path, wheels: Path, step: int, *words: str) -> subprocess.CompletedProcess[str]:
    program = _KILLED.format(folder=str(MAKE.parent))
    command = [sys.executable, "-c", program, str(output), str(wheels), str(step), *words]
    return subprocess.run(command, capture_output=True, text=True)


def test_a_killed_make_leaves_nothing_that_verifies_and_the_next_one_is_whole(
    bundle: Path, inputs: list[str], tmp_path: Path
) -> None:
    output, unfinished = tmp_path / "bundle", tmp_path / "bundle.unfinished"
    done = _killed(tmp_path / "whole", bundle / "wheels", 0, *inputs)
    assert done.returncode == 0, done.stderr
    rename = int(done.stdout.split()[-1])
    for step in (2, rename // 2, rename - 3, rename - 1):
        assert _killed(output, bundle / "wheels", step, *inputs).returncode == -signal.SIGKILL
        shutil.copy(MAKE.with_name("verify.sh"), unfinished)
        assert _verified(unfinished).returncode == 1 and not output.exists()
    assert _killed(output, bundle / "wheels", rename, *inputs).returncode == -signal.SIGKILL
    assert not output.exists()
    assert _killed(output, bundle / "wheels", 0, *inputs).returncode == 0
    assert _verified(output).returncode == 0 and not unfinished.exists()
    assert (output / "SHA256SUMS").read_text() == (tmp_path / "whole/SHA256SUMS").read_text()


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
    bundle = _made(tmp_path, "--extras=server", compiler="c++")
    ask = _ASK.format(body=BODY).replace("'", '"')
    names = f"VENV={tmp_path}/venv; DATA={tmp_path}/data; ASK='{ask}'"
    done = _offline(f"{names}\n./verify.sh\n{_INSTALL}\n{_COMPLETE}", bundle)
    assert done.returncode == 0 and "text:" in done.stdout, done.stdout + done.stderr
