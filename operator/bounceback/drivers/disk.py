"""Space on a file system that the target uses, held by a file that has no name.

The file is opened in the folder that the target names, without ever being linked there (O_TMPFILE, open(2)), so that
the kernel frees it with the process that holds it: a child of the agent (forked.py). Where a file system knows no such
files it has a name for a moment. What is filled is asked of statvfs(3) again and again: others write there too.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from bounceback.drivers import FIRST_LOOK_SECONDS, PREFIX, KernelError, Refused, Site, rooted
from bounceback.drivers.forked import Child, Parent
from bounceback.types.plan import Act, Flow, Order
from bounceback.types.scarce import Fill

LOOK_SECONDS: Final = 0.2
SELDOM_SECONDS: Final = 0.8
"""Between looks where nobody takes or gives anything: each look disturbs what else the processor is at."""
START_SECONDS: Final = 10.0
SLICE: Final = 256 << 20
"""Bytes that are asked for at once."""
SPARED: Final = 0.15
"""Of the node's own file system: the kubelet evicts pods below 10 % of its own (nodefs.available) and 15 % of the
runtime's (imagefs.available) and then removes images."""
NEAR: Final = 1 << 16
"""Bytes: a file system takes some for itself with each file."""
_MIB: Final = 1 << 20
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)
_NAMELESS_NOT: Final = (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL)


def apply(order: Order, site: Site) -> Held:
    act = order.act
    assert isinstance(act, Fill)
    place, folder = rooted.find(order.pod_uid, act.who, act.path, site.proc, os.O_PATH | os.O_DIRECTORY)
    try:
        mount = rooted.check(place, folder, act.path)
        spared = act.leave_bytes
        if own := rooted.is_nodes_own(mount, _node_mounts(site.proc)):
            figures = _Figures(folder)
            spared = max(spared, round(figures.size * SPARED))
        filling = _Filling(act, folder, name(order), spared, own=own)
        charged = place.process if mount.filesystem == rooted.MEMORY else None
        if charged is not None:
            _check_memory(filling, site.proc)

        def work(parent: Parent) -> None:
            if charged is not None:
                from bounceback.drivers import cgroups  # pages of such a file are billed to who writes them

                cgroups.enter(site.proc)
                cgroups.join(charged, order.pod_uid, ("memory",), site.proc)
            filling.work(parent)

        child = Child(work, "bb-disk")
        try:
            child.until("held", START_SECONDS)
        except (KernelError, Refused):
            child.end()
            raise
    finally:
        place.close()
        os.close(folder)
    return Held(act, child, place.process.container)


def undo(order: Order, site: Site) -> None:
    """The child has died with the agent, and the file with it; a name is taken away that it had for a moment."""
    for folder in _folders(order, site):
        with suppress(FileNotFoundError):
            os.unlink(name(order), dir_fd=folder)
        os.close(folder)


def left(order: Order, site: Site) -> list[str]:
    found = []
    for folder in _folders(order, site):
        with suppress(FileNotFoundError):
            os.stat(name(order), dir_fd=folder)
            found.append(f"file {name(order)}")
        os.close(folder)
    return found


def name(order: Order) -> str:
    return f"{PREFIX}fill-{order.injection}"


