"""Network namespaces: kept by a file descriptor, entered for a block."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

CLONE_NEWNET = 0x40000000
_HERE = "/proc/thread-self/ns/net"


@dataclass(frozen=True, slots=True)
class Netns:
    """A network namespace; without a descriptor it is the process's own, and entering it does nothing."""

    fd: int | None = None

    @classmethod
    def at(cls, path: str, folder: int | None = None) -> Netns:
        """Keeps the namespace that `path` names, also when its last process ends. Raises OSError."""
        return cls(os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder))

    @property
    def inode(self) -> int:
        """Equal numbers, equal namespaces."""
        return (os.stat(_HERE) if self.fd is None else os.fstat(self.fd)).st_ino  # noqa: PTH116 - pathlib is not needed here

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Sockets opened and processes started inside the block belong to this namespace. Raises OSError."""
        if self.fd is None:
            yield
            return
        home = os.open(_HERE, os.O_RDONLY | os.O_CLOEXEC)
        try:
            setns(self.fd, CLONE_NEWNET)
            try:
                yield
            finally:
                setns(home, CLONE_NEWNET)
        finally:
            os.close(home)

    def close(self) -> None:
        if self.fd is not None:
            os.close(self.fd)


def setns(fd: int, kind: int) -> None:
    """This process is in that namespace of that kind (CLONE_NEW...) from now on. Raises OSError."""
    if hasattr(os, "setns"):  # Python 3.12
        os.setns(fd, kind)
        return
    import ctypes

    if ctypes.CDLL(None, use_errno=True).setns(fd, kind) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
