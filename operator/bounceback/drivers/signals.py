"""Signals to a pod's processes: once, again and again, or to whoever takes the place of those that they ended."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

from bounceback.drivers import HoldsNothing, KernelError, Refused, Site
from bounceback.drivers.processes import Process, chosen, of_pod
from bounceback.types.choice import Chooser
from bounceback.types.plan import Act, Order
from bounceback.types.signals import Signal, ToProcesses

LOOK_SECONDS: Final = 0.5
"""Between two looks for those that took a place: one look reads all of /proc, which takes some milliseconds."""
LISTED: Final = 5
"""Of what is told in words, at most so many."""
_FORCED: Final = (signal.SIGKILL, signal.SIGSTOP)
"""Of signals from outside, those that process 1 of a PID namespace gets without a handler (pid_namespaces(7))."""


def apply(order: Order, site: Site) -> Sending:
    """The first round. Raises Refused where there is nobody to get it, KernelError."""
    assert isinstance(order.act, Signal)
    found = meant(order, site)
    sending = Sending(order, site, order.act)
    sending.round(found)
    return sending


def undo(order: Order, site: Site) -> None:
    """A signal cannot be taken back."""


def left(order: Order, site: Site) -> list[str]:
    """Nothing of a signal stays."""
    return []


def meant(order: Order, site: Site) -> list[Process]:
    """The processes that the order is about. Raises Refused where there is none, and none is waited for."""
    everybody = _of_pod(order, site)
    assert isinstance(order.act, ToProcesses)
    found = _among(everybody, order.act)
    if found or order.act.waits:
        return found
    names = Counter(f"{each.name} (container {each.container})" for each in everybody if each.container)
    there = ", ".join(sorted(names)[:10]) or "no process in any container"
    raise Refused("NoProcess", f"nothing in pod {order.pod_name} is {order.act.who}; it runs {there}")


def meant_now(order: Order, site: Site) -> list[Process]:
    """The same while it is in force: none is fine, for now."""
    assert isinstance(order.act, ToProcesses)
    return _among(_of_pod(order, site), order.act)


def key(process: Process) -> tuple[int, int]:
    """What tells it from all others of this boot."""
    return process.number, process.born


class Sending(HoldsNothing):
    """Signals that were sent, and more to come."""

    def __init__(self, order: Order, site: Site, act: Signal) -> None:
        self._order = order
        self._site = site
        self._act = act
        self._number = signal.Signals[f"SIG{act.signal}"]
        self._chooser = Chooser(act.choice, act.name)
        self._known: set[tuple[int, int]] = set()  # met before, hit or not
        self._sent: list[Process] = []
        self._deaf: list[Process] = []
        self._began = time.monotonic()
        self._times: Iterator[float] = act.again.times() if act.again else iter(())
        self._next = next(self._times, None)

    @property
    def detail(self) -> dict[str, str]:
        return {"signal": self._number.name, "processes": str(self._order.act.who)}  # type: ignore[union-attr]

    @property
    def farewell(self) -> dict[str, Any]:  # type: ignore[override]
        return {"seen": [*self._words(), self._ended()]}

    def hits(self) -> int:
        return len(self._sent)

    def turn(self) -> float | None:
        if self._act.again is None and not self._act.follow:
            return None
        if self._next is not None and time.monotonic() - self._began >= self._next:
            self.round(meant_now(self._order, self._site))
            self._skip()
        elif self._act.follow:
            self.round([each for each in meant_now(self._order, self._site) if key(each) not in self._known])
        soon = self._next - (time.monotonic() - self._began) if self._next is not None else LOOK_SECONDS
        return max(0.0, min(soon, LOOK_SECONDS) if self._act.follow else soon)

    def change(self, act: Act | None) -> None:
        raise KernelError("a signal has no pattern")

    def revert(self) -> None:
        """What was sent was sent."""

    def round(self, processes: list[Process]) -> None:
        """One signal to each of them that the dice choose. Raises PermissionError."""
        for process in processes:
            self._known.add(key(process))
            if not self._chooser.next():
                continue
            deaf = is_deaf(process, self._number)
            process.is_first  # noqa: B018 - remembered: nobody can ask once it has ended
            if process.send(self._number):
                (self._deaf if deaf else self._sent).append(process)

    def _skip(self) -> None:
        """On to the next time that is not over yet: what was slept through is not made up for."""
        elapsed = time.monotonic() - self._began
        while self._next is not None and self._next <= elapsed:
            self._next = next(self._times, None)

    def _words(self) -> Iterator[str]:
        name = self._number.name
        for process, count in _grouped(self._sent).most_common(LISTED):
            yield f"{count} {name} to {process}"
        for process, count in _grouped(self._deaf).most_common(LISTED):
            yield f"{count} {name} to {process} did nothing: it has no handler for it, or ignores it"

    def _ended(self) -> str:
        hit = {key(each): each for each in self._sent}
        return f"{sum(not each.alive() for each in hit.values())} of {len(hit)} processes have ended"


def is_deaf(process: Process, number: signal.Signals) -> bool:
    """Whether the kernel drops that signal for it: ignored, or for process 1 of a container without a handler."""
    if number in _FORCED:
        return False
    bit = 1 << (number - 1)
    masks = process.masks()
    return bool(masks.get("SigIgn", 0) & bit) or (process.is_first and not masks.get("SigCgt", 0) & bit)


def _of_pod(order: Order, site: Site) -> list[Process]:
    try:
        return of_pod(order.pod_uid, site.proc)
    except PermissionError as error:
        raise Refused("NotPermitted", f"may not look at processes ({error}); that takes SYS_PTRACE") from error


def _among(everybody: list[Process], act: ToProcesses) -> list[Process]:
    found = chosen(everybody, act.who)
    if not (isinstance(act, Signal) and act.firsts):
        return found
    firsts: dict[str, Process] = {}
    for each in everybody:  # the oldest first: nothing in a container is older than what it began with
        firsts.setdefault(each.container, each)
    return [each for each in found if each in firsts.values()]


def _grouped(processes: list[Process]) -> Counter[str]:
    return Counter(
        f"{each.name} in container {each.container}" + (", process 1" if each.is_first else "") for each in processes
    )
