"""Names of files that are exchanged or moved in one step, and contents that are copied by the kernel."""

from __future__ import annotations

import ctypes
import errno
import os
from typing import Final

from bounceback.drivers import Refused

_NOREPLACE: Final = 1
_EXCHANGE: Final = 2
_SLICE: Final = 1 << 20


def exchange(folder: int, one: str, other: str) -> None:
    """Both are there, each under the other's name. Raises OSError; Refused where the file system cannot do it."""
    _renameat2(folder, one, other, _EXCHANGE)


def rename_to_nothing(folder: int, old: str, new: str) -> None:
    """Raises FileExistsError where there is something already; otherwise as `exchange`."""
    _renameat2(folder, old, new, _NOREPLACE)


def copied(source: int, target: int, size: int, *, rewind: bool = True) -> None:
    """The first `size` bytes of one to the other, or all from where they stand. Raises OSError."""
    if rewind:
        os.lseek(source, 0, os.SEEK_SET)
        os.lseek(target, 0, os.SEEK_SET)
    while size > 0:
        part = os.read(source, min(size, _SLICE))
        if not part:
            return
        size -= len(part)
        while part:
            part = part[os.write(target, part) :]


def _renameat2(folder: int, one: str, other: str, flags: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(folder, os.fsencode(one), folder, os.fsencode(other), flags) == 0:
        return
    number = ctypes.get_errno()
    if number == errno.EINVAL:
        raise Refused("NoExchange", "this file system cannot exchange two names in one step (RENAME_EXCHANGE)")
    raise OSError(number, os.strerror(number), one)
