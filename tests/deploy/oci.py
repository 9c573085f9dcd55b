"""A small image as an OCI archive, as https://github.com/opencontainers/image-spec has it."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

_TYPE = "application/vnd.oci.image"


def archive(path: Path) -> str:
    """Writes one whose only file is /hello, and says its digest."""
    blobs: dict[str, bytes] = {}

    def blob(kind: str, content: bytes) -> dict[str, object]:
        digest = hashlib.sha256(content).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = content
        return {"mediaType": f"{_TYPE}.{kind}", "digest": f"sha256:{digest}", "size": len(content)}

    layer = blob("layer.v1.tar", _tar({"hello": b"hello\n"}))
    rootfs = {"type": "layers", "diff_ids": [layer["digest"]]}
    config = blob("config.v1+json", _json({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": rootfs}))
    manifest = blob("manifest.v1+json", _json({"schemaVersion": 2, "config": config, "layers": [layer]}))
    index = {"schemaVersion": 2, "manifests": [manifest]}
    layout = {"imageLayoutVersion": "1.0.0"}
    path.write_bytes(_tar({**blobs, "index.json": _json(index), "oci-layout": _json(layout)}))
    return str(manifest["digest"])


def _json(content: object) -> bytes:
    return json.dumps(content).encode()


def _tar(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return packed.getvalue()
