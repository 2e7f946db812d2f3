"""What a process runs, as its node sees it: whether its clock can be answered for, and if not, why."""

from __future__ import annotations

import os
import struct
from contextlib import suppress
from typing import Final

from bounceback.drivers.processes import Process
from bounceback.types.clock import LIBRARY, PRELOAD_VARIABLE

_MAGIC: Final = b"\x7fELF"
_CLASS_64: Final = 2
_INTERPRETER: Final = 3  # PT_INTERP: the program has a loader, which loads libraries (elf(5))
_NOTE: Final = 4  # PT_NOTE
_OF_GO: Final = b"Go\0\0"  # the name of the note with the build's id (cmd/link of Go)
_SECURE: Final = 23  # AT_SECURE of the auxiliary vector (getauxval(3))
_LARGEST_NOTE: Final = 1 << 16


def maps(process: Process, identity: tuple[int, int]) -> bool:
    """Whether it has that file, by device and inode, in its memory (/proc/PID/maps, proc(5))."""
    device, inode = identity
    wanted = f"{os.major(device):02x}:{os.minor(device):02x} {inode} "
    return any(wanted in line for line in _text(f"{process.folder}/maps").splitlines())


def unsupported(process: Process) -> str:
    """Why its clock can never be answered for; "" where nothing is known against it.

    By what it runs, not by whether the library is there: a program in Go that is linked with a C library has the
    library in memory, and asks the kernel all the same. Raises PermissionError.
    """
    try:
        with open(f"{process.folder}/exe", "rb") as file:  # noqa: PTH123 - pathlib is not needed here
            if against := _against(file.fileno()):
                return against
    except (FileNotFoundError, ProcessLookupError):
        return ""
    if _is_secure(process):
        return (
            "it runs with more rights than who started it (setuid, or capabilities of its file), so its loader ignores "
            f"{PRELOAD_VARIABLE}"
        )
    return ""


def not_loaded(process: Process) -> str:
    """Why the library is not there, in a program that could have it."""
    with suppress(FileNotFoundError, ProcessLookupError):
        with open(f"{process.folder}/environ", "rb") as file:  # noqa: PTH123 - see above
            variables = file.read().split(b"\0")
        if not any(each.startswith(PRELOAD_VARIABLE.encode()) and LIBRARY.encode() in each for each in variables):
            return f"it was started without {PRELOAD_VARIABLE}: who started it gave it an environment of its own"
    return "its loader has not loaded the library"


def _against(file: int) -> str:
    """From the headers of the program (elf(5))."""
    head = os.pread(file, 64, 0)
    if len(head) < 64 or head[:4] != _MAGIC:
        return ""
    if head[4] != _CLASS_64:
        return "it is a program of 32 bits"
    (at,) = struct.unpack_from("=Q", head, 32)
    size, count = struct.unpack_from("=HH", head, 54)
    interpreted = False
    for number in range(count):
        header = os.pread(file, size, at + number * size)
        (kind,) = struct.unpack_from("=I", header)
        (offset,) = struct.unpack_from("=Q", header, 8)
        (length,) = struct.unpack_from("=Q", header, 32)
        interpreted |= kind == _INTERPRETER
        if kind == _NOTE and _OF_GO in os.pread(file, min(length, _LARGEST_NOTE), offset):
            return "it is written in Go, which asks the kernel itself"
    return "" if interpreted else "it is statically linked, so no library can answer for its clock"


def _is_secure(process: Process) -> bool:
    with suppress(FileNotFoundError, ProcessLookupError):
        with open(f"{process.folder}/auxv", "rb") as file:  # noqa: PTH123 - see above
            vector = file.read()
        return any(
            key == _SECURE and value for key, value in struct.iter_unpack("=QQ", vector[: len(vector) // 16 * 16])
        )
    return False


def _text(path: str) -> str:
    """Empty where the process has ended."""
    try:
        with open(path, errors="replace") as file:  # noqa: PTH123 - see above
            return file.read()
    except (FileNotFoundError, ProcessLookupError):
        return ""
