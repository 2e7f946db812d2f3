"""A kubelet that stands still: stopped by SIGSTOP, and going on at the end by SIGCONT.

Nothing that takes the kubelet can end this, and it may last longer than any process of a pod: so before the kubelet is
stopped, a timer (drivers/host_timer.py) runs among the host's own processes. It lets the kubelet go on at the first of:
its deadline, this process's end, a SIGTERM.
"""

from __future__ import annotations

import math
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

from bounceback.drivers import HoldsNothing, KernelError, Refused, Site, TargetGone
from bounceback.drivers.processes import STOPPED, Process, born
from bounceback.types.instants import Instant
from bounceback.types.plan import Act, Order

NAME: Final = "kubelet"
TIMER: Final = "bounceback.drivers.host_timer"
HEAD_START: Final = 0.5
"""Seconds between the word that it is in force and the stop: the word goes by way of the kubelet."""
LATE: Final = 2.0
"""Seconds after the end of the order's time at which the timer on the host no longer waits for the agent."""
READY_SECONDS: Final = 15.0
END_SECONDS: Final = 2.0
_POD: Final = re.compile(r"[/-]pod[0-9a-f][0-9a-f_-]{31,35}(\.slice)?(/|$)", re.MULTILINE)
"""In a path of cgroups: a part that is a pod's, as both drivers write it; UIDs of static pods have no dashes."""


def apply(order: Order, site: Site) -> Standstill:
    """The timer runs, the kubelet does still. Raises Refused, KernelError."""
    kubelet = found(site.proc)
    if kubelet.stands():
        raise Refused("AlreadyStopped", f"{_words(kubelet)} is stopped already: nobody could tell it from ours later")
    now = Instant.now()
    seconds = min(order.duration + LATE, order.not_after - now.utc)
    return Standstill(kubelet, HostTimer(order, kubelet, now.nanos / 1e9 + seconds, site.proc))


def undo(order: Order, site: Site) -> None:
    """Raises PermissionError."""
    for each in kubelets(site.proc):
        each.send(signal.SIGCONT)  # whatever its state: one that the signal has just reached is on its way to stand


def left(order: Order, site: Site) -> list[str]:
    """A timer that has nothing to wait for takes its moment to end."""
    until = time.monotonic() + END_SECONDS
    while (timers := list(_timers(order, site.proc))) and time.monotonic() < until:
        time.sleep(0.05)
    stopped = [f"{_words(each)} is still stopped" for each in kubelets(site.proc) if each.stands()]
    return [*stopped, *(f"the timer on the host is still there (process {number})" for number in timers)]


class Standstill(HoldsNothing):
    """A kubelet that is to stand still, and does after the first turn but one."""

    def __init__(self, kubelet: Process, timer: HostTimer) -> None:
        self._kubelet = kubelet
        self._timer = timer
        self._wanted = True  # or its pattern has a pause
        self._begun = False
        self._since: float | None = None  # it is stopped since then, by the boot-time clock
        self._stands = False  # which was seen since
        self._milliseconds = 0.0  # before that
        self.detail: dict[str, str] = {"signal": "SIGSTOP", "process": _words(kubelet), "timer": str(timer.number)}

    @property
    def farewell(self) -> dict[str, Any]:  # type: ignore[override]
        seen = [f"{_words(self._kubelet)} stood still for {self._so_far() / 1000:.1f} s"]
        if not self._kubelet.alive():
            seen.append("it was ended by others meanwhile")
        return {"seen": seen}

    def turn(self) -> float | None:
        if not self._begun:
            self._begun = True
            return HEAD_START
        if self._wanted:
            self._stop()
        return math.inf

    def hits(self) -> int:
        """Milliseconds in which it stood still. Raises TargetGone where it has ended, KernelError where it goes on."""
        if not self._kubelet.alive():
            raise TargetGone(f"{_words(self._kubelet)} has ended")
        if self._since is not None:
            self._look()
        if self._timer.ended():
            raise KernelError("the timer on the host has ended")
        return int(self._so_far())

    def change(self, act: Act | None) -> None:
        self._wanted = act is not None
        if self._wanted and self._begun:
            self._stop()
        elif not self._wanted:
            self._go_on()

    def revert(self) -> None:
        """Raises PermissionError."""
        self._wanted = False
        self._go_on()
        if self._kubelet.stands():  # by whomever: nobody else is to know of it afterwards
            self._kubelet.send(signal.SIGCONT)
        self._timer.end()

    def _look(self) -> None:
        """Its time counts from when it stands, for which it needs a turn on a processor itself."""
        if self._kubelet.state() == STOPPED:
            self._stands = True
        elif self._stands:
            raise KernelError(f"somebody else has let {_words(self._kubelet)} go on")
        else:
            self._since = _now()

    def _stop(self) -> None:
        if self._since is not None:
            return
        if not self._kubelet.send(signal.SIGSTOP):
            raise TargetGone(f"{_words(self._kubelet)} has ended")
        self._since = _now()

    def _go_on(self) -> None:
        if self._since is None:
            return
        self._milliseconds = self._so_far()
        self._since, self._stands = None, False
        self._kubelet.send(signal.SIGCONT)

    def _so_far(self) -> float:
        return self._milliseconds + ((_now() - self._since) * 1000 if self._since is not None and self._stands else 0.0)


