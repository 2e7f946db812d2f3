"""One order from its start to its end, told step by step, with a kernel that this test plays."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from bounceback.agent import job as job_module
from bounceback.agent.job import Job, State, Word
from bounceback.agent.schedule import Times
from bounceback.drivers import DRAIN_SECONDS, FIRST_LOOK_SECONDS, KernelError, Refused, Site
from bounceback.drivers.netns import Netns
from bounceback.drivers.targets import Target
from bounceback.types.instants import Instant
from bounceback.types.pattern import OnOff, Ramp
from bounceback.types.plan import Act, Direction, Drop, Flow, Order
from bounceback.types.told import Told

ORDER = Order("inj", "fault", "ns", "pod", "uid", Drop(), Direction.BOTH, (), 0, 0, 0, 0)


Evidence = list[tuple[Told, Any]]


@dataclass
class Kernel:
    """A driver whose every answer the test decides; writes down what it was made to do."""

    did: list[str] = field(default_factory=list)
    count: int = 0
    holding: int = 0
    refuses: Exception | None = None
    keeps: Exception | None = None  # raised by revert
    gone: bool = False  # somebody took it away
    detail: dict[str, str] = field(default_factory=lambda: {"with": "a test"})
    first_look_seconds: float = FIRST_LOOK_SECONDS
    drain_seconds: float = DRAIN_SECONDS
    over_when_lifted: bool = False
    farewell: dict[str, Any] = field(default_factory=dict)

    def apply(self, order: Order, site: Site) -> Kernel:
        if self.refuses:
            raise self.refuses
        self.did.append("apply")
        return self

    def undo(self, order: Order, site: Site) -> None:
        self.did.append("undo")

    def hits(self) -> int:
        if self.gone:
            raise KernelError("no such counter")
        return self.count

    def held(self) -> int:
        return self.holding

    def amend(self, flows: tuple[Flow, ...]) -> None:
        self.did.append(f"amend {len(flows)}")

    def change(self, act: Act | None) -> None:
        if self.gone:
            raise KernelError("no such table")
        self.did.append("change" if act else "pause")

    def lift(self) -> None:
        self.did.append("lift")

    def revert(self) -> None:
        if self.keeps:
            raise self.keeps
        self.did.append("revert")


class Starter(Kernel):
    """A driver whose orders take long to apply."""

    def start(self, order: Order, site: Site) -> Starting:
        if self.refuses:
            raise self.refuses
        self.did.append("start")
        return Starting(self)


@dataclass
class Starting:
    kernel: Kernel

    def apply(self) -> Kernel:
        self.kernel.did.append("apply what was started")
        return self.kernel

    def end(self) -> None:
        self.kernel.did.append("end what was started")


class Guard:
    def __init__(self) -> None:
        self.heard: list[str] = []

    def begin(self, injection: str, not_after: float) -> None:
        self.heard.append("begin")

    def ended(self, injection: str) -> None:
        self.heard.append("ended")


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    made = Kernel()
    monkeypatch.setattr(job_module, "driver", lambda act: made)
    return made


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Evidence:
    lines: Evidence = []

    def tell(kind: Told, injection: str = "", detail: Any = None, *, hits: int = 0, at: Instant | None = None) -> None:
        lines.append((kind, hits or ({**detail, "at": at} if at else detail)))

    monkeypatch.setattr(job_module, "tell", tell)
    return lines


@pytest.fixture
def guard() -> Guard:
    return Guard()


@pytest.fixture
def job(kernel: Kernel, told: Evidence, guard: Guard) -> Job:
    """Due at 10, too late after 20, over after 5 s or at 100."""
    netns = Netns()
    return Job(ORDER, Times(10, 20, 100, 5), Target(netns), Site(netns), guard, lambda job: [], lambda: 0.0)


def turn(job: Job, word: Word) -> None:
    """One of its agent's, which has no other order."""
    job.step(word)
    job.settle()


def test_no_orders_end_waits_for_what_others_look_for(kernel: Kernel, told: Evidence, guard: Guard) -> None:
    netns = Netns()
    times = Times(10, 20, 100, 5)
    both = [Job(ORDER, times, Target(netns), Site(netns), guard, lambda job: [], lambda: 0.0) for _ in range(2)]
    for each in both:
        each.step(Word(10))
    for each in both:
        each.step(Word(11, end="Terminated"))
    assert kernel.did == ["apply", "apply", "lift", "revert", "lift", "revert"]
    assert Told.VERIFIED not in [kind for kind, _ in told]
    assert guard.heard == ["begin", "begin"], "it undoes what nobody has looked for"
    for each in both:
        each.settle()
    assert [kind for kind, _ in told][-2:] == [Told.VERIFIED] * 2
    assert guard.heard[-2:] == ["ended"] * 2


