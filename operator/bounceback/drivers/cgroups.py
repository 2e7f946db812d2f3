"""The cgroups that a container is in: their limits and counters, and how a process of ours gets in beside it.

A container is known by one of its processes, so no runtime is asked. Version 1 has a hierarchy for each controller,
version 2 one for all; a node may have both, and then a controller is in one of them (cgroups(7)). Files: Documentation/
admin-guide/cgroup-v2.rst and cgroup-v1/{memory,cpuacct,pids}.rst of the kernel. Standard library only.

All is reached by the root and the mounts of the node's process 1, because a NodePod's own cgroup mount shows its own
branch only.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from bounceback.drivers import Refused
from bounceback.drivers.netns import setns
from bounceback.drivers.processes import Process
from bounceback.drivers.targets import names_pod

_CLONE_NEWCGROUP: Final = 0x02000000
_NO_LIMIT: Final = 1 << 60
"""Bytes: version 1 says "none" by the largest number of pages that it knows."""


def enter(proc: str = "/proc") -> None:
    """Into the cgroup namespace of the node: only from there paths are whole, and processes may be moved across (the
    mount option nsdelegate of version 2). Raises OSError."""
    mine, nodes = f"{proc}/self/ns/cgroup", f"{proc}/1/ns/cgroup"
    if os.stat(mine).st_ino == os.stat(nodes).st_ino:  # noqa: PTH116 - pathlib is not needed here
        return
    there = os.open(nodes, os.O_RDONLY | os.O_CLOEXEC)
    try:
        setns(there, _CLONE_NEWCGROUP)
    finally:
        os.close(there)


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """One that is mounted. No controllers: version 2's, which has those that no other has."""

    controllers: frozenset[str]
    folder: str
    root: str  # what of it is mounted there

    def at(self, path: str) -> str:
        return f"{self.folder}{path.removeprefix(self.root.rstrip('/'))}".rstrip("/")


@dataclass(frozen=True, slots=True)
class Group:
    """What one controller holds a container to: its own cgroup first, then those around it, the pod's last."""

    controller: str
    unified: bool  # of version 2
    levels: tuple[str, ...]

    @classmethod
    def of(cls, process: Process, controller: str, pod_uid: str, proc: str = "/proc") -> Group:
        """Refused: NoController, where the node has not got it; TargetGone."""
        mounted = list(hierarchies(_text(f"{proc}/1/mountinfo"), f"{proc}/1/root"))
        paths = dict(_paths(_text(f"{process.folder}/cgroup")))
        if not paths:
            raise Refused("TargetGone", f"process {process.number} of container {process.container} has just ended")
        for one in mounted:
            if controller in one.controllers and (path := paths.get(one.controllers)):
                return cls(controller, unified=False, levels=_levels(one, path, pod_uid))
        for one in mounted:
            if not one.controllers and (path := paths.get(frozenset())):
                levels = _levels(one, path, pod_uid)
                if controller in _text(f"{levels[0]}/cgroup.controllers").split():
                    return cls(controller, unified=True, levels=levels)
        raise Refused(
            "NoController", f"this node's kernel or its kubelet does not use the cgroup controller {controller}"
        )

    @classmethod
    def pressure_of(cls, process: Process, pod_uid: str, proc: str = "/proc") -> Group | None:
        """Where the kernel says how long processes waited (PSI): in version 2's hierarchy, on some nodes nowhere."""
        path = dict(_paths(_text(f"{process.folder}/cgroup"))).get(frozenset())
        mounted = hierarchies(_text(f"{proc}/1/mountinfo"), f"{proc}/1/root")
        where = next((one for one in mounted if not one.controllers), None)
        return cls("", unified=True, levels=_levels(where, path, pod_uid)) if where and path else None

    @property
    def words(self) -> str:
        return f"cgroup v{2 if self.unified else 1}"

    def join(self) -> None:
        """The calling process is in it from now on. Raises OSError."""
        with open(f"{self.levels[0]}/cgroup.procs", "w") as file:  # noqa: PTH123 - pathlib is not needed here
            file.write("0")

    def processors(self) -> float | None:
        """How many it may use at a time (controller cpu); None: as many as there are."""
        quotas = [self._quota(level) for level in self.levels]
        return min((quota for quota in quotas if quota is not None), default=None)

    def memory_limit(self) -> int | None:
        """Bytes; None: no limit."""
        return self._least("memory.max" if self.unified else "memory.limit_in_bytes")

    def memory_room(self) -> int | None:
        """Bytes that can still be had without anything of worth being given up; None: no limit.

        As the kubelet reckons it: file pages that were not used lately do not count (its workingSetBytes).
        """
        rooms = []
        for level in self.levels:
            limit = _number(f"{level}/{'memory.max' if self.unified else 'memory.limit_in_bytes'}")
            if limit is not None and limit < _NO_LIMIT:
                rooms.append(limit - self._memory_used(level))
        return min(rooms, default=None)

    def dies_as_one(self) -> bool:
        """Whether the kernel ends all processes of the container when it ends one for want of memory."""
        return _text(f"{self.levels[0]}/memory.oom.group").strip() == "1"

    def pids_limit(self) -> int | None:
        """None: no limit."""
        return self._least("pids.max")

    def pids_room(self) -> int | None:
        """How many more processes and threads there can be; None: no limit."""
        rooms = []
        for level in self.levels:
            if (limit := _number(f"{level}/pids.max")) is not None:
                rooms.append(max(0, limit - (_number(f"{level}/pids.current") or 0)))
        return min(rooms, default=None)

    def throttled(self) -> float:
        """Seconds so far in which it wanted a processor and its quota was used up."""
        name, unit = ("throttled_usec", 1e6) if self.unified else ("throttled_time", 1e9)
        return max(counter(f"{level}/cpu.stat", name) for level in self.levels) / unit

    def oom_kills(self) -> int:
        """Processes in it that the kernel has ended for want of memory so far."""
        file = "memory.events" if self.unified else "memory.oom_control"
        return counter(f"{self.levels[0]}/{file}", "oom_kill")

    def refused_forks(self) -> int:
        return max(counter(f"{level}/pids.events", "max") for level in self.levels)

    def waited(self, resource: str) -> float:
        """Seconds so far in which some process waited for "cpu" or "memory" (PSI); 0 where the kernel does not say."""
        for line in _text(f"{self.levels[0]}/{resource}.pressure").splitlines():
            if line.startswith("some "):
                return int(line.rpartition("total=")[2]) / 1e6
        return 0.0

    def _least(self, name: str) -> int | None:
        limits = [_number(f"{level}/{name}") for level in self.levels]
        return min((limit for limit in limits if limit is not None and limit < _NO_LIMIT), default=None)

    def _quota(self, level: str) -> float | None:
        if self.unified:
            quota, _, period = _text(f"{level}/cpu.max").partition(" ")
        else:
            quota, period = _text(f"{level}/cpu.cfs_quota_us"), _text(f"{level}/cpu.cfs_period_us")
        return int(quota) / int(period) if quota.strip().isdigit() and period.strip().isdigit() else None

    def _memory_used(self, level: str) -> int:
        used = _number(f"{level}/{'memory.current' if self.unified else 'memory.usage_in_bytes'}") or 0
        return used - counter(f"{level}/memory.stat", "inactive_file" if self.unified else "total_inactive_file")


