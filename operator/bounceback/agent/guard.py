"""`agent guard`: undoes what an agent leaves when it dies, or when it does not keep its time.

It runs in a container of its own, so that what kills the agent does not kill it, and holds what it needs from the
start: descriptors of the targets' network namespaces, and the drivers of its orders, which are most of the work of an
undo: on a node that has no processor to spare they would take longer than is promised. It touches nothing while the
agent does its work.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from dataclasses import replace
from typing import Final

from bounceback.agent import places
from bounceback.agent.evidence import boottime, tell
from bounceback.agent.link import Lines, address, other_side, ready, trusted
from bounceback.agent.schedule import Times
from bounceback.agent.wake import LONGEST, Wake
from bounceback.drivers import KernelError, Notes, driver
from bounceback.drivers.targets import Target
from bounceback.types.instants import Instant
from bounceback.types.plan import Order, Plan
from bounceback.types.told import Told

GRACE_SECONDS: Final = 0.5  # for an agent that reverts at `not_after` by itself
COMING_SECONDS: Final = 1.0  # for an agent that connects at the last moment
TRIES: Final = 5  # the kernel takes a dead process's sockets away one after the other
TRY_SECONDS: Final = 0.1


def guard(plan: Plan) -> int:
    """Always 0: what went wrong is in the evidence."""
    Guard(plan, Wake()).work()
    return 0


class Guard:
    def __init__(self, plan: Plan, wake: Wake) -> None:
        self._plan = plan
        self._wake = wake
        now = Instant.now()
        self._orders = {order.injection: order for order in plan.orders}
        self._times = {order.injection: Times.of(order, now) for order in plan.orders}
        self._targets = {uid: each for uid, each in places.find(plan).items() if isinstance(each, Target)}
        self._begun: dict[str, Order] = {}  # begun by the agent, and not seen to the end
        self._notes: dict[str, Notes] = {}
        for order in plan.orders:
            driver(order.act)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(address(plan.agent))
        self._listener.listen(4)
        self._agent: Lines | None = None
        self._alive: int | None = None  # a pidfd, until the agent is dead
        self._done = False
        tell(Told.STARTED, detail={"pid": os.getpid(), "mode": "guard"})

    def work(self) -> None:
        finished = False
        while not finished:
            ready = self._wake.wait(self._fds(), self._patience())
            finished = self._turn(died=self._alive in ready)
        self._listener.close()
        if self._agent is not None:
            self._agent.close()
        self._forget()
        tell(Told.FINISHED)

    def _turn(self, *, died: bool) -> bool:
        """True when there is nothing to guard any more."""
        terminated = self._wake.terminated
        self._hear()
        lost = self._agent is not None and self._agent.ended and not self._done
        if terminated or lost:
            self._undo(list(self._begun.values()), "Terminated" if terminated else "AgentLost")
            return True
        if died:
            self._forget()
            self._hurry()
        now = boottime()
        self._undo([each for each in self._begun.values() if now >= self._deadline(each)], "NotAfter")
        if self._agent is None:
            return now > max((each.start_before for each in self._times.values()), default=0) + COMING_SECONDS
        return self._done and not self._begun

    def _fds(self) -> list[int]:
        if self._agent is None:
            return [self._listener.fileno()]
        alive = [] if self._alive is None else [self._alive]
        return alive if self._agent.ended else [self._agent.socket.fileno(), *alive]

    def _patience(self) -> float:
        now = boottime()
        return min((self._deadline(each) - now for each in self._begun.values()), default=LONGEST)

    def _deadline(self, order: Order) -> float:
        return self._times[order.injection].not_after + GRACE_SECONDS

    def _hear(self) -> None:
        if self._agent is None:
            self._agent = self._accepted()
        if self._agent is None:
            return
        for message in self._agent.read():
            if "begin" in message:
                self._begin(message["begin"], message.get("notAfter"))
            elif "note" in message:
                self._notes[message["note"]] = Notes(message["kept"])
            elif "ended" in message:
                self._begun.pop(message["ended"], None)
            else:
                self._done = True

    def _begin(self, injection: str, not_after: float | None) -> None:
        """An order that waited has a time of its own, which is not later than that of its plan."""
        self._begun[injection] = self._orders[injection]
        if not_after is not None:
            times = self._times[injection]
            self._times[injection] = replace(times, not_after=min(times.not_after, not_after))

    def _accepted(self) -> Lines | None:
        self._listener.setblocking(False)
        try:
            connection, _ = self._listener.accept()
        except BlockingIOError:
            return None
        if not trusted(connection):
            connection.close()
            return None
        self._alive = other_side(connection)
        lines = Lines(connection)
        lines.send(ready(self._targets))
        return lines

    def _forget(self) -> None:
        if self._alive is not None:
            os.close(self._alive)
            self._alive = None

    def _hurry(self) -> None:
        """What a dead agent left, at once: what it started may take its time to end, and all is undone again then."""
        for order in self._begun.values():
            with suppress(KernelError, OSError):
                places.undo(self._plan, order, self._targets[order.pod_uid], self._noted(order))

    def _undo(self, orders: list[Order], why: str) -> None:
        """All of them first, so that none waits for another's inspection."""
        failures = {order.injection: self._take_away(order) for order in orders}
        for order in orders:
            del self._begun[order.injection]
        for order in orders:
            if not failures[order.injection]:
                tell(Told.CLEARED, order.injection, {"why": why})
            tell(Told.VERIFIED, order.injection, {"leftovers": self._left(order) or failures[order.injection]})

    def _take_away(self, order: Order) -> list[str]:
        """What kept it from being taken away."""
        target, trouble = self._targets[order.pod_uid], ""
        for _ in range(TRIES):
            try:
                places.undo(self._plan, order, target, self._noted(order))
            except (KernelError, OSError) as error:
                trouble = str(error)
                self._wake.wait([], TRY_SECONDS)
            else:
                return []
        return [f"could not be undone: {trouble}"]

    def _noted(self, order: Order) -> Notes:
        return self._notes.get(order.injection, Notes())

    def _left(self, order: Order) -> list[str]:
        try:
            target = self._targets[order.pod_uid]
            return places.left_by(self._plan, order, target, self._begun.values(), self._noted(order))
        except (KernelError, OSError) as error:
            return [f"nobody could look: {error}"]
