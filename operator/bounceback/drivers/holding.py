"""What a child does that holds memory for drivers/memory.py, in the cgroup to which it is billed."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import struct
import time
from dataclasses import dataclass
from typing import Final

from bounceback.drivers.cgroups import Group
from bounceback.drivers.forked import Parent
from bounceback.drivers.pressing import Beside
from bounceback.drivers.processes import Process

PAGE: Final = 4096
STEP: Final = 1 << 20
"""Bytes that are taken at a time; what the kernel refuses, or ends us for, is given back by it."""
SMALL_STEP: Final = 16 * PAGE
NEAR: Final = 4 << 20
"""From here on to the limit by small steps, so that nothing is left of it."""
LEFT: Final = 4 * SMALL_STEP
"""Bytes of the limit that one who stands aside does not ask for: who asks for the last ones has the kernel look for
somebody to end."""
LEAST_ROOM: Final = 4 << 20
ROOM: Final = 0.02
"""Of the limit, which is left to the target where we are to give way, and no less than LEAST_ROOM."""
LOOK_SECONDS: Final = 0.02
MOST_MAPPINGS: Final = 20_000
"""Of 65,530 that a process may have (vm.max_map_count)."""
_NODE_BYTES: Final = 576 / 64
"""Of the kernel's, billed too, to find a page of the file: a node of the tree (struct xa_node) has 64 of them."""
_ENTRY_BYTES: Final = 8
"""Of a page table, billed too, for each place at which a page is seen."""
_MOST: Final = struct.Struct("=Q")
MOST_BYTES: Final = _MOST.size
_PROT_READ, _MAP_SHARED, _MAP_POPULATE = 0x1, 0x01, 0x8000


def most(shared: mmap.mmap) -> int:
    """Bytes."""
    return int(_MOST.unpack_from(shared)[0])


def cost(views: int) -> float:
    """What is billed for a byte that is held."""
    return 1 + (_NODE_BYTES + _ENTRY_BYTES * views) / PAGE


@dataclass(frozen=True)
class Holding:
    """What is asked of the child; called in it."""

    process: Process
    pod_uid: str
    proc: str
    size: int  # bytes
    growth: int  # bytes a second; 0: at once
    views: int
    kept: str  # the agent's file, by its path in /proc; "": one of the child's own, which goes with it
    most: mmap.mmap  # shared with the agent: the most that was held
    first_to_die: bool
    gives_way: bool
    stands_aside: bool  # out of the cgroup, once all but the last of the limit is taken
    pause: float  # seconds before it begins

    def __call__(self, parent: Parent) -> None:
        beside = Beside(parent, self.process)
        group = Group.of(self.process, "memory", self.pod_uid, self.proc)
        own = Process(os.getpid(), 0, "", "", self.proc)
        home = Group.of(own, "memory", self.pod_uid, self.proc) if self.stands_aside else group
        before = billed()
        group.join()
        if self.first_to_die:
            with open(f"{self.proc}/self/oom_score_adj", "w") as file:  # noqa: PTH123 - pathlib is not needed here
                file.write("1000")
        opened = os.open(self.kept, os.O_RDWR) if self.kept else os.memfd_create("bounceback")
        holder = Holder(self, beside, parent, group, home, File(opened, self.views), before)
        try:
            holder.work()
        except EOFError:  # the cgroup stays while somebody is in it: what was counted there can still be read
            parent.tell(kills=group.oom_kills())
            raise


class File:
    """The memory: a file, and where it is seen."""

    def __init__(self, descriptor: int, views: int) -> None:
        self.descriptor, self._views = descriptor, views
        self.size = os.fstat(descriptor).st_size
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._libc.mmap.restype = ctypes.c_void_p
        self._libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]

    def grow(self, size: int) -> bool:
        """False where the kernel has none."""
        try:
            os.posix_fallocate(self.descriptor, self.size, size)
        except OSError as error:
            if error.errno not in (errno.ENOMEM, errno.ENOSPC, errno.EINTR):
                raise
            os.ftruncate(self.descriptor, self.size)
            return False
        for _ in range(self._views):
            flags = _MAP_SHARED | _MAP_POPULATE
            self._libc.mmap(None, size, _PROT_READ, flags, self.descriptor, self.size)
        self.size += size
        return True

    def cut(self, size: int) -> None:
        os.ftruncate(self.descriptor, size)
        self.size = size


