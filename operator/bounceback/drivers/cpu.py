"""Processor time that is burned in a container's own cgroup.

One child for each processor that is wanted, all with the same share of one. Each keeps its own account of what the
kernel has billed to it (CLOCK_PROCESS_CPUTIME_ID) and rests when it has had its share, so what it was kept from it
makes up for, for a while.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping
from typing import Final

from bounceback.drivers import KernelError, Refused, Site
from bounceback.drivers.cgroups import Group, join
from bounceback.drivers.forked import Child, Parent
from bounceback.drivers.pressing import AGAIN_SECONDS, READY_SECONDS, Beside, Press, Pressure, left, undo
from bounceback.drivers.processes import Process
from bounceback.types.inside import InsideAct
from bounceback.types.plan import Order
from bounceback.types.pressure import Cpu

__all__ = ["apply", "left", "undo"]

PERIOD_SECONDS: Final = 0.02
MOST_OWED_SECONDS: Final = 0.5
"""What a worker was kept from for longer is not made up for."""
WORKER_BYTES: Final = 4 << 20
"""Of memory, at most, where a worker's is billed to the target (cgroup v2)."""


def apply(order: Order, site: Site) -> Burning:
    """See `drivers.Driver`. Refused: NoProcess, NoController, NoLimit, TooFewProcessors, NoRoom."""
    return Burning(order, site)


class Burning(Pressure):
    adds = True

    def press(self, process: Process) -> Press:
        burner = Burner(self._order, self._site, process)
        self.detail |= {"with": burner.group.words, process.container: f"{burner.wanted(self._act):.3g} processors"}
        return burner

    def words(self, seen: Mapping[str, float]) -> list[str]:
        told = [f"throttled for {seen['throttled']:.1f} s"] if seen["throttled"] >= 0.05 else []
        if seen["waited"] >= 0.05:
            told.append(f"some process waited for a processor for {seen['waited']:.1f} s")
        return told


class Burner(Press):
    """One container's workers."""

    def __init__(self, order: Order, site: Site, process: Process) -> None:
        super().__init__(order, site, process)
        self.group = Group.of(process, "cpu", order.pod_uid, site.proc)
        self._waits = Group.pressure_of(process, order.pod_uid, site.proc)
        self._throttled, self._waited = self.group.throttled(), self._waits.waited("cpu") if self._waits else 0.0
        self._workers: list[Child] = []
        self._burned: dict[int, int] = {}  # nanoseconds, by the worker's number
        self._again_at = 0.0
        self._share = 0.0

    def wanted(self, act: InsideAct) -> float:
        """Processors. Raises Refused."""
        assert isinstance(act, Cpu)
        try:
            wanted = act.wanted(self.group.processors())
        except ValueError as error:
            raise Refused("NoLimit", f"container {self.process.container} {error}; use workers") from error
        usable = len(os.sched_getaffinity(self.process.number))
        if act.percent and wanted > usable:  # workers may be more: they are to compete
            raise Refused(
                "TooFewProcessors",
                f"{wanted:.3g} processors are asked for, and container {self.process.container} may use {usable}",
            )
        return wanted

    def follow(self, act: InsideAct | None) -> None:
        wanted = self.wanted(act) if act else 0.0
        count = math.ceil(wanted)
        self._share = wanted / count if count else 0.0
        if count > len(self._workers):
            self._refuse_without_room(count - len(self._workers))
        for worker in self._workers[:count]:
            worker.say(share=self._share)
        for worker in self._workers[count:]:
            worker.say(share=0.0)
        while len(self._workers) < count:
            self._workers.append(self.child(self._work(self._share)))

    def ready(self) -> None:
        for worker in self._workers:
            worker.until("ready", READY_SECONDS)

    def tend(self) -> None:
        self.seen["throttled"] = self.group.throttled() - self._throttled
        if self._waits is not None:
            self.seen["waited"] = self._waits.waited("cpu") - self._waited
        for place, worker in enumerate(self._workers):
            try:
                worker.listen()
            except KernelError:
                if time.monotonic() >= self._again_at and self.process.alive():
                    self._again_at = time.monotonic() + AGAIN_SECONDS
                    worker.end()
                    self._workers[place] = self.child(self._work(self._share))

    def count(self) -> int:
        """Milliseconds."""
        for worker in self._workers:
            self._burned[worker.number] = billed(worker.number) or self._burned.get(worker.number, 0)
        return sum(self._burned.values()) // 1_000_000

    def end(self) -> None:
        self.count()
        while self._workers:
            self._workers.pop().end()

    def _work(self, share: float) -> _Work:
        return _Work(self.process, self.order.pod_uid, self.site.proc, share)

    def _refuse_without_room(self, workers: int) -> None:
        """Where memory is billed to whose processor time is: the target must not be ended for it."""
        if not self.group.unified:
            return
        room = Group.of(self.process, "memory", self.order.pod_uid, self.site.proc).memory_room()
        if room is not None and room < 2 * workers * WORKER_BYTES:
            raise Refused(
                "NoRoom",
                f"container {self.process.container} has {room >> 20} MiB of its memory limit left, and {workers} "
                f"processes in it may take {workers * WORKER_BYTES >> 20}: it could be ended for want of memory",
            )


class _Work:
    """What a worker does."""

    def __init__(self, process: Process, pod_uid: str, proc: str, share: float) -> None:
        self._process, self._pod_uid, self._proc, self._share = process, pod_uid, proc, share

    def __call__(self, parent: Parent) -> None:
        beside = Beside(parent, self._process)
        join(self._process, self._pod_uid, ("cpu",), self._proc, also=("cpuacct", "cpuset"))
        parent.tell(ready=True)
        share, owed = self._share, 0.0
        wall, used = time.monotonic(), time.process_time()
        while True:
            if owed > 0:
                spin(min(owed, PERIOD_SECONDS))
                asked = beside.hear(0.0)
            else:
                asked = beside.hear(PERIOD_SECONDS * (1 - share) if share else 1.0)
            now, spent = time.monotonic(), time.process_time()
            owed = min(owed + (now - wall) * share - (spent - used), MOST_OWED_SECONDS)
            wall, used = now, spent
            if "share" in asked:
                share, owed = asked["share"], 0.0


def spin(seconds: float) -> None:
    """So much of this process's own processor time."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        for _ in range(2000):
            pass


def billed(number: int) -> int | None:
    """Nanoseconds of processor time that the kernel has billed to that process; None: it has ended.

    The clock of another process is ~number << 3 | CPUCLOCK_SCHED (clock_getcpuclockid(3), kernel posix-timers.h).
    """
    try:
        return time.clock_gettime_ns((~number << 3) | 2)
    except OSError:
        return None
