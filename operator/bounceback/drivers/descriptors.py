"""Fewer open files for processes that run: a lower soft limit (RLIMIT_NOFILE, prlimit(2)), and the one that was.

Who may change another process's limits has SYS_RESOURCE or its very user and group; the second is done by a child that
becomes them, so that no NodePod needs the right to raise limits. A limit stays when its setter ends: the guard puts it
back, and what a lowered process has started meanwhile, and what has it from there, gets the former limit too. The hard
limit is not touched, so a process may raise the soft one by itself; then nothing is put back.
"""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Final

from bounceback.drivers import HoldsNothing, KernelError, Refused, Site
from bounceback.drivers.forked import Child, Parent
from bounceback.drivers.processes import Process, chosen, of_pod
from bounceback.drivers.refusals import Counted
from bounceback.types.plan import Act, Order
from bounceback.types.scarce import Descriptors

SET_SECONDS: Final = 5.0
LOOK_SECONDS: Final = 0.25  # where nobody counts for us: more of them than that the neighbours notice
_NAME: Final = "Max open files"


@dataclass(frozen=True, slots=True)
class Former:
    """What a process may have had before it was lowered, and to what."""

    number: int
    born: int
    container: str
    soft: int
    hard: int
    lowered: int

    def is_of(self, process: Process) -> bool:
        return (self.number, self.born) == (process.number, process.born)


def apply(order: Order, site: Site) -> Lowered:
    act = order.act
    assert isinstance(act, Descriptors)
    processes = chosen(of_pod(order.pod_uid, site.proc), act.who)
    if not processes:
        raise Refused("NoProcess", f"the pod has no running process with {act.who}")
    formers = [former for process in processes if (former := _planned(process, act))]
    if not any(former.lowered < former.soft for former in formers):
        limits = sorted({former.soft for former in formers})
        raise Refused("NothingToLower", f"no process may have more open files as it is (limit {limits[:5]})")
    return Lowered(order, site, processes, formers)


def undo(order: Order, site: Site) -> None:
    """By what the agent wrote down before it lowered anything."""
    _put_back(order, site, _formers(site))


def left(order: Order, site: Site) -> list[str]:
    """Without the agent's notes: processes with just that limit, below one that they could have."""
    assert isinstance(order.act, Descriptors)
    processes = of_pod(order.pod_uid, site.proc)
    if formers := _formers(site):
        return [_words(process) for process, _ in _lowered(processes, formers)]
    limit = order.act.limit
    found = []
    for process in chosen(processes, order.act.who):
        limits = _limits(process)
        if limits is not None and limit is not None and limits[0] == limit < limits[1]:
            found.append(_words(process))
    return found


class Lowered(HoldsNothing):
    """Limits that are lower; see `drivers.InForce`."""

    def __init__(self, order: Order, site: Site, processes: list[Process], formers: list[Former]) -> None:
        assert isinstance(order.act, Descriptors)
        self._order, self._site, self._processes = order, site, processes
        self._formers: list[Former] = []  # all that were ever written down, those of the last change at the end
        self._counted: Counted | None = None
        self._looks = 0
        try:
            self._counted = Counted(processes, errno.EMFILE, site.proc)
        except OSError:  # the kernel does not count for us: we look
            self.first_look_seconds = LOOK_SECONDS
        try:
            self._lower(formers)
        except (KernelError, OSError):
            with suppress(KernelError, OSError):
                self.revert()
            raise
        limits = sorted({former.lowered for former in formers})
        self.detail = {
            "with": f"a limit of {', '.join(map(str, limits[:5]))} open files",
            "processes": str(len(formers)),
            "counted": "by the kernel" if self._counted else "by looks",
        }

    def hits(self) -> int:
        """Calls that were refused, where the kernel counts them; else the looks at which a process had none left."""
        if self._counted is not None:
            return self._counted.total()
        current = {(former.number, former.born): former.lowered for former in self._formers}
        for process in self._processes:
            limit = current.get((process.number, process.born))
            if limit is not None and process.alive() and _taken(_open(process), 0) >= limit:
                self._looks += 1
        return self._looks

    def change(self, act: Act | None) -> None:
        """Of the processes that it began with."""
        assert act is None or isinstance(act, Descriptors)
        if act is None:
            _put_back(self._order, self._site, self._formers)
            return
        first = {(former.number, former.born): former for former in reversed(self._formers)}
        again = []
        for process in self._processes:
            before = first.get((process.number, process.born))
            planned = _planned(process, act)
            if before is not None and planned is not None:
                lowered = min(planned.lowered, before.soft)
                again.append(Former(**{**asdict(before), "lowered": lowered}))
        self._lower(again)

    def revert(self) -> None:
        if self._counted is not None:
            with suppress(OSError):
                self._looks = self._counted.total()
            self._counted.close()
            self._counted = None
        words = f"{len(self._processes)} processes were without a descriptor {self._looks} times"
        self.farewell = {"seen": [words]}
        _put_back(self._order, self._site, self._formers)

    def _lower(self, formers: list[Former]) -> None:
        self._formers += formers
        self._site.notes.write(formers=[asdict(former) for former in self._formers])
        for process in self._processes:
            for former in formers:
                if former.is_of(process):
                    _set(process, former.lowered, former.hard)


