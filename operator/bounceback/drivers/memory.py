"""Memory that is held in a container's own cgroup.

It is that of a file in memory (memfd_create(2)), which a child fills from inside of the cgroup: billed is who asks for
a page first, and it stays so. The kernel frees it with the last process that has the file open, which is the child; but
where the target is to die first, the agent, which is outside and no candidate. A child that the kernel ended in the
target's place is followed by one that leaves the cgroup before the limit is reached. Where ours is to die first, the
child sees the same pages at several places: what a process sees counts when the kernel looks for the largest one, and
is billed once.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Mapping
from typing import Final

from bounceback.drivers import KernelError, Refused, Site
from bounceback.drivers.cgroups import Group
from bounceback.drivers.forked import Child
from bounceback.drivers.holding import MOST_BYTES, Holding, cost, most
from bounceback.drivers.pressing import AGAIN_SECONDS, READY_SECONDS, Press, Pressure, left, undo
from bounceback.drivers.processes import Process
from bounceback.types.inside import InsideAct
from bounceback.types.plan import Order
from bounceback.types.pressure import Memory, Victim

__all__ = ["apply", "left", "undo"]

MOST_VIEWS: Final = 16
NODE_KEEPS: Final = 0.1
"""This share of the node's memory is never taken."""


def apply(order: Order, site: Site) -> Held:
    """See `drivers.Driver`. Refused: NoProcess, NoController, NoLimit, NodeAtRisk."""
    return Held(order, site)


class Held(Pressure):
    def __init__(self, order: Order, site: Site) -> None:
        assert isinstance(order.act, Memory)
        if order.act.victim == Victim.TARGET:
            self.tend_seconds = 0.1  # what was meant for the target it has, and no more
        super().__init__(order, site)

    def press(self, process: Process) -> Press:
        holder = Holder(self._order, self._site, process)
        asked = holder.wanted(self._act)
        self.detail |= {"with": holder.group.words, process.container: f"{asked / 2**20:.1f} MiB"}
        if holder.gives_way:
            self.detail["givesWay"] = "the kernel would end all processes of the container together"
        return holder

    def words(self, seen: Mapping[str, float]) -> list[str]:
        told = [f"{int(seen[who])} of {whose} ended for want of memory" for who, whose in WHOSE if seen[who]]
        if seen["gaveWay"]:
            told.append(f"gave memory back {int(seen['gaveWay'])} times")
        if seen["waited"] >= 0.05:
            told.append(f"some process waited for memory for {seen['waited']:.1f} s")
        return told


WHOSE: Final = (("theirs", "the target's processes"), ("ours", "our processes"))