class Holder:
    """The child at work."""

    def __init__(
        self, plan: Holding, beside: Beside, parent: Parent, group: Group, home: Group, file: File, before: int
    ) -> None:
        self._plan, self._beside, self._parent, self._group, self._file = plan, beside, parent, group, file
        self._home, self._inside = home, True
        self._limit = group.memory_limit()
        self._step = max(STEP, plan.size * max(1, plan.views) // MOST_MAPPINGS // PAGE * PAGE)
        self._gave_way = 0
        self._since, self._from = time.monotonic(), file.size
        self._size = plan.size
        if file.grow(PAGE):  # so that all that it takes is there, and known
            file.cut(file.size - PAGE)
        self._own = max(0, billed() - before)
        parent.tell(ready=True, file=file.descriptor, own=self._own)

    def work(self) -> None:
        """Until there is nobody to hold it for. Raises EOFError."""
        self._beside.hear(self._plan.pause)
        self._since = time.monotonic()
        while True:
            asked = self._beside.hear(self._turn())
            if "alive" in asked:
                self._parent.tell(alive=asked["alive"])
            if "size" in asked:
                self._size = asked["size"]
                self._since, self._from = time.monotonic(), self._file.size

    def _turn(self) -> float:
        """One step towards what is asked for; seconds until the next."""
        wanted, held = self._wanted(), self._file.size
        if held > wanted:
            self._file.cut(wanted)
        elif held < wanted and not self._is_full():
            self._go(inside=True)
            step = min(self._step, wanted - held)
            if self._limit is not None and not self._plan.first_to_die:
                room = self._group.memory_room() or 0
                step = min(step, SMALL_STEP) if room < NEAR else min(step, room - NEAR // 2)
            if not self._file.grow(max(PAGE, step // PAGE * PAGE)):
                return LOOK_SECONDS * 10
            _MOST.pack_into(self._plan.most, 0, max(self._file.size, most(self._plan.most)))
            return 0.0
        if self._plan.stands_aside and (held >= self._whole() or self._is_full()):
            self._go(inside=False)  # what is billed stays billed, and the kernel can choose among the target's alone
        return LOOK_SECONDS if self._plan.gives_way or held < self._whole() else 1.0

    def _is_full(self) -> bool:
        """Whether what is left of the limit is left to the target, which is to die of what it asks for itself."""
        if not self._plan.stands_aside or (room := self._group.memory_room()) is None:
            return False
        return room < SMALL_STEP + (LEFT if self._inside else 2 * LEFT)

    def _go(self, *, inside: bool) -> None:
        if inside != self._inside:
            (self._group if inside else self._home).join()
            self._inside = inside

    def _whole(self) -> int:
        """Bytes of the file, all of it: what is asked for without what is billed beside."""
        return max(0, int((self._size - self._own) / cost(self._plan.views))) // PAGE * PAGE if self._size else 0

    def _wanted(self) -> int:
        """Bytes of the file, now."""
        wanted = self._whole()
        if self._plan.growth:
            grown = self._from + int(self._plan.growth * (time.monotonic() - self._since))
            wanted = min(wanted, grown // PAGE * PAGE)
        if self._plan.gives_way and self._limit is not None:
            return self._with_room(wanted)
        return wanted

    def _with_room(self, wanted: int) -> int:
        """No more than leaves the target what it may ask for next."""
        assert self._limit is not None
        least = max(LEAST_ROOM, int(self._limit * ROOM))
        room, held = self._group.memory_room() or 0, self._file.size
        if room < least:
            self._gave_way += 1
            self._parent.tell(gaveWay=self._gave_way)
            return max(0, held - (2 * least - room)) // PAGE * PAGE
        return min(wanted, held + max(0, room - 2 * least)) // PAGE * PAGE


def billed() -> int:
    """Bytes of memory that are this process's alone (smaps_rollup, proc(5)); 0 where the kernel does not say."""
    try:
        with open("/proc/self/smaps_rollup") as file:  # noqa: PTH123 - pathlib is not needed here
            return sum(int(line.split()[1]) * 1024 for line in file if line.startswith("Private_"))
    except FileNotFoundError:  # without CONFIG_PROC_PAGE_MONITOR
        return 0
