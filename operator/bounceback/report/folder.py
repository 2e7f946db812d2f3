"""A bundle of evidence as files: what a volume holds, and what `bounceback evidence --to` writes."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from bounceback.report.bundle import MANIFEST, Bundle, file_name
from bounceback.types.outcome import EvidenceKind

UNFINISHED: Final = ".unfinished-"


def written(folder: Path, bundle: Bundle) -> dict[EvidenceKind, str]:
    """The folder with all of it, there whole or not at all; kinds that could not be written, with the reason.

    The manifest comes first and small kinds before large ones, so that a disk that is full takes the least. Raises
    OSError where not even the manifest can be written, FileExistsError where the folder is there and not empty.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=folder.parent))
    failed: dict[EvidenceKind, str] = {}
    try:
        _write(unfinished / MANIFEST, bundle.manifest)
        for kind, data in sorted(bundle.packed.items(), key=lambda item: len(item[1])):
            try:
                _write(unfinished / file_name(kind), data)
            except OSError as error:
                (unfinished / file_name(kind)).unlink(missing_ok=True)
                failed[kind] = error.strerror or str(error)
        unfinished.chmod(0o755)  # mkdtemp's is the owner's alone
        unfinished.rename(folder)
    except OSError:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    return failed


def read(folder: Path) -> tuple[bytes, Mapping[EvidenceKind, bytes]]:
    """The manifest and the kinds that are there. Raises OSError without a manifest."""
    manifest = (folder / MANIFEST).read_bytes()
    found = {}
    for kind in EvidenceKind:
        try:
            found[kind] = (folder / file_name(kind)).read_bytes()
        except OSError:
            continue  # then it is missing, and said to be
    return manifest, found


def size(folder: Path) -> int:
    """Bytes of its files."""
    return sum(each.stat().st_size for each in folder.rglob("*") if each.is_file())


def _write(path: Path, data: bytes) -> None:
    """On the disk when this returns, not in a cache: a full one is told here and not later."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
