"""Threads that do nothing but count, in a container's own cgroup.

A child makes them by clone(2) and each of them waits for a signal that never comes. They share all that it has, so one
takes only what the kernel keeps of it (some 30 KiB) and a few hundred bytes to stand on, and they end with it.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from bounceback.drivers import KernelError, Refused, Site
from bounceback.drivers.cgroups import Group
from bounceback.drivers.forked import Child, Parent
from bounceback.drivers.pressing import AGAIN_SECONDS, READY_SECONDS, Beside, Press, Pressure, left, undo
from bounceback.drivers.processes import Process
from bounceback.types.inside import InsideAct
from bounceback.types.plan import Order
from bounceback.types.pressure import Pids

__all__ = ["apply", "left", "undo"]

STACK_BYTES: Final = 1024
THREAD_BYTES: Final = 32 << 10
MOST: Final = 4096
"""Threads, in a container: what the NodePod has memory for."""
LOOK_SECONDS: Final = 0.1
SELDOM_SECONDS: Final = 0.4
"""Between looks for room, where there was none of late: each look disturbs what else the processor is at."""
_THREAD: Final = 0x00010000 | 0x00000100 | 0x00000200 | 0x00000400 | 0x00000800 | 0x00040000
"""CLONE_THREAD, VM, FS, FILES, SIGHAND, SYSVSEM: a thread without a thing of its own."""


def apply(order: Order, site: Site) -> Crowding:
    """See `drivers.Driver`. Refused: NoProcess, NoController, NoLimit, NodeAtRisk, TooMany, NoRoom."""
    return Crowding(order, site)


class Crowding(Pressure):
    def press(self, process: Process) -> Press:
        crowd = Crowd(self._order, self._site, process)
        self.detail |= {"with": crowd.group.words, process.container: f"{crowd.wanted(self._act)} threads"}
        return crowd

    def words(self, seen: Mapping[str, float]) -> list[str]:
        refused = int(seen["refused"])
        return (
            [f"{refused} {'thread or process' if refused == 1 else 'threads or processes'} refused"] if refused else []
        )


class Crowd(Press):
    """One container's threads, all of one child; that of which there are too many is begun again."""

    def __init__(self, order: Order, site: Site, process: Process) -> None:
        super().__init__(order, site, process)
        self.group = Group.of(process, "pids", order.pod_uid, site.proc)
        self._refused = self.group.refused_forks()
        self._child: Child | None = None
        self._wanted = 0
        self._again_at = 0.0

    def wanted(self, act: InsideAct) -> int:
        """Threads. Raises Refused."""
        assert isinstance(act, Pids)
        try:
            wanted = act.wanted(self.group.pids_limit())
        except ValueError as error:
            raise Refused(
                "NoLimit", f"container {self.process.container} {error} (podPidsLimit of its kubelet); use processes"
            ) from error
        if wanted > MOST:
            raise Refused("TooMany", f"{wanted} threads are asked for, and an agent makes {MOST} at most")
        return wanted

    def follow(self, act: InsideAct | None) -> None:
        wanted = self.wanted(act) if act else 0
        if self._child is not None and wanted < self._wanted:
            self.end()
        self._wanted = wanted
        if self._child is not None:
            self._child.say(count=wanted)
        elif wanted:
            self._spare_others(wanted)
            self._child = self.child(Work(self.process, self.order.pod_uid, self.site.proc, wanted))

    def ready(self) -> None:
        if self._child is not None:
            self._child.until("ready", READY_SECONDS)

    def tend(self) -> None:
        if self._child is None:
            return
        try:
            ours = self._child.listen().get("refused", 0)
        except KernelError:
            if time.monotonic() >= self._again_at and self.process.alive():
                self._again_at = time.monotonic() + AGAIN_SECONDS
                self.end()
                self._child = self.child(Work(self.process, self.order.pod_uid, self.site.proc, self._wanted))
        else:
            self.seen["refused"] = max(0, self.group.refused_forks() - self._refused - ours)

    def count(self) -> int:
        """As the kernel counts the child's threads."""
        if self._child is None:
            return 0
        try:
            with open(f"{self.site.proc}/{self._child.number}/stat") as file:  # noqa: PTH123 - pathlib is not needed here
                return int(file.read().rpartition(")")[2].split()[17])
        except (OSError, IndexError):
            return 0

    def end(self) -> None:
        if self._child is not None:
            self._child.end()
            self._child = None

    def _spare_others(self, wanted: int) -> None:
        proc = self.site.proc
        most = min(_figure(f"{proc}/sys/kernel/pid_max"), _figure(f"{proc}/sys/kernel/threads-max"))
        with open(f"{proc}/loadavg") as file:  # noqa: PTH123 - pathlib is not needed here
            there = int(file.read().split()[3].partition("/")[2])
        if wanted > (most - there) // 2:
            raise Refused(
                "NodeAtRisk", f"{wanted} threads are asked for, and the node has room for {most - there} more in all"
            )
        if not self.group.unified:
            return
        room = Group.of(self.process, "memory", self.order.pod_uid, proc).memory_room()
        if room is not None and room < 2 * wanted * THREAD_BYTES:
            raise Refused(
                "NoRoom",
                f"container {self.process.container} has {room >> 20} MiB of its memory limit left, and {wanted} "
                f"threads take {wanted * THREAD_BYTES >> 20}: it could be ended for want of memory",
            )


@dataclass(frozen=True)
class Work:
    """What the child does."""

    process: Process
    pod_uid: str
    proc: str
    count: int

    def __call__(self, parent: Parent) -> None:
        beside = Beside(parent, self.process)
        group = Group.of(self.process, "pids", self.pod_uid, self.proc)
        threads, refused, wanted, pause = Threads(MOST), 0, self.count, LOOK_SECONDS
        group.join()
        parent.tell(ready=True)
        while True:
            room = group.pids_room()
            missing = wanted - threads.count
            adding = missing if room is None else min(missing, room)
            for _ in range(adding):
                if not threads.add():
                    refused += 1
                    parent.tell(refused=refused)
                    break
            pause = LOOK_SECONDS if adding > 0 else min(2 * pause, SELDOM_SECONDS)
            wanted = beside.hear(pause).get("count", wanted)


class Threads:
    """Threads of this process that wait for ever; `count` has the process itself with them."""

    def __init__(self, most: int) -> None:
        self.count = 1
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._libc.clone.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p]
        self._pause = ctypes.cast(self._libc.pause, ctypes.c_void_p)
        self._stacks = mmap.mmap(-1, most * STACK_BYTES)
        self._top = ctypes.addressof(ctypes.c_char.from_buffer(self._stacks)) + most * STACK_BYTES

    def add(self) -> bool:
        """False where the kernel refuses another one. Raises OSError."""
        stack = self._top - (self.count - 1) * STACK_BYTES
        if self._libc.clone(self._pause, stack, _THREAD, None) == -1:
            number = ctypes.get_errno()
            if number in (errno.EAGAIN, errno.ENOMEM):
                return False
            raise OSError(number, os.strerror(number))
        self.count += 1
        return True


def _figure(path: str) -> int:
    with open(path) as file:  # noqa: PTH123 - pathlib is not needed here
        return int(file.read())
