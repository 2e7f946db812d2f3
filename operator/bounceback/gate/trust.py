"""Whom the two sides of the proxy trust: it the cluster's authority, the pod's containers its own and the cluster's."""

from __future__ import annotations

from pathlib import Path

Mark = tuple[int, int, int]


class ClusterAuthority:
    """The file with the cluster's authority, which the kubelet changes when the cluster gets another one."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._seen: Mark | None = None

    def changed(self) -> bytes | None:
        """What is in it, where that is not what was there the last time. Raises OSError."""
        found = self._file.stat()
        mark = (found.st_ino, found.st_mtime_ns, found.st_size)
        if mark == self._seen:
            return None
        content = self._file.read_bytes()
        self._seen = mark
        return content


def show(file: Path, *authorities: bytes) -> None:
    """Write what the other containers are to trust: all of it or nothing, for all users to read. Raises OSError."""
    content = b"".join(each.rstrip(b"\n") + b"\n" for each in authorities)
    if file.exists() and file.read_bytes() == content:
        return
    begun = file.with_name(f".{file.name}")
    begun.write_bytes(content)
    begun.chmod(0o644)
    begun.rename(file)


def link(place: Path, target: Path) -> None:
    """The other containers find at `place` what the kubelet keeps at `target`, where they see that. Raises OSError."""
    if place.is_symlink() and place.readlink() == target:
        return
    begun = place.with_name(f".{place.name}")
    begun.unlink(missing_ok=True)
    begun.symlink_to(target)
    begun.rename(place)
