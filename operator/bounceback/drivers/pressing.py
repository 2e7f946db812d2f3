"""What pressure on containers has in common: children of ours in their cgroups, begun again where a container is.

A child ends with the agent (drivers/forked.py), and with the first process of its container: a cgroup that is not empty
would keep the runtime from taking the container away. Nothing is written into a cgroup but the child's own number.
"""

from __future__ import annotations

import os
import select
import time
import zlib
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, ClassVar, Final

from bounceback.drivers import PREFIX, HoldsNothing, KernelError, Refused, Site
from bounceback.drivers.cgroups import enter
from bounceback.drivers.forked import Child, Parent
from bounceback.drivers.processes import Process, chosen, of_pod
from bounceback.drivers.targets import folders, read
from bounceback.types.inside import InsideAct
from bounceback.types.plan import Act, Order

READY_SECONDS: Final = 10.0
"""For a child to be in the target's cgroups: one that has used up its quota of processor time gets there slowly."""
AGAIN_SECONDS: Final = 1.0
"""Until what has ended is begun again, and between looks for a container that is started again."""
Json = dict[str, Any]


class Beside:
    """The child's side of one that is in the target's cgroups: it goes when the container does."""

    def __init__(self, parent: Parent, process: Process) -> None:
        """Raises EOFError where the container has ended already."""
        watched = process.open()
        if watched is None:
            raise EOFError
        self._parent, self._watched = parent, watched

    def hear(self, seconds: float) -> Json:
        """What the agent asks for now, waited for that long. Raises EOFError at the end of either."""
        both = [self._parent.fileno(), self._watched]
        ready = select.select(both, [], [], max(0.0, seconds))[0]
        if self._watched in ready:
            raise EOFError
        asked: Json = {}
        for words in self._parent.hear(0.0) if both[0] in ready else ():
            asked.update(words)
        return asked


class Press(ABC):
    """One container under pressure, known by its first process."""

    again: ClassVar[bool] = True
    """Whether the container is pressed again when it is started again."""

    def __init__(self, order: Order, site: Site, process: Process) -> None:
        """Nothing has begun yet. Raises Refused where nothing can."""
        self.order, self.site, self.process = order, site, process
        self.seen: dict[str, float] = {}  # what the kernel counted meanwhile
        self.done = False  # there is no more to it

    @abstractmethod
    def follow(self, act: InsideAct | None) -> None:
        """So much of it from now on; None: nothing. Raises Refused, KernelError, OSError."""

    @abstractmethod
    def ready(self) -> None:
        """Wait until that has begun. Raises Refused, KernelError."""

    @abstractmethod
    def tend(self) -> None:
        """Look after the children, and what the kernel has counted. Raises KernelError, OSError."""

    @abstractmethod
    def count(self) -> int:
        """Hits by now, or how much is held at this moment."""

    @abstractmethod
    def end(self) -> None:
        """No child is there afterwards."""

    def child(self, work: Callable[[Parent], None]) -> Child:
        return Child(work, named(self.order))


class Pressure(HoldsNothing):
    """Pressure that is in force on each container that is meant; see `drivers.InForce` and `drivers.Turning`."""

    over_when_lifted = True
    adds: ClassVar[bool] = False
    """Hits of all that was ever pressed add up; else the most that was held at a time counts."""
    tend_seconds = 0.5
    verb: ClassVar[str] = "pressed"

    def __init__(self, order: Order, site: Site) -> None:
        """Raises Refused, KernelError, OSError; nothing is there then."""
        assert isinstance(order.act, InsideAct)
        self.farewell: Json = {}
        self.detail: dict[str, str] = {}
        self._order, self._site, self._act = order, site, order.act
        self._wanted: InsideAct | None = order.act
        self._pressed: list[Press] = []
        self._waited_for: set[str] = set()  # containers that have ended, and may come again
        self._hits = self._past = 0
        self._seen: defaultdict[str, float] = defaultdict(float)
        self._look_at = 0.0
        enter(site.proc)
        firsts = self._firsts()
        if not firsts:
            raise Refused("NoProcess", f"no process of {order.act.who} runs in pod {order.pod_name}")
        try:
            for process in firsts:
                self._begin(process)
            for press in self._pressed:
                press.ready()
        except BaseException:
            self._end_all()
            raise

    @abstractmethod
    def press(self, process: Process) -> Press:
        """Of that container."""

    @abstractmethod
    def words(self, seen: Mapping[str, float]) -> list[str]:
        """What is told at the end, the most telling first; what was not seen is 0."""

    def hits(self) -> int:
        now = sum(press.count() for press in self._pressed)
        self._hits = self._past + now if self.adds else max(self._hits, now)
        return self._hits

    def turn(self) -> float | None:
        for press in list(self._pressed):
            with suppress(KernelError, OSError):  # what cannot be looked after now may be so in a moment
                press.tend()
            if press.done or not press.process.alive():
                self._retire(press)
        if self._waited_for and self._wanted is not None and time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + AGAIN_SECONDS
            self._begin_again()
        return self.tend_seconds

    def change(self, act: Act | None) -> None:
        assert act is None or isinstance(act, InsideAct)
        self._wanted = act
        for press in self._pressed:
            try:
                press.follow(act)
            except (Refused, OSError) as error:
                raise KernelError(str(error)) from error

    def lift(self) -> None:
        with suppress(KernelError, OSError):
            for press in self._pressed:
                press.tend()
        self._end_all()

    def revert(self) -> None:
        self._end_all()
        told = self.words(self._seen)
        if again := int(self._seen["restarts"]):
            told.append(
                f"{again} {'container was' if again == 1 else 'containers were'} started again, and {self.verb} again"
            )
        self.farewell = {"seen": told}

    def _firsts(self) -> list[Process]:
        """The first process of each container that is meant."""
        found: dict[str, Process] = {}
        for process in chosen(of_pod(self._order.pod_uid, self._site.proc), self._act.who):
            if process.container not in found and process.alive():
                found[process.container] = process
        return list(found.values())

    def _begin(self, process: Process) -> None:
        press = self.press(process)
        self._pressed.append(press)
        press.follow(self._wanted)

    def _begin_again(self) -> None:
        for process in self._firsts():
            if process.container in self._waited_for:
                with suppress(Refused, KernelError, OSError):  # it may be ending again; the next look finds out
                    self._begin(process)
                    self._waited_for.discard(process.container)
                    self._seen["restarts"] += 1

    def _retire(self, press: Press) -> None:
        self.hits()
        self._pressed.remove(press)
        press.end()
        self._past += press.count() if self.adds else 0
        for name, value in press.seen.items():
            self._seen[name] += value
        if press.again:
            self._waited_for.add(press.process.container)

    def _end_all(self) -> None:
        self.hits()
        while self._pressed:
            self._retire(self._pressed[-1])


def named(order: Order) -> str:
    """What the processes are called that press for it (15 bytes at most, as /proc/PID/comm has them)."""
    return f"{PREFIX}{zlib.crc32(order.injection.encode()):08x}"


def left(order: Order, site: Site) -> list[str]:
    """Processes of ours that are still in the pod's cgroups."""
    found = []
    for folder in folders(site.proc, order.pod_uid):
        if read(folder, "comm").strip() == named(order):
            found.append(f"process {read(folder, 'stat').partition(' ')[0]} ({named(order)})")
        os.close(folder)
    return found


def undo(order: Order, site: Site) -> None:
    """The kernel has ended the children of who began it."""
