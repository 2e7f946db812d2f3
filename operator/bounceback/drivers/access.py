"""What the target opens and reads comes late, or not at all: permission events of its mounts (drivers/fanotify.py).

A child of the agent (forked.py) is asked about each access to the mount on which the path is, in one container. A mount
belongs to one container: other pods that have the same volume have others, and are never asked about. Who else goes
through the container's mount (the node, us) is let through at once; so is what is not at the path or below.

Nothing is left to undo: when the child ends, in whatever way, the kernel lets all go on that wait. It ends with the
agent; at the order's own last moment; when its loop stands still, by a timer of the kernel that it winds up again and
again; and when it does not tell the agent any more that it goes on.

The child opens no file but those of /proc: it would wait for itself.
"""

from __future__ import annotations

import errno
import heapq
import os
import resource
import select
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import Any, Final

from bounceback.drivers import KernelError, Refused, Site, rooted
from bounceback.drivers.fanotify import OPEN, READ, Event, Group, path_of
from bounceback.drivers.forked import Child, Parent
from bounceback.drivers.pressing import READY_SECONDS, Press, Pressure, named
from bounceback.drivers.processes import Process
from bounceback.drivers.rooted import NO_FILES, Rooted
from bounceback.drivers.targets import in_pod
from bounceback.types.access import EVERYWHERE, Access, Delays
from bounceback.types.choice import Chooser
from bounceback.types.inside import InsideAct
from bounceback.types.plan import Order

STALLED_SECONDS: Final = 5.0
"""A child that stands still is ended after that long, by the kernel or else by the agent."""
BEAT_SECONDS: Final = 0.5
GRACE_SECONDS: Final = 1.0
"""After the order's last moment, for an agent that ends it itself."""
TELL_SECONDS: Final = 0.02
SPARE_DESCRIPTORS: Final = 128
MOST_HELD: Final = 8192
"""Accesses that wait at a time; the oldest go on early when there are more: each takes a descriptor."""


def apply(order: Order, site: Site) -> Holding:
    """See `drivers.Driver`. Refused: NoProcess, NoPath, NotAVolume, MissingFeature, NotPermitted."""
    return Holding(order, site)


def undo(order: Order, site: Site) -> None:
    """The kernel has ended the children of who began it, and let go on what they held."""


def left(order: Order, site: Site) -> list[str]:
    """Children of ours that are still there."""
    found = []
    for number in filter(str.isdigit, os.listdir(site.proc)):  # noqa: PTH208 - pathlib is not needed here
        with (
            suppress(FileNotFoundError, ProcessLookupError),
            open(f"{site.proc}/{number}/comm") as file,  # noqa: PTH123 - see above
        ):
            if file.read().strip() == named(order):
                found.append(f"process {number} ({named(order)})")
    return found


class Holding(Pressure):
    """Accesses are held or denied in each container that has the path; see `drivers.InForce`."""

    adds = True
    tend_seconds = BEAT_SECONDS
    verb = "hit"

    def __init__(self, order: Order, site: Site) -> None:
        assert isinstance(order.act, Access)
        self._path = order.act.path
        super().__init__(order, site)
        self.detail |= {"with": "fanotify", "error": order.act.error} if order.act.error else {"with": "fanotify"}

    def press(self, process: Process) -> Press:
        self.detail[process.container] = self._path
        return Answers(self._order, self._site, process)

    def turn(self) -> float | None:
        seconds = super().turn()
        for press in self._pressed:
            if isinstance(press, Answers) and press.trouble:
                raise KernelError(press.trouble)
        return seconds

    def words(self, seen: Mapping[str, float]) -> list[str]:
        assert isinstance(self._order.act, Access)
        done = f"denied with {self._order.act.error}" if self._order.act.error else "held"
        told = [f"{int(seen['opens'])} opens and {int(seen['reads'])} reads {done} at {self._path}"]
        if early := int(seen["early"]):
            told.append(f"{early} of them went on early, because more than {MOST_HELD} waited at a time")
        return told

    def _firsts(self) -> list[Process]:
        """Only of containers that have the path. Raises Refused where none has it; later nobody is no surprise."""
        try:
            return _having(self._path, rooted.containers(self._order.pod_uid, self._act.who, self._site.proc))
        except Refused:
            if self._waited_for:
                return []
            raise


class Answers(Press):
    """One container's accesses, answered by one child."""

    def __init__(self, order: Order, site: Site, process: Process) -> None:
        super().__init__(order, site, process)
        self.trouble = ""
        self._child: Child | None = None

    def follow(self, act: InsideAct | None) -> None:
        if self._child is not None:
            self._child.say(act=asdict(act) if act else None)
        elif act is not None:
            assert isinstance(act, Access)
            answering = Answering(self.order, self.site, self.process, act)
            self._child = self.child(answering)

    def ready(self) -> None:
        if self._child is not None:
            self._child.until("ready", READY_SECONDS)

    def tend(self) -> None:
        if self._child is None:
            return
        try:
            told = self._child.listen()
        except KernelError as error:
            self.trouble = str(error)
            return
        self.seen = {name: float(told.get(name, 0)) for name in ("opens", "reads", "early")}
        if "beat" in told and time.monotonic() - told["beat"] > STALLED_SECONDS:
            self._child.end()
            self._child = None
            self.trouble = f"the child that answers stood still for more than {STALLED_SECONDS:.0f} s"

    def count(self) -> int:
        self.tend()
        return int(self.seen.get("opens", 0) + self.seen.get("reads", 0))

    def end(self) -> None:
        if self._child is not None:
            self.tend()
            self._child.end()
            self._child = None


