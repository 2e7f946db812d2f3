"""What is inside an image archive: its configuration, its layers, its files by size."""

import gzip
import hashlib
import io
import json
import tarfile
import zlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dev import archives
from dev.progress import DevError

SITE: Final = "usr/local/lib/python3.13/dist-packages/"
# Where a file belongs in the table of sizes; the first prefix that fits.
PARTS: Final = (
    (f"{SITE}kubernetes", "kubernetes (asynchronous client)"),
    (f"{SITE}bounceback", "bounceback"),
    ("usr/local/bin/", "bounceback"),
    (f"{SITE}pydantic", "pydantic"),
    (f"{SITE}cel", "common-expression-language"),
    (f"{SITE}aiohttp", "aiohttp"),
    (f"{SITE}kopf", "kopf"),
    (SITE, "other Python packages of the lock file"),
    ("usr/bin/python3", "Python 3.13 and its standard library"),
    ("usr/lib/python3", "Python 3.13 and its standard library"),
    ("usr/sbin/", "nft, tc, ip, ss"),
    ("usr/bin/", "nft, tc, ip, ss"),
    ("usr/lib/", "shared libraries"),
    ("", "licences, package records, names of protocols and services, certificates"),
)
LAYER: Final = "application/vnd.oci.image.layer.v1.tar+gzip"
REFERENCE: Final = "org.opencontainers.image.ref.name"
CONTAINERD_NAME: Final = "io.containerd.image.name"  # the name under which containerd keeps an image that it imports
MEBIBYTE: Final = 1 << 20


@dataclass(frozen=True)
class Image:
    """An image in an archive. `compressed_bytes` is what a registry would hold of its layers."""

    config: dict[str, Any]
    layers: tuple[bytes, ...]

    @property
    def compressed_bytes(self) -> int:
        return sum(len(layer if is_gzip(layer) else gzip.compress(layer)) for layer in self.layers)

    def files(self) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
        """Every entry of every layer, from the lowest, with the content of regular files."""
        for layer in self.layers:
            with tarfile.open(fileobj=io.BytesIO(layer)) as members:
                for member in members:
                    content = members.extractfile(member) if member.isfile() else None
                    yield member, content.read() if content else b""

    def unpack(self, folder: Path) -> None:
        """Lay the layers over each other in `folder`, with owners and modes; needs root for the owners."""
        for layer in self.layers:
            with tarfile.open(fileobj=io.BytesIO(layer)) as members:
                members.extractall(folder, numeric_owner=True, filter="fully_trusted")


def is_gzip(data: bytes) -> bool:
    return data[:2] == b"\x1f\x8b"


def read(archive: Path) -> Image:
    """The only image in an archive of the OCI layout; raises DevError for anything else."""
    with tarfile.open(archive) as members:
        if "index.json" not in members.getnames():
            raise DevError(
                f"{archive} has no index.json: only archives of the OCI layout can be read (Docker 25 or later)"
            )
        described = _load(members, "index.json")["manifests"]
        if len(described) != 1:
            raise DevError(f"{archive} holds {len(described)} images, not one")
        document = _load(members, _blob(described[0]["digest"]))
        if "manifests" in document:  # an index within the index: Docker's, with attestations beside the image
            images = [one for one in document["manifests"] if one.get("platform", {}).get("os") != "unknown"]
            document = _load(members, _blob(images[0]["digest"]))
        config = _load(members, _blob(document["config"]["digest"]))
        layers = tuple(_bytes(members, _blob(layer["digest"])) for layer in document["layers"])
    return Image(config, layers)


def append(below: Path, layer: Path, target: Path, name: str) -> None:
    """Write the OCI archive `target`: the image in the archive `below` with one more layer, a .tar, under a name."""
    plain = layer.read_bytes()
    packed = gzip.compress(plain, compresslevel=6, mtime=0)
    with tarfile.open(below) as members, tarfile.open(target, "w") as out:
        index = _load(members, "index.json")
        replaced = index["manifests"][0]["digest"]
        manifest = _load(members, _blob(replaced))
        config = _load(members, _blob(manifest["config"]["digest"]))
        config["rootfs"]["diff_ids"].append(digest(plain))
        config.setdefault("history", []).append({"created_by": "COPY --from=own / /"})
        manifest["layers"].append({"mediaType": LAYER, "digest": digest(packed), "size": len(packed)})
        manifest["config"] |= _add_blob(out, _json(config))
        index["manifests"][0] |= _add_blob(out, _json(manifest))
        index["manifests"][0]["annotations"] = {REFERENCE: name, CONTAINERD_NAME: archives.full_name(name)}
        _add_blob(out, packed)
        _add(out, "index.json", _json(index))
        unchanged = {"oci-layout", *(_blob(one["digest"]) for one in manifest["layers"][:-1])}
        for member in members:
            if member.name in unchanged:
                out.addfile(member, members.extractfile(member))


def table(image: Image) -> str:
    """What the image holds as a Markdown table, largest first; a part's files are compressed one by one."""
    plain: dict[str, int] = defaultdict(int)
    packed: dict[str, int] = defaultdict(int)
    for member, content in image.files():
        if member.isfile():
            part = next(part for prefix, part in PARTS if member.name.removeprefix("./").startswith(prefix))
            plain[part] += len(content)
            packed[part] += len(zlib.compress(content))
    rows = [f"| {part} | {mebibytes(plain[part])} | {mebibytes(size)} |" for part, size in ranked(packed)]
    total = f"| **all** | {mebibytes(sum(plain.values()))} | {mebibytes(image.compressed_bytes)} |"
    return "\n".join(["| part | MiB | MiB compressed |", "|---|---:|---:|", *rows, total])


def ranked(sizes: dict[str, int]) -> list[tuple[str, int]]:
    return sorted(sizes.items(), key=lambda item: -item[1])


def mebibytes(size: int) -> str:
    return f"{size / MEBIBYTE:.1f}"


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def _json(document: dict[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True).encode()


def _add_blob(out: tarfile.TarFile, data: bytes) -> dict[str, Any]:
    """Add a blob; returns the digest and size by which another document refers to it."""
    _add(out, _blob(digest(data)), data)
    return {"digest": digest(data), "size": len(data)}


def _add(out: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    out.addfile(member, io.BytesIO(data))


def _blob(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _bytes(members: tarfile.TarFile, name: str) -> bytes:
    content = members.extractfile(name)
    if content is None:
        raise DevError(f"{name} is not a file of the archive")
    return content.read()


def _load(members: tarfile.TarFile, name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(_bytes(members, name))
    return document