def test_the_whole_life(job: Job, kernel: Kernel, told: Evidence, guard: Guard) -> None:
    turn(job, Word(9.9))
    assert (job.state, told, guard.heard) == (State.WAITING, [], [])
    turn(job, Word(10))
    kernel.count = 3
    turn(job, Word(10.06))
    turn(job, Word(10.5))
    kernel.count = 7
    turn(job, Word(15))
    assert told == [
        (Told.IN_FORCE, {"with": "a test"}),
        (Told.HITS, 3),
        (Told.HITS, 7),  # the last count comes before the end
        (Told.CLEARED, {"why": "Duration"}),
        (Told.VERIFIED, {"leftovers": []}),
    ]
    assert kernel.did == ["apply", "lift", "revert"]
    assert guard.heard == ["begin", "ended"]


@pytest.fixture
def starter(monkeypatch: pytest.MonkeyPatch) -> Starter:
    made = Starter()
    monkeypatch.setattr(job_module, "driver", lambda act: made)
    monkeypatch.setattr(job_module, "starter", lambda act: made)
    return made


def test_what_takes_long_is_started_once_when_it_is_due_and_the_guard_hears_before_it_is_applied(
    job: Job, starter: Starter, told: Evidence, guard: Guard
) -> None:
    for early in (Word(9.9), Word(10, ready=False), Word(10, end="Stopped"), Word(20.1)):
        job.start(early)
    assert starter.did == []
    job.start(Word(10))
    job.start(Word(10.1))
    assert (starter.did, guard.heard, told) == (["start"], [], [])
    turn(job, Word(10.2))
    assert starter.did == ["start", "apply what was started"]
    assert guard.heard == ["begin"]
    assert told == [(Told.IN_FORCE, {"with": "a test"})]


@pytest.mark.parametrize("late", [Word(20.1), Word(10.2, end="Stopped")])
def test_what_was_started_and_is_not_applied_is_ended(
    job: Job, starter: Starter, told: Evidence, guard: Guard, late: Word
) -> None:
    job.start(Word(10))
    turn(job, late)
    assert starter.did == ["start", "end what was started"]
    assert [kind for kind, _ in told] == [Told.REFUSED]
    assert guard.heard == []


def test_what_cannot_be_started_is_told_when_it_is_applied(job: Job, starter: Starter, told: Evidence) -> None:
    starter.refuses = Refused("Conflict", "one more")
    job.start(Word(10))
    assert told == []
    turn(job, Word(10))
    assert told == [(Told.REFUSED, {"reason": "Conflict", "message": "one more"})]


def test_a_pattern_comes_and_goes(kernel: Kernel, told: Evidence, guard: Guard) -> None:
    netns = Netns()
    order = replace(ORDER, duration=5, pattern=OnOff(1, 0.5))
    job = Job(order, Times(10, 20, 100, 5), Target(netns), Site(netns), guard, lambda job: [], lambda: 0.0)
    for now in (10, 10.9, 11, 11.2, 11.5, 12.5, 13.1, 15):
        turn(job, Word(now))
    assert kernel.did == ["apply", "pause", "change", "pause", "change", "lift", "revert"]
    assert [detail["percent"] for kind, detail in told if kind is Told.STEP] == [0, 100, 0, 100]


def test_a_step_that_comes_late_skips_those_before(kernel: Kernel, told: Evidence, guard: Guard) -> None:
    netns = Netns()
    order = replace(ORDER, duration=5, pattern=OnOff(1, 0.5))
    job = Job(order, Times(10, 20, 100, 5), Target(netns), Site(netns), guard, lambda job: [], lambda: 0.0)
    turn(job, Word(10))
    assert job.next_look(10) == pytest.approx(0.05)
    kernel.count = 1
    turn(job, Word(10.5))
    assert job.next_look(10.5) == pytest.approx(0.5)
    turn(job, Word(12.7))  # it is away since 12.5
    assert kernel.did == ["apply", "pause"]


def test_a_pattern_whose_fault_somebody_took_away_is_undone(kernel: Kernel, told: Evidence, guard: Guard) -> None:
    netns = Netns()
    order = replace(ORDER, duration=5, pattern=OnOff(1, 0.5))
    job = Job(order, Times(10, 20, 100, 5), Target(netns), Site(netns), guard, lambda job: [], lambda: 0.0)
    turn(job, Word(10))
    kernel.gone = True
    turn(job, Word(11))
    assert kernel.did == ["apply", "revert", "undo"]
    assert Told.FAILED in [kind for kind, _ in told]


