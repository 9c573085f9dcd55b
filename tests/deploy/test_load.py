"""load.sh of a bundle against what it loads into: a registry, podman and containerd, all of them real."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import trustme

from tests.deploy import oci
from tests.deploy.bundles import BUNDLE, make
from tests.deploy.containers import alone, builder, command

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


@pytest.fixture
def images(tmp_path: Path) -> tuple[Path, str]:
    """A bundle's images, and the digest of the one that is in it."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    digest = oci.archive(tmp_path / "tiny.tar")
    make().copy_images(folder, [f"{tmp_path / 'tiny.tar'}=team/homespun:0.2"])
    shutil.copy(BUNDLE / "load.sh", folder)
    return folder, digest


def _ran(script: str, **mounts: Path) -> subprocess.CompletedProcess[str]:
    """In the Debian tree, with a network of its own."""
    places = {f"/{name}": path for name, path in mounts.items()}
    return subprocess.run(alone(command(builder(), script, mounts=places)), capture_output=True, text=True)


_REGISTRY = """
cat >/tmp/registry.yml <<END
version: 0.1
storage: {filesystem: {rootdirectory: /run/registry}}
http: {addr: 127.0.0.1:5443, tls: {certificate: /keys/cert.pem, key: /keys/key.pem}}
END
docker-registry serve /tmp/registry.yml >/run/log 2>&1 &
mkdir -p /run/certs; cp /keys/ca.pem /run/certs/ca.crt
mkdir -p /etc/containers/certs.d/localhost:5443; mount --bind /run/certs /etc/containers/certs.d/localhost:5443
until python3 -c 'import socket; socket.create_connection(("127.0.0.1", 5443))' 2>/dev/null; do sleep 0.1; done
"""


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """Of a registry whose authority is the company's own."""
    folder = tmp_path / "keys"
    folder.mkdir()
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    issued.private_key_pem.write_to_path(str(folder / "key.pem"))
    issued.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
    return folder


def test_a_registry_has_the_image_with_the_digest_it_was_made_with(images: tuple[Path, str], keys: Path) -> None:
    folder, digest = images
    asked = "skopeo inspect --format '{{.Digest}}' docker://localhost:5443/team/homespun:0.2"
    done = _ran(f"{_REGISTRY} /bundle/load.sh localhost:5443 </dev/null; {asked}", bundle=folder, keys=keys)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == digest
    assert f"load: localhost:5443/team/homespun@{digest}" in done.stdout


def test_the_base_image_is_asked_of_its_registry_and_named_by_digest(images: tuple[Path, str], keys: Path) -> None:
    folder, digest = images
    script = f"{_REGISTRY} /bundle/load.sh localhost:5443 >&2; /docker/base.sh localhost:5443/team/homespun:0.2"
    done = _ran(script, bundle=folder, keys=keys, docker=BUNDLE.parent / "docker")
    assert done.stdout.split() == [f"localhost:5443/team/homespun@{digest}"], done.stderr


def test_podman_has_the_image_under_its_name(images: tuple[Path, str]) -> None:
    done = _ran(
        "/bundle/load.sh >&2; podman images --format '{{.Names}}'; podman rmi -f team/homespun:0.2", bundle=images[0]
    )
    assert "team/homespun:0.2" in done.stdout, done.stderr


_CONTAINERD = """
containerd --root /run/containerd/root --state /run/containerd/state >/run/log 2>&1 &
export CONTAINERD_SNAPSHOTTER=native
until ctr version >/dev/null 2>&1; do sleep 0.1; done
mkdir /run/bin; ln -s /usr/bin/ctr /usr/bin/dirname /run/bin
"""


def test_containerd_has_the_image_under_its_name(images: tuple[Path, str]) -> None:
    folder, digest = images
    done = _ran(f"{_CONTAINERD} PATH=/run/bin /bundle/load.sh >&2; ctr --namespace k8s.io images list", bundle=folder)
    assert done.returncode == 0, done.stderr
    assert any(line.startswith("team/homespun:0.2 ") and digest in line for line in done.stdout.splitlines())


def test_a_bundle_without_images_says_so(images: tuple[Path, str]) -> None:
    (images[0] / "images.txt").unlink()
    done = subprocess.run([images[0] / "load.sh"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "load: this bundle has no images\n")


@pytest.mark.parametrize("image", ["absent.tar=homespun:1", "README.md=homespun:1", "tiny.tar=homespun", "tiny.tar"])
def test_what_is_no_named_archive_is_refused(image: str, tmp_path: Path) -> None:
    oci.archive(tmp_path / "tiny.tar")
    (tmp_path / "README.md").write_text("no archive")
    maker = make()
    with pytest.raises(maker.BundleError, match="expected ARCHIVE=NAME:TAG"):
        maker.copy_images(tmp_path, [str(tmp_path / image)])
