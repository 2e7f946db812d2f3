"""The page that says how far a container's wall clock is off; its other reader is operator/clock/clock.c.

8192 bytes in the machine's order: what marks it, the turn, two settings, of which the turn's last bit says which holds,
and in the second half a count of answers for each of 512 numbers of processes. The other setting is written, then the
turn: readers see the old one or the new one whole, whenever a writer ends.
"""

from __future__ import annotations

import os
import stat
import struct
import time
from dataclasses import dataclass
from typing import Final

from bounceback.drivers import KernelError, Refused

SIZE: Final = 8192
SLOTS: Final = 512
_MAGIC: Final = b"BBCLOCK1"
_TURN: Final = struct.Struct("=Q")
_SETTING: Final = struct.Struct("=4q")
_ANSWERS: Final = struct.Struct(f"={SLOTS}Q")
_TURN_AT: Final = 8
_SETTINGS_AT: Final = 16
_ANSWERS_AT: Final = SIZE - _ANSWERS.size


@dataclass(frozen=True, slots=True)
class Setting:
    """Nanoseconds; parts in a million; nanoseconds of the boot-time clock: from when it drifts, and when it is over."""

    offset: int = 0
    drift: int = 0
    since: int = 0
    until: int = 0

    def holds(self, now: int) -> bool:
        return bool(self.offset or self.drift) and now < self.until

    def gained(self, now: int) -> int:
        """Nanoseconds by which it has drifted away."""
        return (now - self.since) // 1000 * self.drift // 1000


TRUE: Final = Setting()


def empty() -> bytes:
    """What is in it when it is made."""
    return _MAGIC.ljust(SIZE, b"\0")


def boottime() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True)
class Page:
    """One that is open. It is read and written, never mapped: its owner may cut it short."""

    file: int
    container: str

    @classmethod
    def opened(cls, file: int, container: str) -> Page:
        """Takes the descriptor over. Raises Refused where it is none."""
        found = os.fstat(file)
        if stat.S_ISREG(found.st_mode) and found.st_size == SIZE and os.pread(file, len(_MAGIC), 0) == _MAGIC:
            return cls(file, container)
        os.close(file)
        raise Refused("NotArmed", f"what is at the clock's place in container {container} is none of ours")

    @property
    def identity(self) -> tuple[int, int]:
        """Device and inode."""
        found = os.fstat(self.file)
        return found.st_dev, found.st_ino

    @property
    def gone(self) -> bool:
        """The pod was set up anew, and has another one."""
        return os.fstat(self.file).st_nlink == 0

    def setting(self) -> Setting:
        return Setting(*_SETTING.unpack(self._read(_SETTING.size, _SETTINGS_AT + _SETTING.size * (self._turn() & 1))))

    def write(self, setting: Setting) -> None:
        """In force at once, for all who ask. Raises OSError."""
        turn = self._turn() + 1
        packed = _SETTING.pack(setting.offset, setting.drift, setting.since, setting.until)
        os.pwrite(self.file, packed, _SETTINGS_AT + _SETTING.size * (turn & 1))
        os.pwrite(self.file, _TURN.pack(turn % (1 << 64)), _TURN_AT)

    def answers(self) -> tuple[int, ...]:
        """By number of process, modulo SLOTS."""
        return _ANSWERS.unpack(self._read(_ANSWERS.size, _ANSWERS_AT))

    def close(self) -> None:
        os.close(self.file)

    def _turn(self) -> int:
        turn: int = _TURN.unpack(self._read(_TURN.size, _TURN_AT))[0]
        return turn

    def _read(self, size: int, at: int) -> bytes:
        found = os.pread(self.file, size, at)
        if len(found) != size:
            raise KernelError(f"the page of container {self.container}'s clock has been cut short")
        return found