class HostTimer:
    """A process of the host's that lets the kubelet go on, whatever becomes of this one."""

    def __init__(self, order: Order, kubelet: Process, until: float, proc: str) -> None:
        """`until` is in seconds of the boot-time clock. Raises KernelError where it cannot do its work."""
        arguments = [order.injection, str(kubelet.number), str(kubelet.born), f"{until:.3f}", proc]
        self._process = subprocess.Popen(
            [sys.executable, "-m", TIMER, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # the agent's own would keep the runtime waiting for its log to end
            start_new_session=True,
        )
        word = self._word()
        if word != "ready":
            self.end()
            raise KernelError(f"the timer on the host could not be started: {word or 'it ended without a word'}")

    @property
    def number(self) -> int:
        return self._process.pid

    def ended(self) -> bool:
        return self._process.poll() is not None

    def end(self) -> None:
        """It hears that nobody needs it any more."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _word(self) -> str:
        assert self._process.stdout is not None
        out = self._process.stdout.fileno()
        if not select.select([out], [], [], READY_SECONDS)[0]:
            return f"it was not ready within {READY_SECONDS:.0f} s"
        return os.read(out, 4096).decode(errors="replace").strip()


def found(proc: str = "/proc") -> Process:
    """The node's kubelet. Refused: NoKubelet, where there is none that can be told from others."""
    there = list(kubelets(proc))
    if len(there) == 1:
        return there[0]
    numbers = ", ".join(str(each.number) for each in there)
    what = f"there are {len(there)} processes named {NAME} ({numbers})" if there else f"no process is named {NAME}"
    raise Refused(
        "NoKubelet",
        f"{what} among those that see the node as a whole: where it runs inside of another program (k3s, for example), "
        "or where no pod may see the node's processes, this cannot be carried out",
    )


def kubelets(proc: str = "/proc") -> Iterator[Process]:
    """Processes of that name in the PID namespace of the node's process 1, those of pods apart."""
    nodes = _namespace(proc, "1")
    for name in os.listdir(proc):  # noqa: PTH208 - pathlib is not needed here
        if not name.isdigit() or _text(f"{proc}/{name}/comm").strip() != NAME:
            continue
        stat = _text(f"{proc}/{name}/stat")
        if stat and _namespace(proc, name) == nodes and not _POD.search(_text(f"{proc}/{name}/cgroup")):
            yield Process(int(name), born(stat), "", NAME, proc)


def _timers(order: Order, proc: str) -> Iterator[int]:
    """Those of this order, by their command lines."""
    for name in os.listdir(proc):  # noqa: PTH208 - pathlib is not needed here
        if name.isdigit():
            words = _text(f"{proc}/{name}/cmdline").split("\0")
            if TIMER in words and order.injection in words:
                yield int(name)


def _namespace(proc: str, number: str) -> int:
    """0 where the process has ended. Raises PermissionError without SYS_PTRACE."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return os.stat(f"{proc}/{number}/ns/pid").st_ino  # noqa: PTH116 - pathlib is not needed here
    return 0


def _now() -> float:
    return Instant.now().nanos / 1e9


def _words(process: Process) -> str:
    return f"{process.name} (process {process.number})"


def _text(path: str) -> str:
    """Empty where the process has ended."""
    try:
        with open(path, errors="replace") as file:  # noqa: PTH123 - pathlib is not needed here
            return file.read()
    except (FileNotFoundError, ProcessLookupError):
        return ""
