"""Image archives in the OCI layout: packing a bare folder into one, and reading the names that one carries."""

import hashlib
import io
import json
import platform
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from dev.progress import DevError

PATH: Final = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}
MEDIA: Final = "application/vnd.oci.image"


def pack(name: str, rootfs: Path, out: Path, command: Sequence[str] = ()) -> None:
    """Write the image `name` with `rootfs` as its only layer to the archive `out`; `command` is what it runs."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as work:
        layer = Path(work, "layer")
        order = ["--sort=name", "--numeric-owner", "--mtime=@0"]  # the same folder gives the same image
        subprocess.run(["tar", "-C", str(rootfs), *order, "-cf", str(layer), "."], check=True)
        layer_id = _digest_of(layer)
        config = _json(
            {
                "architecture": ARCHITECTURES.get(platform.machine(), platform.machine()),
                "os": "linux",
                "config": {"Cmd": list(command), "Env": [PATH]},
                "rootfs": {"type": "layers", "diff_ids": [layer_id]},
            }
        )
        layers = [_descriptor("layer.v1.tar", layer_id, layer.stat().st_size)]
        described = _descriptor("config.v1+json", _digest(config), len(config))
        manifest = _json(
            {"schemaVersion": 2, "mediaType": f"{MEDIA}.manifest.v1+json", "config": described, "layers": layers}
        )
        entry = _descriptor("manifest.v1+json", _digest(manifest), len(manifest))
        tag = name.rsplit(":", 1)[-1]
        entry["annotations"] = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": tag}
        unfinished = Path(work, "archive")
        with tarfile.open(unfinished, "w") as archive:
            _add(archive, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
            _add(archive, "index.json", _json({"schemaVersion": 2, "manifests": [entry]}))
            _add(archive, _blob(_digest(config)), config)
            _add(archive, _blob(_digest(manifest)), manifest)
            archive.add(layer, _blob(layer_id))
        shutil.move(unfinished, out)


def names(archive: Path) -> list[str]:
    """The names that the images in an OCI or Docker archive have once containerd imported them."""
    try:
        with tarfile.open(archive) as members:
            for file, read in (("manifest.json", _docker_names), ("index.json", _oci_names)):
                try:
                    found = members.extractfile(file)
                except KeyError:
                    continue
                if found:
                    return read(json.load(found))
    except (tarfile.ReadError, FileNotFoundError) as error:
        raise DevError(f"{archive} is not an image archive: {error}") from error
    raise DevError(f"{archive} has neither index.json nor manifest.json: it is not an image archive.")


def full_name(name: str) -> str:
    """The name under which a pod's `image: NAME` is looked up: `web` is docker.io/library/web:latest."""
    first, _, rest = name.partition("/")
    if not rest:
        name = f"docker.io/library/{name}"
    elif first != "localhost" and not set(first) & set(".:"):
        name = f"docker.io/{name}"
    return name if ":" in name.rsplit("/", 1)[-1] or "@" in name else f"{name}:latest"


def _oci_names(index: dict[str, Any]) -> list[str]:
    annotations = [manifest.get("annotations", {}) for manifest in index["manifests"]]
    keys = ("io.containerd.image.name", "org.opencontainers.image.ref.name")
    return [name for one in annotations if (name := next((one[key] for key in keys if key in one), None))]


def _docker_names(manifest: list[dict[str, Any]]) -> list[str]:
    # containerd completes the names of a Docker archive as it imports it; those of an OCI archive it takes as written.
    return [full_name(name) for image in manifest for name in image.get("RepoTags") or []]


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True).encode()


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def _digest_of(file: Path) -> str:
    with file.open("rb") as data:
        return "sha256:" + hashlib.file_digest(data, "sha256").hexdigest()


def _blob(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _descriptor(kind: str, digest: str, size: int) -> dict[str, Any]:
    return {"mediaType": f"{MEDIA}.{kind}", "digest": digest, "size": size}


def _add(archive: tarfile.TarFile, path: str, data: bytes) -> None:
    member = tarfile.TarInfo(path)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


def link_applets(folder: Path, applets: Sequence[str]) -> None:
    """Give a folder with busybox in it the names under which busybox is called."""
    for applet in applets:
        if not (folder / applet).exists():
            (folder / applet).symlink_to("busybox")