class Held:
    """Space that is held; see `drivers.InForce`."""

    first_look_seconds = FIRST_LOOK_SECONDS
    drain_seconds = 0.0
    over_when_lifted = False

    def __init__(self, act: Fill, child: Child, container: str) -> None:
        self.detail = {"with": "a file without a name", "container": container}
        self._act, self._child = act, child
        self._seen: Mapping[str, Any] = dict(child.seen)

    def hits(self) -> int:
        """MiB that are, or were, held."""
        self._seen = dict(self._child.listen())
        return int(-(-self._seen["most"] // _MIB))

    def held(self) -> int:
        return 0

    def amend(self, flows: tuple[Flow, ...]) -> None:
        """It has no peers."""

    def change(self, act: Act | None) -> None:
        assert act is None or isinstance(act, Fill)
        self._child.say(share=act.share if act else 0.0)

    def lift(self) -> None:
        """Nothing waits for it."""

    def revert(self) -> None:
        self._child.end()

    @property
    def farewell(self) -> Mapping[str, Any]:
        seen = self._seen
        lowest = f"{_amount(seen['lowest'])} of {_amount(seen['size'])} were free at the least"
        return {"seen": [f"{_amount(seen['most'])} held on {self._act.path}", lowest]}


class _Figures:
    """What statvfs(3) says of the file system of a descriptor, in bytes; free is what is so for others than root."""

    def __init__(self, descriptor: int) -> None:
        told = os.fstatvfs(descriptor)
        self.size, self.free = told.f_blocks * told.f_frsize, told.f_bavail * told.f_frsize


class _Filling:
    """What the child does."""

    def __init__(self, act: Fill, folder: int, name: str, spared: int, *, own: bool) -> None:
        self.act = act
        self._folder, self._name, self._spared = folder, name, spared
        now = _Figures(folder)
        self.wanted = act.amount(now.size, now.free)
        self._level = now.free - self.wanted
        self._check(now, own)

    def work(self, parent: Parent) -> None:
        """Until the agent lets go."""
        file = _nameless(self._folder, self._name)
        most, lowest, settled, grown = 0, _Figures(file).free, False, True
        free, pause, told = -1, LOOK_SECONDS, dict[str, int]()
        while True:
            grown = self._step(file, settled=settled)
            settled = settled or not grown
            now, held = _Figures(file), _held(file)
            most, lowest = max(most, held), min(lowest, now.free)
            told, before = {"held": held, "most": most, "lowest": lowest, "size": now.size}, told
            if told != before:
                parent.tell(**told)
            pause, free = LOOK_SECONDS if now.free != free else min(2 * pause, SELDOM_SECONDS), now.free
            for words in parent.hear(0.0 if grown else pause):
                self._aim(replace(self.act, share=words["share"]), now, held)
                settled = False

    def _check(self, now: _Figures, own: bool) -> None:
        """Raises Refused."""
        path = self.act.path
        if not self.wanted:
            raise Refused("NothingToFill", f"{path} has only {_amount(now.free)} of {_amount(now.size)} free already")
        most = now.free - self._spared
        if self.wanted <= most:
            return
        whose = f"{path} is on the node's own file system, of which" if own else f"of the file system of {path}"
        raise Refused(
            "NodeFileSystem" if own else "NoSpace",
            f"{whose} {_amount(self._spared)} must stay free: at most {_amount(max(0, most))} can be filled now, and "
            f"{_amount(self.wanted)} were asked for",
        )

    def _aim(self, act: Fill, now: _Figures, held: int) -> None:
        self.wanted = act.amount(now.size, now.free + held)
        self._level = now.free + held - self.wanted

    def _step(self, file: int, *, settled: bool) -> bool:
        """Once it is as it should be it only gives back what must stay free, unless it is to be kept. True: it grew."""
        now, held = _Figures(file), _held(file)
        if self.act.amount_bytes is None and (self.act.keep or not settled):
            goal = held + now.free - self._level
        else:
            goal = self.wanted
        goal = max(0, min(goal, held + now.free - self._spared))
        if goal < held and (not settled or now.free < self._spared):
            os.ftruncate(file, goal)
            return False
        if goal - held < NEAR or (settled and not self.act.keep):
            return False
        try:
            os.posix_fallocate(file, os.fstat(file).st_size, min(goal - held, SLICE))
        except OSError as error:
            if error.errno not in _FULL:
                raise
            return False
        return True


def _nameless(folder: int, name: str) -> int:
    try:
        return os.open(".", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600, dir_fd=folder)
    except OSError as error:
        if error.errno not in _NAMELESS_NOT:
            raise
    file = os.open(name, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600, dir_fd=folder)
    os.unlink(name, dir_fd=folder)
    return file


def _held(file: int) -> int:
    """Bytes; st_blocks counts units of 512 (stat(2))."""
    return os.fstat(file).st_blocks * 512


def _check_memory(filling: _Filling, proc: str) -> None:
    """A file system in memory takes the node's. Raises Refused."""
    figures = {}
    with open(f"{proc}/meminfo") as file:  # noqa: PTH123 - pathlib is not needed here
        for line in file:
            key, _, value = line.partition(":")
            figures[key] = int(value.split()[0]) * 1024
    most = figures["MemAvailable"] - round(figures["MemTotal"] * SPARED)
    if filling.wanted > most:
        raise Refused(
            "NodeMemory",
            f"{filling.act.path} is in the node's memory, of which at most {_amount(max(0, most))} can be filled now, "
            f"and {_amount(filling.wanted)} were asked for",
        )


def _node_mounts(proc: str) -> str:
    """Those of the node's first process."""
    with open(f"{proc}/1/mountinfo") as file:  # noqa: PTH123 - pathlib is not needed here
        return file.read()


def _folders(order: Order, site: Site) -> list[int]:
    """The path, in each container that is meant and has it."""
    assert isinstance(order.act, Fill)
    found = []
    with suppress(Refused):  # no container any more
        for place in rooted.containers(order.pod_uid, order.act.who, site.proc):
            with suppress(OSError):
                found.append(place.open(order.act.path, os.O_RDONLY | os.O_DIRECTORY))
            place.close()
    return found


def _amount(size: int) -> str:
    """ "12.5 MiB" """
    value, units = float(size), ["bytes", "KiB", "MiB", "GiB", "TiB"]
    while value >= 1024 and len(units) > 1:
        value, units = value / 1024, units[1:]
    return f"{value:,.1f} {units[0]}" if units[0] != "bytes" else f"{size} bytes"