def _planned(process: Process, act: Descriptors) -> Former | None:
    """None: it has ended."""
    limits = _limits(process)
    if limits is None:
        return None
    limit = act.limit
    if limit is None:
        assert act.leave is not None
        limit = _taken(_open(process), act.leave)
    return Former(process.number, process.born, process.container, *limits, min(limit, limits[0]))


def _taken(numbers: Iterable[int], leave: int) -> int:
    """The limit with which just `leave` more can be had: it is the numbers that it bounds, not how many there are."""
    taken = set(numbers)
    limit = 0
    while limit in taken or leave:
        leave -= limit not in taken
        limit += 1
    return limit


def _put_back(order: Order, site: Site, formers: list[Former]) -> None:
    """Raises KernelError where one cannot be put back."""
    trouble = []
    for process, former in _lowered(of_pod(order.pod_uid, site.proc), formers):
        try:
            _set(process, former.soft, former.hard)
        except (KernelError, Refused) as error:
            trouble.append(str(error))
    if trouble:
        raise KernelError("; ".join(trouble[:3]))


def _lowered(processes: Iterable[Process], formers: list[Former]) -> Iterable[tuple[Process, Former]]:
    """Those that still have a limit of ours, themselves or from who started them."""
    for process in processes:
        limits = _limits(process)
        if limits is None:
            continue
        ours = [f for f in formers if limits[1] == f.hard and limits[0] == f.lowered < f.soft]
        own = [f for f in ours if f.is_of(process)]
        inherited = [f for f in ours if f.container == process.container and f.born <= process.born]
        known = any(f.is_of(process) for f in formers)
        if found := own or ([] if known else inherited):
            yield process, found[0]


def _set(process: Process, soft: int, hard: int) -> None:
    """Raises Refused where it may not, KernelError otherwise; nothing where the process has ended."""
    ids = _ids(process)
    if ids is None:
        return
    user, group = ids

    def work(parent: Parent) -> None:
        os.setgroups([])
        os.setresgid(group, group, group)
        os.setresuid(user, user, user)
        if process.alive():
            with suppress(ProcessLookupError):
                resource.prlimit(process.number, resource.RLIMIT_NOFILE, (soft, hard))
        parent.tell(done=True)

    child = Child(work, "bb-limit")
    try:
        child.until("done", SET_SECONDS)
    except KernelError as error:
        raise KernelError(f"the limit of {process.name} ({process.number}) cannot be set: {error}") from error
    finally:
        child.end()


def _ids(process: Process) -> tuple[int, int] | None:
    """Its real user and group; None: it has ended."""
    found = {}
    for line in _lines(process, "status"):
        key, _, value = line.partition(":")
        if key in ("Uid", "Gid"):
            found[key] = int(value.split()[0])
    return (found["Uid"], found["Gid"]) if len(found) == 2 else None


def _limits(process: Process) -> tuple[int, int] | None:
    """Soft and hard, from /proc/PID/limits (proc(5)); None: it has ended."""
    for line in _lines(process, "limits"):
        if line.startswith(_NAME):
            soft, hard = line.removeprefix(_NAME).split()[:2]
            return _count(soft), _count(hard)
    return None


def _count(word: str) -> int:
    return resource.RLIM_INFINITY if word == "unlimited" else int(word)


def _lines(process: Process, name: str) -> list[str]:
    try:
        with open(f"{process.folder}/{name}", errors="replace") as file:  # noqa: PTH123 - pathlib is not needed here
            return file.readlines()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _open(process: Process) -> list[int]:
    try:
        return [int(name) for name in os.listdir(f"{process.folder}/fd")]  # noqa: PTH208 - see above
    except (FileNotFoundError, ProcessLookupError):
        return []


def _formers(site: Site) -> list[Former]:
    return [Former(**each) for each in site.notes.kept.get("formers", [])]


def _words(process: Process) -> str:
    return f"limit of open files of {process.name} ({process.number}) in container {process.container}"
