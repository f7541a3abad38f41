"""Debian's docker-registry, and an image in it that no Docker pushed."""

import gzip
import io
import json
import tarfile
from hashlib import sha256
from pathlib import Path

import requests

DOCKER = "application/vnd.docker"
MANIFEST = f"{DOCKER}.distribution.manifest.v2+json"
PATIENCE_S = 20.0
CONFIG = """version: 0.1
storage:
  filesystem: {{rootdirectory: {storage}}}
http:
  addr: 127.0.0.1:{port}
{tls}"""


def write_config(folder: Path, port: str, tls: str = "") -> Path:
    """Write a configuration with that port; all configurations in one folder share the images."""
    path = folder / f"{port}.yml"
    path.write_text(CONFIG.format(storage=folder / "kept", port=port, tls=tls))
    return path


def push_image(port: str, name: str, content: bytes) -> None:
    """Put an image into the registry on that port of this host: one layer with a file `content`."""
    with requests.Session() as session:
        session.trust_env = False  # bypasses proxies
        base = f"http://127.0.0.1:{port}/v2/{name}"
        layer = _layer(content)
        about = {"architecture": "amd64", "os": "linux", "config": {}}
        config = json.dumps(about | {"rootfs": {"type": "layers", "diff_ids": [_digest(layer)]}}).encode()
        packed = gzip.compress(layer)
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": _put(session, base, config, f"{DOCKER}.container.image.v1+json"),
            "layers": [_put(session, base, packed, f"{DOCKER}.image.rootfs.diff.tar.gzip")],
        }
        headers = {"Content-Type": MANIFEST}
        response = session.put(f"{base}/manifests/latest", json.dumps(manifest), headers=headers, timeout=PATIENCE_S)
        response.raise_for_status()


def _layer(content: bytes) -> bytes:
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as archive:
        member = tarfile.TarInfo("content")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return layer.getvalue()


def _digest(blob: bytes) -> str:
    return f"sha256:{sha256(blob).hexdigest()}"


def _put(session: requests.Session, base: str, blob: bytes, kind: str) -> dict[str, object]:
    """Upload a blob and return its descriptor for a manifest."""
    begun = session.post(f"{base}/blobs/uploads/", timeout=PATIENCE_S)
    begun.raise_for_status()
    digest = _digest(blob)
    session.put(begun.headers["Location"], blob, params={"digest": digest}, timeout=PATIENCE_S).raise_for_status()
    return {"mediaType": kind, "size": len(blob), "digest": digest}
