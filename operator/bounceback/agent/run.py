"""`agent run`: carries out the orders of a plan and sees each of them to its end."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final

from bounceback.agent import places
from bounceback.agent.control import Listener
from bounceback.agent.evidence import boottime, tell
from bounceback.agent.job import Job, State, Word
from bounceback.agent.link import GuardLink
from bounceback.agent.schedule import Times, begins
from bounceback.agent.wake import LONGEST, Wake
from bounceback.drivers import KernelError, Notes, Refused, site
from bounceback.types.instants import Instant
from bounceback.types.plan import Plan, Redirect, flow_from
from bounceback.types.told import Told

HEARTBEAT_SECONDS: Final = 1.0
SOON_SECONDS: Final = 0.25  # a heartbeat goes with what else the agent wakes for
GUARD_LOOK_SECONDS: Final = 0.02  # nobody tells when an abstract socket appears


class Nobody:
    """The dead man of a plan that has no guard: the kernel itself."""

    reaches = None
    lost = False

    def begin(self, injection: str, not_after: float) -> None: ...

    def note(self, injection: str, kept: Mapping[str, Any]) -> None: ...

    def ended(self, injection: str) -> None: ...

    def done(self) -> None: ...

    def look(self) -> None: ...

    def fds(self) -> list[int]:
        return []


def run(plan: Plan) -> int:
    """Always 0: what went wrong is in the evidence."""
    agent = Agent(plan, Wake())
    agent.work()
    return 0


class Agent:
    def __init__(self, plan: Plan, wake: Wake) -> None:
        self._plan = plan
        self._wake = wake
        self._now: Callable[[], float] = boottime
        self._listener = Listener(plan.agent)
        self._guard: GuardLink | Nobody = GuardLink(plan.agent) if plan.guarded else Nobody()
        self._stopped = False
        self._stops: list[socket.socket] = []  # those who wait to hear that all is undone
        self._next_heartbeat = 0.0
        tell(Told.STARTED, detail={"pid": os.getpid(), "mode": "run"})
        self._clocks = Instant.now()  # one reading, by which all times of the plan are understood
        self._jobs = list(self._open_jobs())

    def work(self) -> None:
        while any(job.state is not State.ENDED for job in self._jobs):
            self._guard.look()
            self._reject_unreached()
            for job in self._jobs:
                job.start(self._word())
            for job in self._jobs:
                job.step(self._word())  # the time of each: what one does may take long
            for job in self._jobs:
                job.settle()
            self._heartbeat(self._now())
            if any(job.state is not State.ENDED for job in self._jobs):
                self._await()
        self._guard.done()
        for connection in self._stops:
            self._listener.answer(connection, self._stop_answer())
        self._listener.close()
        tell(Told.FINISHED)

    def _open_jobs(self) -> Iterable[Job]:
        found = places.find(self._plan)
        for order in self._plan.orders:
            place = found[order.pod_uid]
            if isinstance(place, Refused):
                tell(Told.REFUSED, order.injection, {"reason": place.reason, "message": str(place)})
                continue
            notes = Notes(tell=partial(self._note, order.injection))
            where = replace(site(self._plan, order, place.netns, place.proc), notes=notes)
            if isinstance(order.act, Redirect) and order.act.speaks == "dns":
                where = replace(where, resolvers=place.resolvers())
            yield Job(order, Times.of(order, self._clocks), place, where, self._guard, self._look)

    def _note(self, injection: str, kept: Mapping[str, Any]) -> None:
        """For the guard, and for who comes when the guard is gone, too."""
        self._guard.note(injection, kept)
        if not kept.get("changing"):
            tell(Told.NOTED, injection, dict(kept))

    def _look(self, job: Job) -> list[str]:
        held = [each.order for each in self._jobs if each.holds]
        return places.left_by(self._plan, job.order, job.target, held, job.site.notes)

    def _word(self) -> Word:
        end = None
        if self._wake.terminated:
            end = "Terminated"
        elif self._stopped:
            end = "Stopped"
        elif self._guard.lost:
            end = "GuardLost"
        ready = not self._plan.guarded or self._guard.reaches is not None
        return Word(self._now(), end, ready, len(self._jobs))

    def _reject_unreached(self) -> None:
        """The guard found another set of pods than the agent did: what it cannot undo is not done."""
        if self._guard.reaches is None:
            return
        for job in self._jobs:
            if job.state is State.WAITING and job.order.pod_uid not in self._guard.reaches:
                job.refuse("NoGuard", "the guard cannot reach this pod")

    def _heartbeat(self, now: float) -> None:
        if now >= self._next_heartbeat - SOON_SECONDS and any(job.holds for job in self._jobs):
            tell(Told.HEARTBEAT)
            self._next_heartbeat = now + HEARTBEAT_SECONDS

    def _await(self) -> None:
        now = self._now()
        seconds = min((job.next_look(now) for job in self._jobs if job.state is not State.ENDED), default=LONGEST)
        if self._plan.guarded and self._guard.reaches is None:
            seconds = min(seconds, GUARD_LOOK_SECONDS)
        if any(job.holds for job in self._jobs):
            seconds = min(seconds, self._next_heartbeat - now)
        ready = self._wake.wait([self._listener.fileno(), *self._guard.fds()], seconds)
        if self._listener.fileno() in ready:
            self._serve()

    def _serve(self) -> None:
        request = self._listener.accept()
        if request is None:
            return
        connection, message = request
        if message.get("stop"):
            self._stopped = True
            self._stops.append(connection)
            return
        self._listener.answer(connection, self._reply(message))

    def _reply(self, message: dict[str, Any]) -> dict[str, Any]:
        now = Instant.now().to_json()
        if message.get("ping"):
            return {"ok": True, "at": now}
        for word, how in (("amend", self._amend), ("begin", self._begin)):
            if isinstance(message.get(word), dict):
                try:
                    how(message[word])
                except (ValueError, KeyError, TypeError, KernelError) as error:
                    return {"ok": False, "at": now, "error": str(error)}
                return {"ok": True, "at": Instant.now().to_json()}
        return {"ok": False, "at": now, "error": "asks for none of ping, stop, amend and begin"}

    def _known(self, injections: Iterable[str]) -> dict[str, Job]:
        """Raises ValueError where one of them is none of ours."""
        jobs = {job.order.injection: job for job in self._jobs}
        if unknown := sorted(set(injections) - set(jobs)):
            raise ValueError(f"this agent has no order {', '.join(unknown)}")
        return jobs

    def _begin(self, told: dict[str, Any]) -> None:
        """Orders that wait: when each begins, or (null) that it never does. Said twice is said once.

        Raises ValueError, KeyError or TypeError, and nothing is changed.
        """
        jobs = self._known(told)
        orders = {name: None if given is None else begins(jobs[name].order, given) for name, given in told.items()}
        for name, order in orders.items():
            if order is None:
                jobs[name].never()
            else:
                jobs[name].begin(order, Times.of(order, self._clocks))

    def _amend(self, changes: dict[str, Any]) -> None:
        """All are looked at before the first is changed. Raises ValueError, KeyError, TypeError, KernelError."""
        jobs = self._known(changes)
        flows = {injection: tuple(flow_from(flow) for flow in each) for injection, each in changes.items()}
        for injection, each in flows.items():
            jobs[injection].amend(each)

    def _stop_answer(self) -> dict[str, Any]:
        left = {job.order.injection: list(job.left) for job in self._jobs}
        return {"ok": not any(left.values()), "at": Instant.now().to_json(), "leftovers": left}