@pytest.mark.parametrize("seconds", [FIRST_LOOK_SECONDS, 0.25], ids=["50 ms", "neighbours would notice more"])
def test_counters_are_looked_at_that_often_until_the_first_hit_and_then_every_second(
    job: Job, kernel: Kernel, seconds: float
) -> None:
    kernel.first_look_seconds = seconds
    turn(job, Word(10))
    assert job.next_look(10) == pytest.approx(seconds)
    turn(job, Word(10 + seconds))
    assert job.next_look(10 + seconds) == pytest.approx(seconds)
    kernel.count = 1
    turn(job, Word(10.6))
    assert job.next_look(10.6) == pytest.approx(1.0)


def test_what_a_delay_holds_is_let_go_before_the_end(job: Job, kernel: Kernel, told: Evidence) -> None:
    turn(job, Word(10))
    kernel.holding = 4
    turn(job, Word(11, end="Stopped"))
    assert (job.state, kernel.did) == (State.LIFTED, ["apply", "lift"])
    kernel.holding = 0
    turn(job, Word(11.3, end="Stopped"))
    assert kernel.did == ["apply", "lift", "revert"]
    assert (Told.CLEARED, {"why": "Stopped"}) in told


def test_connections_that_only_drain_are_under_no_fault_any_more(job: Job, kernel: Kernel, told: Evidence) -> None:
    kernel.over_when_lifted = True
    turn(job, Word(10))
    kernel.holding = 4
    before = Instant.now()
    turn(job, Word(11, end="Stopped"))
    after = Instant.now()
    kernel.holding = 0
    turn(job, Word(11.3, end="Stopped"))
    [cleared] = [detail for kind, detail in told if kind is Told.CLEARED]
    assert before.nanos <= cleared["at"].nanos <= after.nanos


def test_a_long_delay_is_not_waited_for(job: Job, kernel: Kernel) -> None:
    turn(job, Word(10))
    kernel.holding = 4
    turn(job, Word(11, end="Stopped"))
    turn(job, Word(11 + DRAIN_SECONDS, end="Stopped"))
    assert job.state is State.ENDED


@pytest.mark.parametrize("end", ["Stopped", "Terminated", "GuardLost"])
def test_what_has_not_begun_never_begins_once_the_agent_is_ended(
    job: Job, kernel: Kernel, told: Evidence, guard: Guard, end: str
) -> None:
    turn(job, Word(5, end=end))
    assert [line[0] for line in told] == [Told.REFUSED]
    assert told[0][1]["reason"] == end
    assert (kernel.did, guard.heard) == ([], [])


def test_without_its_guard_it_waits_and_then_refuses(job: Job, kernel: Kernel, told: Evidence) -> None:
    turn(job, Word(15, ready=False))
    assert job.state is State.WAITING
    turn(job, Word(20.1, ready=False))
    assert told[0][1]["reason"] == "NoGuard"
    assert kernel.did == []


def test_too_late_is_refused(job: Job, kernel: Kernel, told: Evidence) -> None:
    turn(job, Word(20.1))
    assert told[0] == (Told.REFUSED, told[0][1])
    assert told[0][1]["reason"] == "TooLate"
    assert kernel.did == []


def test_what_the_driver_refuses_was_not_touched(job: Job, kernel: Kernel, told: Evidence, guard: Guard) -> None:
    kernel.refuses = Refused("Conflict", "eth0 has a qdisc of its own")
    turn(job, Word(10))
    assert told == [(Told.REFUSED, {"reason": "Conflict", "message": "eth0 has a qdisc of its own"})]
    assert guard.heard == ["begin", "ended"]


def test_what_fails_half_way_is_undone_and_looked_at(job: Job, kernel: Kernel, told: Evidence, guard: Guard) -> None:
    kernel.refuses = KernelError("no")
    turn(job, Word(10))
    assert [line[0] for line in told] == [Told.FAILED, Told.VERIFIED]
    assert kernel.did == ["undo"]
    assert guard.heard == ["begin", "ended"]


def test_what_somebody_took_away_is_not_called_in_force(job: Job, kernel: Kernel, told: Evidence) -> None:
    turn(job, Word(10))
    kernel.gone = True
    turn(job, Word(10.1))
    assert [line[0] for line in told] == [Told.IN_FORCE, Told.FAILED, Told.VERIFIED]


