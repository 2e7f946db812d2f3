"""A container's wall clock that is wrong: its programs are told so by the page that they share (clock_page).

What holds is in the page, and with it until when. So it is over on time whoever has died: the agent takes it back, a
guard does where the agent cannot, and where both are gone the programs themselves take no notice of it any longer.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any, Final

from bounceback.drivers import HoldsNothing, Refused, Site, TargetGone, programs, rooted
from bounceback.drivers.clock_page import SLOTS, TRUE, Page, Setting, boottime
from bounceback.drivers.processes import Process, chosen, of_pod
from bounceback.types.clock import PAGE, Skew
from bounceback.types.inside import Who
from bounceback.types.plan import Act, Order

GRACE: Final = 1_000_000_000
"""Nanoseconds for the agent to take it back by itself, before the page says that it is over."""
LOADING_SECONDS: Final = 2.0
"""A program that has just been started has not loaded its libraries yet."""
LOOK_SECONDS: Final = 0.1
LISTED: Final = 5


def apply(order: Order, site: Site) -> Skewed:
    """Raises Refused where one that is meant cannot be told a wrong time; OSError."""
    processes = _meant(order, site)
    pages, without = _pages(order, site)
    try:
        if without:
            raise Refused("NotArmed", f"{without[0]}: no clock that can be changed is in that container")
        for process in processes:
            _check(process, pages)
        if skewed := [page.container for page in pages if page.setting().holds(boottime())]:
            raise Refused("AlreadySkewed", f"the clock of container {skewed[0]} is wrong already")
        made = Skewed(order, site, pages, processes)
        made.change(order.act)
    except BaseException:
        _close(pages)
        raise
    return made


def undo(order: Order, site: Site) -> None:
    """Where it is this order's, by its notes. Raises OSError."""
    pages = _still_there(order, site)
    try:
        for page in pages:
            if page.setting().until == site.notes.kept.get("until"):
                page.write(TRUE)
    finally:
        _close(pages)


def left(order: Order, site: Site) -> list[str]:
    pages = _still_there(order, site)
    try:
        wrong = [page.container for page in pages if page.setting().holds(boottime())]
    finally:
        _close(pages)
    return [f"the clock of container {name} is still wrong" for name in wrong]


class Skewed(HoldsNothing):
    """Clocks that are wrong; see `drivers.InForce`."""

    def __init__(self, order: Order, site: Site, pages: list[Page], processes: list[Process]) -> None:
        self._order, self._site, self._pages = order, site, pages
        self._before = {page.container: page.answers() for page in pages}
        self._names: dict[str, dict[int, str]] = {page.container: {} for page in pages}
        """Of each container the processes that may have asked, by their numbers in their own PID namespace."""
        self._setting = TRUE
        self._drifted = 0
        seconds = min(order.duration, order.not_after - time.time())
        self._until = boottime() + max(0, int(seconds * 1e9)) + GRACE
        self._see(processes)
        self.detail = {"with": str(_act(order)), "containers": ", ".join(page.container for page in pages)}
        self.farewell: dict[str, Any] = {}

    def hits(self) -> int:
        """Times that a process which is meant was told a wrong time."""
        if any(page.gone for page in self._pages):
            raise TargetGone("the pod was set up anew, and its clocks are right")
        self._see(chosen(of_pod(self._order.pod_uid, self._site.proc), _act(self._order).who))
        return sum(times for page in self._pages for times in self._told(page).values())

    def change(self, act: Act | None) -> None:
        """By how much it has drifted away so far stays, until it is right for a while."""
        assert act is None or isinstance(act, Skew)
        now = boottime()
        self._drifted = 0 if act is None else self._drifted + self._setting.gained(now)
        self._setting = TRUE
        if act is not None:
            offset = act.offset_milliseconds * 1_000_000 + self._drifted
            self._setting = Setting(offset, act.drift_ppm, now, self._until)
        self._site.notes.write(until=self._until)
        for page in self._pages:
            page.write(self._setting)

    def revert(self) -> None:
        for page in self._pages:
            page.write(TRUE)
        self.farewell = {"seen": list(self._words())[:LISTED]}
        _close(self._pages)
        self._pages = []

    def _see(self, processes: Iterable[Process]) -> None:
        for each in processes:
            if each.container in self._names and (number := each.inner_number):
                self._names[each.container].setdefault(number, each.name)

    def _told(self, page: Page) -> dict[int, int]:
        """How often each process was told a wrong time."""
        now, before = page.answers(), self._before[page.container]
        return {number: now[number % SLOTS] - before[number % SLOTS] for number in self._names[page.container]}

    def _words(self) -> Iterator[str]:
        for page in self._pages:
            for number, times in self._told(page).items():
                name = self._names[page.container][number]
                words = f"was told a wrong time {times} times" if times else "never asked"
                yield f"{name} (process {number} of container {page.container}) {words}"


def _act(order: Order) -> Skew:
    assert isinstance(order.act, Skew)
    return order.act


def _meant(order: Order, site: Site) -> list[Process]:
    """Raises Refused where there is none."""
    try:
        found = chosen(of_pod(order.pod_uid, site.proc), _act(order).who)
    except PermissionError as error:
        raise Refused("NotPermitted", f"may not look at processes ({error}); that takes SYS_PTRACE") from error
    if not found:
        raise Refused("NoProcess", f"nothing in pod {order.pod_name} is {_act(order).who}")
    return found


def _check(process: Process, pages: Iterable[Page]) -> None:
    """Raises Refused where it cannot be told a wrong time."""
    against = programs.unsupported(process)
    identities = [page.identity for page in pages]
    ends = time.monotonic() + LOADING_SECONDS
    while not against and process.alive() and not any(programs.maps(process, each) for each in identities):
        if time.monotonic() >= ends:
            against = programs.not_loaded(process)
        time.sleep(LOOK_SECONDS)
    if against:
        who = f"{process.name} (process {process.number}) in container {process.container}"
        raise Refused(
            "TargetUnsupported",
            f"{who} cannot be told a wrong time: {against}; name another container, or by process or port who can",
        )


def _pages(order: Order, site: Site) -> tuple[list[Page], list[str]]:
    """Of the containers that are meant: the caller's to close; and why others have none. Raises Refused without any."""
    pages, without = [], []
    for place in rooted.containers(order.pod_uid, Who(_act(order).who.container), site.proc):
        name = place.process.container
        try:
            pages.append(Page.opened(place.open(PAGE, os.O_RDWR | os.O_NOFOLLOW), name))
        except OSError as error:
            without.append(f"{PAGE} in container {name}: {error.strerror}")
        except Refused as refusal:
            without.append(str(refusal))
        finally:
            place.close()
    return pages, without


def _still_there(order: Order, site: Site) -> list[Page]:
    try:
        return _pages(order, site)[0]
    except Refused:  # no container any more
        return []


def _close(pages: Iterable[Page]) -> None:
    for page in pages:
        with suppress(OSError):
            page.close()
