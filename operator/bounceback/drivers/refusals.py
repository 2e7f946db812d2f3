"""How often the kernel refused something to a process: system calls that ended with one error, counted by the kernel.

A perf event (perf_event_open(2)) on the tracepoint raw_syscalls:sys_exit, with a filter on what the call returned, for
each thread of the process and all that these start. It takes SYS_ADMIN and a tracefs on the node; without them there
is no count.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import platform
import struct
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

from bounceback.drivers.processes import Process

_CALLS: Final = {"x86_64": 298, "aarch64": 241}  # perf_event_open: asm/unistd_64.h, asm-generic/unistd.h
_TRACEPOINT: Final = 2
_INHERIT: Final = 1 << 1  # the second bit of the flags of struct perf_event_attr
_CLOEXEC: Final = 8
_SET_FILTER: Final = 0x40082406  # PERF_EVENT_IOC_SET_FILTER
_ATTRIBUTES: Final = struct.Struct("=IIQQQQQ")  # type, size, config, sample_period, sample_type, read_format, flags
_SIZE: Final = 64  # PERF_ATTR_SIZE_VER0
_PLACES: Final = ("sys/kernel/tracing", "sys/kernel/debug/tracing")
MOST: Final = 4096
"""Threads that are counted; each takes a descriptor."""


class Counted:
    """System calls of these processes that end with that error, from now on."""

    def __init__(self, processes: Iterable[Process], error: int, proc: str = "/proc") -> None:
        """Raises OSError where the kernel does not count them for us."""
        self._events: list[int] = []
        number = _tracepoint(proc)
        try:
            for process in processes:
                with suppress(FileNotFoundError, ProcessLookupError):
                    for thread in os.listdir(f"{process.folder}/task")[:MOST]:  # noqa: PTH208 - no pathlib needed here
                        with suppress(ProcessLookupError):
                            self._events.append(_opened(number, int(thread), error))
        except OSError:
            self.close()
            raise

    def total(self) -> int:
        return sum(int.from_bytes(os.read(event, 8), "little") for event in self._events)

    def close(self) -> None:
        for event in self._events:
            os.close(event)
        self._events = []


def _tracepoint(proc: str) -> int:
    for place in _PLACES:
        path = f"{proc}/1/root/{place}/events/raw_syscalls/sys_exit/id"
        with suppress(FileNotFoundError), open(path) as file:  # noqa: PTH123 - pathlib is not needed here
            return int(file.read())
    raise FileNotFoundError("the node has no tracefs")


def _opened(tracepoint: int, thread: int, error: int) -> int:
    attributes = _ATTRIBUTES.pack(_TRACEPOINT, _SIZE, tracepoint, 0, 0, 0, _INHERIT).ljust(_SIZE, b"\0")
    if platform.machine() not in _CALLS:
        raise OSError("perf_event_open has an unknown number here")
    libc = ctypes.CDLL(None, use_errno=True)
    event = libc.syscall(_CALLS[platform.machine()], attributes, thread, -1, -1, _CLOEXEC)
    if event < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    try:
        fcntl.ioctl(event, _SET_FILTER, f"ret == {-error}".encode() + b"\0")
    except OSError:
        os.close(event)
        raise
    return int(event)