class Holder(Press):
    """One container's."""

    def __init__(self, order: Order, site: Site, process: Process) -> None:
        super().__init__(order, site, process)
        assert isinstance(order.act, Memory)
        self.group = Group.of(process, "memory", order.pod_uid, site.proc)
        self._limit = self.group.memory_limit()
        self._of_target = order.act.victim == Victim.TARGET
        self.gives_way = not self._of_target and self.group.dies_as_one()
        self._waits = Group.pressure_of(process, order.pod_uid, site.proc)
        self._kills, self._waited = self.group.oom_kills(), self._waits.waited("memory") if self._waits else 0.0
        self._last_kills = self._kills
        self._most = mmap.mmap(-1, MOST_BYTES)  # shared with the child
        self._file = os.memfd_create("bounceback") if self._of_target else -1
        self._act: Memory | None = None
        self._child: Child | None = None
        self._asked = 0
        self._gave_way = 0

    @property
    def again(self) -> bool:  # type: ignore[override]
        """A target that was ended has had what was meant for it."""
        return not self._of_target

    def wanted(self, act: InsideAct) -> int:
        """Bytes. Raises Refused."""
        assert isinstance(act, Memory)
        try:
            return act.wanted(self._limit)
        except ValueError as error:
            raise Refused("NoLimit", f"container {self.process.container} {error}; use amountBytes") from error

    def follow(self, act: InsideAct | None) -> None:
        assert act is None or isinstance(act, Memory)
        if act is not None:
            self._spare_the_node(self.wanted(act))
        self._act = act
        if self._child is None and act is not None:
            self._child = self._begin(act)
        elif self._child is not None:
            self._child.say(size=self._size(act))

    def ready(self) -> None:
        if self._child is not None:
            self._child.until("ready", READY_SECONDS)

    def tend(self) -> None:
        if self._waits is not None:
            self.seen["waited"] = self._waits.waited("memory") - self._waited
        if self._child is not None:
            try:
                self.seen["gaveWay"] = self._gave_way + self._child.listen().get("gaveWay", 0)
            except KernelError:
                self._lost(self._child)
        if self._child is None and self._act is not None and self.process.alive():
            self._child = self._begin(self._act)  # at once: who is in the cgroup sees to the end what is counted there
        self._count_kills()
        if self.seen.get("theirs"):
            self.done = self._of_target

    def count(self) -> int:
        """MiB, rounded: the most that the file took, and what it takes to hold it."""
        size = most(self._most)
        own = self._child.seen.get("own", 0) if self._child is not None else 0
        return round((size * cost(self._views()) + own) / 2**20) if size else 0

    def end(self) -> None:
        if self._child is not None:
            try:
                self._last_kills = max(self._last_kills, self._child.listen().get("kills", 0))
            except KernelError:
                self._lost(self._child)
            else:
                self._child.end()
                self._child = None
        if not self.process.alive() and (theirs := self._theirs()) > 0:
            self.seen["theirs"] = theirs
        if self._file >= 0:
            os.close(self._file)
            self._file, self._act = -1, None

    def _begin(self, act: Memory) -> Child:
        kept = f"{self.site.proc}/{os.getpid()}/fd/{self._file}" if self._of_target else ""
        plan = Holding(
            self.process,
            self.order.pod_uid,
            self.site.proc,
            self._size(act),
            act.growth,
            self._views(),
            kept,
            self._most,
            first_to_die=not self._of_target,
            gives_way=self.gives_way,
            stands_aside=self._of_target and "ours" in self.seen,
            pause=AGAIN_SECONDS if self.seen.get("ours") else 0.0,
        )
        return self.child(plan)

    def _size(self, act: Memory | None) -> int:
        return self.wanted(act) if act else 0

    def _views(self) -> int:
        """So many that the child is the largest process that the limit has room for."""
        if self._of_target or self.gives_way or self._limit is None:
            return 0
        assert isinstance(self.order.act, Memory)
        return min(MOST_VIEWS, -(-self._limit // self.wanted(self.order.act)))

    def _lost(self, child: Child) -> None:
        """The child has ended; by itself it does so only with the container."""
        self._gave_way += child.seen.get("gaveWay", 0)
        child.end()
        self._last_kills = max(self._last_kills, child.seen.get("kills", 0))
        self._child, self._asked = None, 0
        if "SIGKILL" in child.ended:
            self.seen["ours"] = self.seen.get("ours", 0) + 1

    def _count_kills(self) -> None:
        """One is the target's once the child has been heard of since: of its own death the kernel tells us later."""
        self._last_kills = max(self._last_kills, self.group.oom_kills())
        theirs = self._theirs()
        if theirs <= 0 or self._child is None:
            return
        if self._child.seen.get("alive", 0) >= self._last_kills:
            self.seen["theirs"] = theirs
        elif self._asked < self._last_kills:
            self._asked = self._last_kills
            self._child.say(alive=self._asked)

    def _theirs(self) -> int:
        return self._last_kills - self._kills - int(self.seen.get("ours", 0))

    def _spare_the_node(self, size: int) -> None:
        """What the limit does not let us take is not taken from the node."""
        room = self.group.memory_room()
        taken = size if room is None else min(size, room)
        with open(f"{self.site.proc}/meminfo") as file:  # noqa: PTH123 - pathlib is not needed here
            figures = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in file}
        if figures["MemAvailable"] - taken < figures["MemTotal"] * NODE_KEEPS:
            raise Refused(
                "NodeAtRisk",
                f"{taken >> 20} MiB are asked for, and the node has {figures['MemAvailable'] >> 20} MiB available: "
                "others there would run out of memory; ask for less, or give the container a limit",
            )
