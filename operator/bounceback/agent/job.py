"""The life of one order in an agent: waiting, in force, lifted, ended; each step told."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Final, Protocol

from bounceback.agent.course import Course
from bounceback.agent.evidence import tell
from bounceback.agent.schedule import OVER, Due, Times, due, ends_at, over
from bounceback.drivers import (
    DRAIN_SECONDS,
    InForce,
    KernelError,
    Refused,
    Site,
    Started,
    TargetGone,
    Turning,
    driver,
    starter,
)
from bounceback.drivers.targets import Target
from bounceback.types.instants import Instant
from bounceback.types.outcome import NOT_STARTED
from bounceback.types.pattern import Step
from bounceback.types.plan import Flow, Order
from bounceback.types.told import AT_ONCE, Told

HITS_SECONDS: Final = 1.0
SOON_SECONDS: Final = 0.1  # what is counted by then is counted with what else the agent wakes for
HITS_LINES: Final = 10.0  # a second, of all orders together: a log that rotates loses its beginning
DRAIN_LOOK_SECONDS: Final = 0.02
WHOLE: Final = Step(0.0, 1.0)


class State(Enum):
    WAITING = "waiting"
    IN_FORCE = "in force"
    LIFTED = "lifted"  # touches no new packets, still holds some
    UNDONE = "undone"  # nobody has looked yet what is left
    ENDED = "ended"


class DeadMan(Protocol):
    """Who undoes what this process can no longer undo: `GuardLink`, or nobody where the kernel does it."""

    def begin(self, injection: str, not_after: float) -> None:
        """Told before anything is changed; it is over at `not_after` (boot-time clock) in any case."""

    def ended(self, injection: str) -> None:
        """Told once nothing of it is there any more."""


@dataclass(frozen=True, slots=True)
class Word:
    """What holds for all orders of an agent at one moment."""

    now: float
    end: str | None = None  # why all of them end
    ready: bool = True  # the guard is there, or none is asked for
    orders: int = 1  # of this agent


def hits_pace(orders: int) -> float:
    """Seconds between two counts of an order that has hit something."""
    return max(HITS_SECONDS, orders / HITS_LINES)


@dataclass(slots=True)
class Job:
    """One order and where it is carried out. `step` does what is due; `next_look` says when to come again.

    `settle`, once all others had their turn, looks for what is left: no order's end waits for that of another one.
    """

    order: Order
    times: Times
    target: Target
    site: Site
    dead_man: DeadMan
    look: Callable[[Job], list[str]]  # what of ours is left where this was, and belongs to no other order in force
    clock: Callable[[], float] = time.monotonic  # for lengths only
    state: State = State.WAITING
    hits: int = 0
    left: tuple[str, ...] = ()
    _started: Started | None = None
    _in_force: InForce | None = None
    _course: Course = field(init=False)
    _first: Step = WHOLE
    _since: float = 0.0
    _next_hits: float = 0.0
    _next_turn: float = math.inf
    _lifted_at: float = 0.0
    _over_at: Instant | None = None
    _why: str = ""

    def __post_init__(self) -> None:
        self._course = Course(self.order)

    @property
    def holds(self) -> bool:
        return self.state in (State.IN_FORCE, State.LIFTED)

    def start(self, word: Word) -> None:
        """Begin with what takes long before the order can be applied; `step`, which comes next, waits for it.

        So orders that are due together wait together. What is wrong with it is found again then, and told.
        """
        if self.state is not State.WAITING or self._started is not None or word.end or not word.ready:
            return
        if self.order.waits:
            return
        takes_long = starter(self.order.act)
        if takes_long is not None and due(self.times, word.now) is Due.APPLY and self.target.alive():
            with suppress(Refused, KernelError, OSError):
                self._started = takes_long.start(self._first_part(), self.site)

    def step(self, word: Word) -> None:
        if self.state is State.WAITING:
            self._start(word)
        if self.state is State.IN_FORCE and word.now >= self._next_hits - (SOON_SECONDS if self.hits else 0.0):
            self._count(word)
        if self.state is State.IN_FORCE and word.now >= self._next_turn:
            self._turn(word.now)
        if self.state is State.IN_FORCE and (why := word.end or over(self.times, self._since, word.now)):
            self._lift(word.now, why)
        if self.state is State.IN_FORCE and word.now - self._since >= self._course.next_at:
            self._go_on(word.now)
        if self.state is State.LIFTED and (word.now >= self._lifted_at + self._patience(word) or self._drained()):
            self._revert()

    def settle(self) -> None:
        if self.state is not State.UNDONE:
            return
        self.state = State.ENDED
        try:
            self.left = tuple(self.look(self))
        except (KernelError, OSError) as error:
            self.left = (f"nobody could look: {error}",)
        tell(Told.VERIFIED, self.order.injection, {"leftovers": list(self.left)})
        if not self.left:
            self.dead_man.ended(self.order.injection)

    def next_look(self, now: float) -> float:
        """Seconds from `now`, for an order that has not ended."""
        if self.state is State.WAITING:
            soon = now < self.times.start_at and not self.order.waits
            return (self.times.start_at if soon else self.times.start_before + 0.001) - now
        if self.state is State.IN_FORCE:
            due_at = min(self._next_hits, self._next_turn, self._since + self._course.next_at)
            return min(due_at, ends_at(self.times, self._since)) - now
        return DRAIN_LOOK_SECONDS

    def amend(self, flows: tuple[Flow, ...]) -> None:
        """Raises KernelError, and the old flows stay; ValueError when the order is over."""
        if self.state is State.WAITING:
            self.order = replace(self.order, flows=flows)
        elif self.state is State.IN_FORCE and self._in_force is not None:
            self._in_force.amend(flows)
        else:
            raise ValueError(f"{self.order.injection} is over")
        tell(Told.AMENDED, self.order.injection, {"flows": len(flows)})

    def begin(self, order: Order, times: Times) -> None:
        """An order that waits begins at its own time now; any other goes on as it does."""
        if self.state is State.WAITING and self.order.waits:
            self.order, self.times = replace(order, flows=self.order.flows), times

    def never(self) -> None:
        """An order that waits is over; any other goes on as it does."""
        if self.state is State.WAITING and self.order.waits:
            self.refuse(NOT_STARTED, "what it waited for did not come")

    def refuse(self, reason: str, message: str) -> None:
        """Nothing was touched, and nothing will be."""
        if self._started is not None:
            self._started.end()
        tell(Told.REFUSED, self.order.injection, {"reason": reason, "message": message})
        self.state = State.ENDED

    def _start(self, word: Word) -> None:
        decision = due(self.times, word.now)
        if word.end:
            self.refuse(word.end, "ended before it was due")
        elif self.order.waits and decision is not Due.TOO_LATE:
            return
        elif self.order.waits:
            self.refuse(NOT_STARTED, "nobody said until its last moment to start that it may begin")
        elif decision is Due.TOO_LATE and not word.ready:
            self.refuse("NoGuard", "the guard that this plan asks for did not come in time")
        elif decision is Due.TOO_LATE:
            behind = word.now - min(self.times.start_before, self.times.not_after)
            self.refuse("TooLate", f"{behind:.1f} s past the last moment to start, by this node's clock")
        elif decision is Due.APPLY and word.ready:
            self._apply(word.now)

    def _apply(self, now: float) -> None:
        injection = self.order.injection
        if not self.target.alive():
            self.refuse("TargetGone", "the pod's processes ended before the fault was due")
            return
        self.dead_man.begin(injection, self.times.not_after)
        began = self.clock()
        try:
            self._in_force = self._apply_first_part()
        except Refused as refusal:
            self.refuse(refusal.reason, str(refusal))
            self.dead_man.ended(injection)
        except (KernelError, OSError) as error:
            self._fail(f"could not be applied: {error}")
        else:
            self.state, self._since = State.IN_FORCE, now + self.clock() - began  # a relay takes its time to start
            self._next_hits = self._since + self._in_force.first_look_seconds
            self._next_turn = self._since if isinstance(self._in_force, Turning) else math.inf
            if self._first.share < 1:
                self._tell_step(self._first)
            tell(Told.IN_FORCE, injection, self._in_force.detail)

    def _apply_first_part(self) -> InForce:
        started, self._started = self._started, None
        return started.apply() if started else driver(self.order.act).apply(self._first_part(), self.site)

    def _first_part(self) -> Order:
        self._first = self._course.due(0.0) or self._first
        return replace(self.order, act=self._course.act(self._first) or self.order.act)

    def _go_on(self, now: float) -> None:
        assert self._in_force is not None
        step = self._course.due(now - self._since)
        if step is None:
            return
        try:
            self._in_force.change(self._course.act(step))
        except KernelError as error:
            self._fail(f"could not be changed as its pattern asks for: {error}")
            return
        self._tell_step(step)

    def _tell_step(self, step: Step) -> None:
        tell(Told.STEP, self.order.injection, {"percent": round(step.share * 100, 1)})

    def _turn(self, now: float) -> None:
        assert isinstance(self._in_force, Turning)
        began = self.clock()
        try:
            seconds = self._in_force.turn()
        except TargetGone:
            self._lift(now, "TargetGone")
        except (KernelError, OSError) as error:
            self._fail(f"no longer in force: {error}")
        else:
            if seconds is None:
                self._lift(now, AT_ONCE)
            else:
                self._next_turn = now + self.clock() - began + seconds

    def _count(self, word: Word) -> None:
        assert self._in_force is not None
        if not self.target.alive():
            self._lift(word.now, "TargetGone")
            return
        try:
            self._tell_hits(self._in_force.hits())
        except TargetGone:
            self._lift(word.now, "TargetGone")
        except KernelError as error:
            self._fail(f"no longer in force: {error}")
        self._next_hits = word.now + (hits_pace(word.orders) if self.hits else self._in_force.first_look_seconds)

    def _tell_hits(self, seen: int) -> None:
        if seen > self.hits:
            self.hits = seen
            tell(Told.HITS, self.order.injection, hits=seen)

    def _lift(self, now: float, why: str) -> None:
        assert self._in_force is not None
        self.state, self._why, self._lifted_at = State.LIFTED, why, now
        with suppress(KernelError):  # reverting, which comes next, says whether it mattered
            self._in_force.lift()
        self._over_at = Instant.now() if self._in_force.over_when_lifted else None

    def _patience(self, word: Word) -> float:
        """Who ends a fault early does not want to wait for connections that may never end."""
        assert self._in_force is not None
        drain = self._in_force.drain_seconds
        return drain if self._why == OVER and not word.end else min(drain, DRAIN_SECONDS)

    def _drained(self) -> bool:
        assert self._in_force is not None
        try:
            return not self._in_force.held()
        except KernelError:
            return True  # what cannot be asked has nothing to wait for

    def _revert(self) -> None:
        assert self._in_force is not None
        with suppress(KernelError):  # gone already (a guard was quicker); what was counted before stays told
            self._tell_hits(self._in_force.hits())
        try:
            self._in_force.revert()
        except (KernelError, OSError) as error:
            self._fail(f"could not be reverted: {error}")
            return
        tell(Told.CLEARED, self.order.injection, {"why": self._why, **self._in_force.farewell}, at=self._over_at)
        self.state = State.UNDONE

    def _fail(self, message: str) -> None:
        """Undone, and told with what is left then."""
        trouble = self._undo()
        tell(Told.FAILED, self.order.injection, {"message": "; ".join([message, *trouble])})
        self.state = State.UNDONE

    def _undo(self) -> list[str]:
        """By what is in force, as a table belongs to who made it; then by a way that needs nothing of what was made."""
        if self._in_force is not None:
            with suppress(KernelError, OSError):
                self._in_force.revert()
        try:
            driver(self.order.act).undo(self.order, self.site)
        except (KernelError, OSError) as error:
            return [f"could not be undone: {error}"]
        return []
