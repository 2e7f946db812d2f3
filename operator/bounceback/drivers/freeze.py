"""Processes of a pod that stand still: stopped by SIGSTOP, and going on at the end by SIGCONT.

A process that is stopped outlives whoever stopped it. So an order is refused where one of those that it is about is
stopped already: whichever of them is stopped afterwards is by us, and any other process can tell and let it go on.
"""

from __future__ import annotations

import math
import signal
from collections.abc import Iterable
from typing import Any, Final

from bounceback.drivers import HoldsNothing, Refused, Site
from bounceback.drivers.processes import STOPPED, Process
from bounceback.drivers.signals import LOOK_SECONDS, key, meant, meant_now
from bounceback.types.choice import Chooser
from bounceback.types.plan import Act, Order
from bounceback.types.signals import Freeze

ROUNDS: Final = 5
"""Looks for children that were made while their parents were being stopped; a stopped process makes none."""


def apply(order: Order, site: Site) -> Frozen:
    """Raises Refused where there is nobody to stop, or somebody is stopped already; OSError."""
    assert isinstance(order.act, Freeze)
    found = meant(order, site)
    if still := [each for each in found if each.stands()]:
        raise Refused("AlreadyStopped", f"{_words(still[0])} is stopped already: nobody could tell it from ours later")
    frozen = Frozen(order, site, order.act)
    try:
        frozen.hold(found)
    except BaseException:
        frozen.revert()
        raise
    return frozen


def undo(order: Order, site: Site) -> None:
    """Raises PermissionError."""
    _go_on(meant_now(order, site))  # nobody knows whom the agent had come to


def left(order: Order, site: Site) -> list[str]:
    return [f"{_words(each)} is still stopped" for each in meant_now(order, site) if each.stands()]


class Frozen(HoldsNothing):
    """Processes that are stopped, and kept so."""

    def __init__(self, order: Order, site: Site, act: Freeze) -> None:
        self._order = order
        self._site = site
        self._act: Freeze | None = act
        self._follow = act.follow
        self._chooser = Chooser(act.choice, act.name)
        self._held: dict[tuple[int, int], Process] = {}
        self._passed: set[tuple[int, int]] = set()  # those that the dice have spared
        self._seen: set[tuple[int, int]] = set()  # found stopped, which is the proof
        self._down: set[tuple[int, int]] = set()  # of these, since we stopped them last
        self._again = 0  # how often somebody else had let one go on
        self.detail: dict[str, str] = {"signal": "SIGSTOP", "processes": str(act.who)}

    @property
    def farewell(self) -> dict[str, Any]:  # type: ignore[override]
        held = list(self._held.values())
        seen = [f"stopped {', '.join(_words(each) for each in held[:5])}" + (" and more" if len(held) > 5 else "")]
        if ended := sum(not each.alive() for each in held):
            seen.append(f"{ended} of {len(held)} ended while they were stopped")
        if self._again:
            seen.append(f"{self._again} times somebody else had let one go on")
        return {"seen": seen}

    def hits(self) -> int:
        """Processes that were found stopped. Those that somebody else let go on are stopped again."""
        for each in self._held.values() if self._act is not None else ():
            state = each.state()
            if state == STOPPED:
                self._seen.add(key(each))
                self._down.add(key(each))
            elif each.alive():  # somebody let it go on, or it is not there yet: once more does no harm
                self._again += key(each) in self._down
                each.send(signal.SIGSTOP)
        return len(self._seen)

    def turn(self) -> float:
        if not self._follow:
            return math.inf
        if self._act is not None:
            self.hold(meant_now(self._order, self._site))
        return LOOK_SECONDS

    def change(self, act: Act | None) -> None:
        """Those that another act spares go on."""
        self.hits()
        _go_on(self._held.values())
        assert act is None or isinstance(act, Freeze)
        self._act = act
        self._held.clear()
        self._down.clear()
        self._passed.clear()
        if act is not None:
            self._chooser = Chooser(act.choice, act.name)
            self.hold(meant_now(self._order, self._site))

    def revert(self) -> None:
        """Raises PermissionError."""
        self._act = None  # from here on what goes on is not stopped again
        _go_on([*self._held.values(), *(each for each in meant_now(self._order, self._site) if each.stands())])

    def hold(self, processes: list[Process]) -> None:
        """Until no more come: a process may have made children before it stood still. Raises PermissionError."""
        for _ in range(ROUNDS):
            fresh = [each for each in processes if key(each) not in self._held and key(each) not in self._passed]
            if not fresh:
                break
            for each in fresh:
                if self._chooser.next():
                    self._held[key(each)] = each  # first: whatever comes next, it goes on in the end
                    each.send(signal.SIGSTOP)
                else:
                    self._passed.add(key(each))
            processes = meant_now(self._order, self._site)
        self.hits()


def _go_on(processes: Iterable[Process]) -> None:
    """Whatever state they are in: one that the signal has just reached is on its way to stand."""
    for each in processes:
        each.send(signal.SIGCONT)


def _words(process: Process) -> str:
    return f"{process.name} (process {process.number}, container {process.container})"