def join(
    process: Process, pod_uid: str, controllers: Iterable[str], proc: str = "/proc", also: Iterable[str] = ()
) -> None:
    """The calling process is beside that one from now on, as far as these controllers go; in version 2 as to all.

    `also`: others, where the node has them. Raises Refused, OSError.
    """
    groups = {}
    for controller in controllers:
        group = Group.of(process, controller, pod_uid, proc)
        groups[group.levels[0]] = group
    for controller in also:
        with suppress(Refused):
            group = Group.of(process, controller, pod_uid, proc)
            groups[group.levels[0]] = group
    for group in groups.values():
        group.join()


def join_first(proc: str = "/proc") -> None:
    """The calling process is where the node's process 1 is, in all hierarchies: one of the host's. Raises OSError."""
    paths = dict(_paths(_text(f"{proc}/1/cgroup")))
    for one in hierarchies(_text(f"{proc}/1/mountinfo"), f"{proc}/1/root"):
        if (path := paths.get(one.controllers)) is not None:
            Group("", unified=not one.controllers, levels=(one.at(path),)).join()


def hierarchies(mountinfo: str, root: str) -> Iterator[Hierarchy]:
    """From the text of a /proc/PID/mountinfo (proc(5)); `root` leads to where its paths begin."""
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields, (kind, _, options, *_) = before.split(), [*after.split(), "", ""][:4]
        if kind == "cgroup2":
            yield Hierarchy(frozenset(), root + fields[4], fields[3])
        elif kind == "cgroup":
            named = frozenset(options.split(",")) - {"rw", "ro", "xattr", "clone_children", "noprefix"}
            yield Hierarchy(frozenset(each for each in named if "=" not in each) or named, root + fields[4], fields[3])


def counter(path: str, name: str) -> int:
    """One of a file of names and numbers; 0 where there is none."""
    for line in _text(path).splitlines():
        key, _, value = line.partition(" ")
        if key == name and value.strip().isdigit():
            return int(value)
    return 0


def _paths(cgroups: str) -> Iterator[tuple[frozenset[str], str]]:
    """Controllers to the path in their hierarchy, from the text of a /proc/PID/cgroup."""
    for line in cgroups.splitlines():
        _, controllers, path = line.split(":", 2)
        yield frozenset(controllers.split(",")) - {""}, path


def _levels(where: Hierarchy, path: str, pod_uid: str) -> tuple[str, ...]:
    """Its own folder, and those around it up to the pod's."""
    parts = path.strip("/").split("/")
    pods = next((n for n, part in enumerate(parts) if names_pod(part, pod_uid)), len(parts) - 1)
    return tuple(where.at("/" + "/".join(parts[: n + 1])) for n in range(len(parts) - 1, pods - 1, -1))


def _number(path: str) -> int | None:
    """None for "max", and where there is no such file."""
    text = _text(path).strip()
    return int(text) if text.isdigit() else None


def _text(path: str) -> str:
    """Empty where there is none, or not any more."""
    try:
        with open(path, errors="replace") as file:  # noqa: PTH123 - pathlib is not needed here
            return file.read()
    except OSError:  # ENOENT, ESRCH, ENODEV: all the ways of a file in /proc or in a cgroup that goes
        return ""