def test_what_cannot_be_reverted_stays_with_the_guard(job: Job, kernel: Kernel, told: Evidence, guard: Guard) -> None:
    """The broken variant: never told as cleared, and what is left is told."""
    job.look = lambda job: ["qdisc eth0 bb04: netem"]
    turn(job, Word(10))
    kernel.keeps = KernelError("busy")
    turn(job, Word(16))
    assert [line[0] for line in told] == [Told.IN_FORCE, Told.FAILED, Told.VERIFIED]
    assert told[-1][1] == {"leftovers": ["qdisc eth0 bb04: netem"]}
    assert guard.heard == ["begin"]


def test_a_target_that_ends_is_told_as_gone(
    job: Job, kernel: Kernel, told: Evidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    turn(job, Word(10))
    monkeypatch.setattr(Target, "alive", lambda self: False)
    turn(job, Word(10.1))
    assert (Told.CLEARED, {"why": "TargetGone"}) in told


def test_an_order_that_waits_is_amended_without_the_kernel(job: Job, kernel: Kernel, told: Evidence) -> None:
    job.amend((Flow("10.0.0.1/32"),))
    assert job.order.flows == (Flow("10.0.0.1/32"),)
    assert kernel.did == []


def test_an_order_that_is_over_is_not_amended(job: Job) -> None:
    turn(job, Word(10))
    turn(job, Word(16))
    with pytest.raises(ValueError, match="is over"):
        job.amend(())


def test_a_ramp_says_how_strong_it_is_before_it_says_that_it_is_there(
    kernel: Kernel, told: Evidence, guard: Guard
) -> None:
    netns = Netns()
    order = replace(ORDER, duration=6, pattern=Ramp(0.1, 1.0, 3))
    job = Job(order, Times(10, 20, 100, 6), Target(netns), Site(netns), guard, lambda job: [], lambda: 0.0)
    for now in (10, 12, 14):
        turn(job, Word(now))
    steps = [(kind, detail["percent"]) if kind is Told.STEP else kind for kind, detail in told]
    assert steps == [(Told.STEP, 10), Told.IN_FORCE, (Told.STEP, 55), (Told.STEP, 100)]


@pytest.fixture
def waiting(job: Job) -> Job:
    """It may begin at 10 by its plan; but nobody has said that it may."""
    job.order = replace(job.order, waits=True)
    return job


def test_an_order_that_waits_begins_when_it_is_told_to_and_at_no_other_time(
    waiting: Job, starter: Starter, told: Evidence
) -> None:
    for now in (9.0, 11.0, 19.9):
        waiting.start(Word(now))
        turn(waiting, Word(now))
    assert (starter.did, told, waiting.state) == ([], [], State.WAITING)
    assert waiting.next_look(11.0) == pytest.approx(9.001), "until its last moment nobody needs to look"
    own = replace(waiting.order, waits=False)
    waiting.begin(own, Times(13, 18, 90, 5))
    turn(waiting, Word(12.9))
    assert not starter.did
    turn(waiting, Word(13))
    assert waiting.state is State.IN_FORCE
    waiting.begin(own, Times(50, 60, 90, 5))  # said twice
    assert waiting.times.start_at == 13


def test_an_order_that_waits_keeps_the_peers_that_it_was_amended_to(waiting: Job, kernel: Kernel) -> None:
    waiting.amend((Flow("10.0.0.1/32"),))
    waiting.begin(replace(ORDER, flows=()), Times(13, 18, 90, 5))
    assert waiting.order.flows == (Flow("10.0.0.1/32"),)


@pytest.mark.parametrize("nobody_says_anything", [True, False])
def test_an_order_that_waits_in_vain_touches_nothing(
    waiting: Job, kernel: Kernel, told: Evidence, *, nobody_says_anything: bool
) -> None:
    if nobody_says_anything:
        turn(waiting, Word(20.1))
    else:
        waiting.never()
    assert waiting.state is State.ENDED
    ((kind, detail),) = told
    assert (kind, detail["reason"], kernel.did) == (Told.REFUSED, "NotStarted", [])
    waiting.begin(ORDER, Times(21, 22, 90, 5))
    turn(waiting, Word(21.5))
    assert (waiting.state, kernel.did) == (State.ENDED, [])


def test_what_does_not_wait_is_not_told_to(job: Job, kernel: Kernel) -> None:
    job.begin(ORDER, Times(50, 60, 90, 5))
    job.never()
    turn(job, Word(10))
    assert job.state is State.IN_FORCE
