"""A pod's processes, told apart: by container, by name, by the port on which they listen.

Which container a process is in follows from its mounts: the kubelet mounts a file of pods/UID/containers/NAME/ in each
(terminationMessagePath, kubelet's makeMounts), so that no container runtime needs to be asked and a container that was
started again is known by its name.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from bounceback.drivers.targets import folders, read, started
from bounceback.types.inside import OURS, Who

STOPPED: Final = "T"
"""The state of a process that is stopped by a signal (proc(5))."""
_STOPS: Final = 1 << (signal.SIGSTOP - 1)
_LISTENING: Final = "0A"  # TCP_LISTEN in /proc/PID/net/tcp (proc(5))
_NOWHERE: Final = 0
_OF_RUNTIME: Final = "runc:["
"""Begins the name of a process that is about to become one of the container's: until then it is the runtime's."""


@dataclass(frozen=True)
class Process:
    """One that was there when it was looked at. `born` tells it from a later one with its number."""

    number: int  # in the PID namespace of `proc`
    born: int  # clock ticks since boot
    container: str  # "" for the pod's sandbox
    name: str
    proc: str = "/proc"

    @property
    def folder(self) -> str:
        return f"{self.proc}/{self.number}"

    @property
    def is_first(self) -> bool:
        """It is process 1 of its PID namespace: with it the container ends, unless the pod's processes share one."""
        return self.inner_number == 1

    @cached_property
    def inner_number(self) -> int:
        """In its own PID namespace (NSpid, proc(5)); 0 where it has ended."""
        for line in _text(f"{self.folder}/status").splitlines():
            if line.startswith("NSpid:"):
                return int(line.split()[-1])
        return 0

    def alive(self) -> bool:
        """The same process is still there, and no zombie."""
        return self.state() not in ("", "Z", "X")

    def state(self) -> str:
        """Its letter in proc(5): T where it is stopped by a signal; "" where it has ended."""
        stat = _text(f"{self.folder}/stat")
        return stat.rpartition(")")[2].split()[0] if stat and born(stat) == self.born else ""

    def stands(self) -> bool:
        """It is stopped, or will be: who waits in the kernel uninterruptibly (state D) hears of SIGSTOP later."""
        return self.state() == STOPPED or bool(self.masks().get("ShdPnd", 0) & _STOPS)

    def masks(self) -> dict[str, int]:
        """Its sets of signals, as bits: ShdPnd, SigBlk, SigIgn, SigCgt (proc(5)); empty where it has ended."""
        lines = (line.split(":", 1) for line in _text(f"{self.folder}/status").splitlines())
        return {name: int(bits, 16) for name, bits in lines if name in ("ShdPnd", "SigBlk", "SigIgn", "SigCgt")}

    def open(self) -> int | None:
        """A pidfd (pidfd_open(2)) that is certain to be of this very process; None: it has ended."""
        try:
            descriptor = os.pidfd_open(self.number)
        except ProcessLookupError:
            return None
        if self.alive():
            return descriptor
        os.close(descriptor)
        return None

    def send(self, number: int) -> bool:
        """A signal; False where it has ended. Raises PermissionError. `proc` must be this process's own /proc."""
        if (descriptor := self.open()) is None:
            return False
        try:
            signal.pidfd_send_signal(descriptor, number)
        except ProcessLookupError:
            return False
        finally:
            os.close(descriptor)
        return True


def of_pod(pod_uid: str, proc: str = "/proc") -> list[Process]:
    """All of them, the sandbox's included, the oldest first. Raises PermissionError without SYS_PTRACE."""
    found = []
    for folder in folders(proc, pod_uid):
        try:
            stat = read(folder, "stat")
            mounts, name = read(folder, "mountinfo", whole=True), read(folder, "comm").strip()
            if stat and (age := started(folder)) is not None:
                found.append(Process(int(stat.split(" ", 1)[0]), age, container_in(mounts, pod_uid), name, proc))
        finally:
            os.close(folder)
    return found


def chosen(processes: Iterable[Process], who: Who) -> list[Process]:
    """Those that are meant; the sandbox never is, nor the runtime where it starts something there."""
    return [each for each in processes if _fits(each, who)]


def container_in(mounts: str, pod_uid: str) -> str:
    """The container's name from the text of a /proc/PID/mountinfo.

    "" for the sandbox, and for a process of ours that is in the pod's cgroups: its mounts are those of another pod.
    """
    mounted = re.compile(rf"/{pod_uid}/containers/([^/ ]+)/[^/ ]+ ")
    for line in mounts.splitlines():
        if found := mounted.search(line):
            return found[1]
    return ""


def listens(process: Process, port: int) -> bool:
    """Whether it holds a TCP socket that listens on that port."""
    return _holds(process, set(_sockets(process, port)))


def is_connected(process: Process, port: int, to_port: int) -> bool:
    """Whether it holds the TCP socket that is connected from that port of its own to that one."""
    return _holds(process, set(_sockets(process, port, to_port)))


def _holds(process: Process, wanted: set[str]) -> bool:
    if not wanted:
        return False
    with suppress(FileNotFoundError, ProcessLookupError):
        for name in os.listdir(f"{process.folder}/fd"):  # noqa: PTH208 - pathlib is not needed here
            with suppress(FileNotFoundError, ProcessLookupError):
                if os.readlink(f"{process.folder}/fd/{name}") in wanted:  # noqa: PTH115 - see above
                    return True
    return False


def born(stat: str) -> int:
    """From the text of a /proc/PID/stat: field 22, in clock ticks since boot."""
    return int(stat.rpartition(")")[2].split()[19])


def _sockets(process: Process, port: int, to_port: int = _NOWHERE) -> Iterator[str]:
    """What /proc/PID/fd shows of its network's sockets on that port: those connected to the other one, or listening."""
    for family in ("tcp", "tcp6"):
        for line in _text(f"{process.folder}/net/{family}").splitlines()[1:]:
            words = line.split()
            own, other = (int(end.rpartition(":")[2], 16) for end in words[1:3])
            if (own, other) == (port, to_port) and (to_port or words[3] == _LISTENING):
                yield f"socket:[{words[9]}]"


def _fits(process: Process, who: Who) -> bool:
    if process.name.startswith(_OF_RUNTIME):
        return False
    if not process.container or (OURS.fullmatch(process.container) and who.container != process.container):
        return False
    if who.container and process.container != who.container:
        return False
    if who.process and process.name != who.process:
        return False
    return not who.port or listens(process, who.port)


def _text(path: str) -> str:
    """Empty where the process has ended."""
    try:
        with open(path, errors="replace") as file:  # noqa: PTH123 - pathlib is not needed here
            return file.read()
    except (FileNotFoundError, ProcessLookupError):
        return ""