class Answering:
    """What the child does."""

    def __init__(self, order: Order, site: Site, process: Process, act: Access) -> None:
        self._order, self._proc, self._process = order, site.proc, process
        self._act: Access | None = act
        self._path = act.path
        self._chooser = Chooser(act.choice, act.name)
        self._delays = Delays(act.choice.seed, act.name)
        self._held: list[tuple[float, int, Event]] = []  # a heap, by when they go on
        self._counts = {"opens": 0, "reads": 0, "early": 0}
        self._told_at = 0.0
        self._untold = False  # there may be something that the agent does not know yet
        self._serial = 0

    def __call__(self, parent: Parent) -> None:
        """Until the agent lets go, or the order is over. Raises Refused."""
        ends = time.clock_gettime(time.CLOCK_BOOTTIME) + self._order.not_after - time.time() + GRACE_SECONDS
        self._most = _most_held()
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        group = self._marked()
        parent.tell(ready=True, beat=time.monotonic())
        while time.clock_gettime(time.CLOCK_BOOTTIME) < ends:
            signal.setitimer(signal.ITIMER_REAL, STALLED_SECONDS)
            ready = select.select([group.fileno(), parent.fileno()], [], [], self._patience(ends))[0]
            self._let_go(group)
            if group.fileno() in ready:
                for event in group.events():
                    self._decide(group, event)
            if parent.fileno() in ready:
                for words in parent.hear(0.0):
                    self._change(group, words["act"])
            self._tell(parent)

    def _marked(self) -> Group:
        """Raises Refused."""
        assert self._act is not None
        kinds = (OPEN if self._act.opens else 0) | (READ if self._act.reads else 0)
        place = rooted.at(self._process)
        descriptor = _opened(place, self._path)
        try:
            self._base = path_of(descriptor)
            group = Group(self._act.error)
            if self._act.error not in ("", EVERYWHERE) and not group.names_errors():
                raise OSError(errno.EINVAL, f"denials are answered with {EVERYWHERE} only (another one: Linux 6.14)")
            group.mark(descriptor, kinds)
        except OSError as error:
            reason = "NotPermitted" if error.errno == errno.EPERM else "MissingFeature"
            told = f"this node's kernel does not ask about accesses to {self._path} (fanotify): {error.strerror}"
            raise Refused(reason, told) from error
        finally:
            os.close(descriptor)  # a volume in use could not be unmounted
            place.close()
        return group

    def _patience(self, ends: float) -> float:
        soon = TELL_SECONDS if self._untold else BEAT_SECONDS
        soon = min(soon, ends - time.clock_gettime(time.CLOCK_BOOTTIME))
        return max(0.0, min(soon, self._held[0][0] - time.monotonic()) if self._held else soon)

    def _decide(self, group: Group, event: Event) -> None:
        act = self._act
        if act is None or not self._is_meant(event) or not self._chooser.next():
            group.allow(event)
            return
        self._counts["opens" if event.kinds & OPEN else "reads"] += 1
        if act.error:
            group.deny(event)
            return
        self._serial += 1
        heapq.heappush(self._held, (time.monotonic() + self._delays.next(act), self._serial, event))
        if len(self._held) > self._most:
            self._counts["early"] += 1
            group.allow(heapq.heappop(self._held)[2])

    def _is_meant(self, event: Event) -> bool:
        """A process of the pod, and a file at the path or below."""
        path = event.path
        if path != self._base and not path.startswith(f"{self._base.rstrip('/')}/"):
            return False
        try:
            with open(f"{self._proc}/{event.process}/cgroup") as file:  # noqa: PTH123 - pathlib is not needed here
                return in_pod(file.read(), self._order.pod_uid)
        except (FileNotFoundError, ProcessLookupError):
            return False

    def _let_go(self, group: Group) -> None:
        while self._held and self._held[0][0] <= time.monotonic():
            group.allow(heapq.heappop(self._held)[2])

    def _change(self, group: Group, fields: Mapping[str, Any] | None) -> None:
        if fields is None:
            self._act = None
            while self._held:
                group.allow(heapq.heappop(self._held)[2])
            return
        self._act = Access.from_json(fields)
        self._chooser.choice = self._act.choice

    def _tell(self, parent: Parent) -> None:
        now = time.monotonic()
        self._untold = now - self._told_at < TELL_SECONDS
        if not self._untold:
            self._told_at = now
            parent.tell(beat=now, **self._counts)


def _having(path: str, places: list[Rooted]) -> list[Process]:
    """The containers that have the path, by their first processes. Raises Refused where there is none."""
    found = []
    trouble = f"no container of the pod has {path}"
    for place in places:
        try:
            os.close(_opened(place, path))
            found.append(place.process)
        except OSError as error:
            if error.errno != errno.ENOENT:
                trouble = f"{path} in container {place.process.container}: {error.strerror}"
        finally:
            place.close()
    if not found:
        raise Refused("NoPath", trouble)
    return found


def _opened(place: Rooted, path: str) -> int:
    """The path, in that container: what is opened like that asks nobody. Raises OSError, Refused."""
    descriptor = place.open(path, os.O_PATH)
    try:
        filesystem = place.mount(descriptor).filesystem
    except BaseException:
        os.close(descriptor)
        raise
    if filesystem in NO_FILES:
        os.close(descriptor)
        raise Refused("NotAVolume", f"{path} is on {filesystem}, which is the kernel's own")
    return descriptor


def _most_held() -> int:
    """As many as there may be descriptors, which are as many as we may have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return max(1, min(MOST_HELD, hard - SPARE_DESCRIPTORS))
