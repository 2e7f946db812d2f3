"""Permission events of fanotify(7): who opens or reads a file of a mount waits until we have answered.

They take SYS_ADMIN. When the last descriptor of a group closes the kernel answers all that wait with yes, so nothing
is held any longer than the process lives that holds it. Each event brings a descriptor of the file, which has no events
of its own.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from bounceback.types.plan import Feature

OPEN: Final = 0x0001_0000  # FAN_OPEN_PERM
READ: Final = 0x0002_0000  # FAN_ACCESS_PERM
_CLOEXEC, _NONBLOCK, _UNLIMITED_QUEUE = 0x01, 0x02, 0x10
_CONTENT: Final = 0x04  # FAN_CLASS_CONTENT
_PRE_CONTENT: Final = 0x08  # FAN_CLASS_PRE_CONTENT: only such a group may name an error
_ADD, _MOUNT = 0x01, 0x10
_ALLOW, _DENY = 0x01, 0x02
_ERROR_SHIFT: Final = 24
_AT_FDCWD: Final = -100
_EVENT: Final = struct.Struct("=IBBHQii")
_ANSWER: Final = struct.Struct("=iI")
_AT_ONCE: Final = 64
"""Events that are read together: each takes a descriptor at that moment."""
_NOBODY: Final = 1 << 30
"""A descriptor that is none: the kernel looks at the answer before it looks for whose it is."""


@dataclass(frozen=True, slots=True)
class Event:
    """Somebody waits; `file` is ours to close."""

    file: int
    process: int  # in our PID namespace; 0: in none that we see
    kinds: int

    @property
    def path(self) -> str:
        """As its own mount namespace has it."""
        return path_of(self.file)


class Group:
    """Marks on mounts, and what waits for them. Raises OSError: EPERM without the right, ENOSYS, EINVAL."""

    def __init__(self, error: str = "") -> None:
        """`error`: the name of an errno that `deny` answers; "": EPERM."""
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._libc.fanotify_mark.argtypes = [
            ctypes.c_int, ctypes.c_uint, ctypes.c_uint64, ctypes.c_int, ctypes.c_char_p,
        ]  # fmt: skip
        named = bool(error) and error != "EPERM"
        self._deny = _DENY | (getattr(errno, error) << _ERROR_SHIFT if named else 0)
        flags = (_PRE_CONTENT if named else _CONTENT) | _CLOEXEC | _NONBLOCK | _UNLIMITED_QUEUE
        # A file that is no file does not keep us waiting (NONBLOCK), and our look is no access (NOATIME).
        of_events = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOATIME | getattr(os, "O_LARGEFILE", 0)
        self._descriptor = self._checked(self._libc.fanotify_init(flags, of_events))

    def fileno(self) -> int:
        return self._descriptor

    def mark(self, descriptor: int, kinds: int, *, mount: bool = True) -> None:
        """The mount that the file is on, or that file alone. Raises OSError."""
        flags = _ADD | (_MOUNT if mount else 0)
        path = f"/proc/self/fd/{descriptor}".encode()  # a descriptor of O_PATH is taken by its name only
        self._checked(self._libc.fanotify_mark(self._descriptor, flags, kinds, _AT_FDCWD, path))

    def events(self) -> Iterator[Event]:
        """Those that wait now and were not told before."""
        with suppress(BlockingIOError):
            told = os.read(self._descriptor, _AT_ONCE * _EVENT.size)
            at = 0
            while at < len(told):
                length, _, _, _, kinds, file, process = _EVENT.unpack_from(told, at)
                at += length
                if file >= 0:
                    yield Event(file, process, kinds)

    def allow(self, event: Event) -> None:
        self._answer(event, _ALLOW)

    def deny(self, event: Event) -> None:
        self._answer(event, self._deny)

    def names_errors(self) -> bool:
        """Whether the kernel would take such a denial: to an answer that it understands it says that nobody waits."""
        try:
            os.write(self._descriptor, _ANSWER.pack(_NOBODY, self._deny))
        except OSError as error:
            return error.errno == errno.ENOENT
        return False

    def close(self) -> None:
        os.close(self._descriptor)

    def _answer(self, event: Event, answer: int) -> None:
        with suppress(FileNotFoundError):  # who waited was killed
            os.write(self._descriptor, _ANSWER.pack(event.file, answer))
        os.close(event.file)

    @staticmethod
    def _checked(result: int) -> int:
        if result < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return result


def path_of(descriptor: int) -> str:
    """Of an open file, as its own mount namespace has it; followed by " (deleted)" where it has no name any more."""
    return os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115 - pathlib is not needed here


def features() -> set[Feature]:
    """Tried on a file in memory that nobody else has."""
    found = set()
    file = os.memfd_create("probe")
    for feature, error in ((Feature.FANOTIFY, ""), (Feature.FANOTIFY_ERRNO, "EIO")):
        with suppress(OSError):
            group = Group(error)
            try:
                group.mark(file, OPEN | READ, mount=False)
                if not error or group.names_errors():
                    found.add(feature)
            finally:
                group.close()
    os.close(file)
    return found
