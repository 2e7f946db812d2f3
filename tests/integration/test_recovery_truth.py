"""The timeline against the truth: real servers break down for known times, and whole runs judge them over real sockets.

A hundred runs, seeded. The servers are in a process of their own and write down by the same boot-time clock when they
broke down, raised an alarm and served again. Each run has machines of its own: the wall clock of its operator, and of
the node that it breaks, is stepped by hours several times a second. Some operators are started again in mid-run, some
of them on another machine.

However busy the machine is, what is stated must be true; a busy one only makes the intervals wider.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, Final

import pytest

from bounceback.api.check import RecoveryCheckSpec
from bounceback.api.experiment import FaultExperimentSpec
from bounceback.api.status import CheckCopy, FaultExperimentStatus, Figure, InjectionStatus, MarkStatus
from bounceback.controller.looking import Looking
from bounceback.engine.advance import advance
from bounceback.engine.evidence import fold, with_offset
from bounceback.engine.planning import Chosen, Preparation
from bounceback.engine.state import Seen, State
from bounceback.recovery.sampling import Pulse
from bounceback.types.instants import WALL_CLOCKS_AGREE, Instant
from bounceback.types.outcome import Mark, Phase, VehicleKind, Verdict
from bounceback.types.plan import Flow, Rung
from bounceback.types.told import Line, Told
from bounceback.vehicles.control import offset
from tests.commands import PROJECT
from tests.outages import Did, How, Script, script_to, stamp
from tests.unit.engine_values import pod

RUNS: Final = 100
AT_ONCE: Final = 34
SEED: Final = 7
STEP: Final = 0.25  # seconds
DAY: Final = 86_400.0
IN_FORCE: Final = 0.35  # seconds at least: 1 % of what is asked for proves it
BUDGET: Final = 1  # seconds, of each kind


@dataclass(frozen=True)
class Machine:
    """Clocks of its own: a boot-time clock that began at another time, and a wall clock that somebody steps."""

    boot: str
    ahead: int = 0  # nanoseconds of its boot-time clock before this machine's
    wrong: float = 0.0  # seconds of its wall clock
    stepped: int | None = None  # seed; None: never

    def now(self) -> Instant:
        return self.read(stamp())

    def read(self, moment: int) -> Instant:
        """What its clocks say at that moment of this machine's boot-time clock."""
        utc = time.time() + (moment - stamp()) / 1e9 + self.wrong
        if self.stepped is not None:
            utc += random.Random(f"{self.stepped} {moment // 150_000_000}").uniform(-DAY, DAY)
        return Instant(self.boot, moment + self.ahead, utc)


HERE: Final = Machine("here")
machine: ContextVar[Machine] = ContextVar("machine", default=HERE)


@dataclass(frozen=True)
class Plan:
    """What one run is about."""

    number: int
    script: Script
    check: dict[str, Any]  # but for the addresses
    node: Machine  # that breaks down
    operators: tuple[Machine, ...]  # one after the other
    restart: float  # seconds after the fault was planned


def plans() -> Iterator[Plan]:
    dice = random.Random(SEED)
    for number in range(RUNS):
        tcp = number % 5 == 0
        how = How.REFUSAL if tcp else list(How)[number % 3]
        down = dice.uniform(0.05, 0.4)
        outage = dice.choice((0.03, 0.1, 0.2, 0.4, 0.7, 1.5)) * dice.uniform(0.8, 1.2)
        alarm = down + dice.uniform(0.0, 0.5) if number % 4 else None
        script = Script(
            how=how,
            slow=dice.choice((0.0, 0.0, 0.1, 0.3)),
            down=down,
            up=down + outage,
            cleared=down + max(IN_FORCE, outage * dice.choice((0.3, 0.6, 0.9, 1.4))),
            alarm=alarm,
            quiet=(alarm or 0.0) + dice.uniform(0.3, 0.8),
        )
        period = dice.choice((50, 100, 200, 300, 300))
        # Nothing but silence is to make a look fail by its timeout, however busy this machine is.
        timeout = dice.choice((1_500, 2_500)) if how is How.SILENCE else 20_000
        check = {
            "probes": [
                {
                    "name": "it",
                    "periodMilliseconds": period,
                    "timeoutMilliseconds": timeout,
                    "failureThreshold": 2 if number % 7 == 0 else 1,
                    ("tcp" if tcp else "http"): {},
                }
            ],
            "detection": [{"name": "alarm", "http": {}, "periodMilliseconds": 250, "timeoutMilliseconds": 20_000}],
            "recovered": {"stableSeconds": 1},
            "budgets": dict.fromkeys(("detectSeconds", "recoverSeconds", "outageSeconds"), BUDGET)
            if number % 2
            else {},
        }
        moved = number % 10 == 9
        first = Machine(f"operator-{number}", dice.randint(0, 10**15), stepped=None if moved else number)
        there = Machine(f"node-{number}", dice.randint(0, 10**15), dice.uniform(-60, 60))
        # What an operator on another machine makes of the first one's moments takes wall clocks that nearly agree.
        second = Machine(f"other-{number}", dice.randint(0, 10**15), dice.uniform(-0.4, 0.4)) if moved else first
        operators = (first, second) if number % 10 in (4, 9) else (first,)
        yield Plan(number, script, check, there if number % 3 else first, operators, dice.uniform(0.1, 1.5))


@dataclass
class Servers:
    """The other process: it is told to begin, and tells what it did."""

    process: asyncio.subprocess.Process
    ports: list[tuple[int, int]]
    did: dict[int, dict[Did, tuple[int, int]]] = field(default_factory=dict)

    def begin(self, number: int) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{number}\n".encode())

    async def listen(self) -> None:
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            told = json.loads(line)
            self.did.setdefault(told["run"], {})[Did(told["did"])] = told["before"], told["after"]


@asynccontextmanager
async def served(scripts: list[Script]) -> AsyncIterator[Servers]:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.outages", cwd=PROJECT, stdin=pipe, stdout=pipe, limit=2**20
    )
    try:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write("".join(f"{script_to(script)}\n" for script in scripts).encode() + b"\n")
        servers = Servers(process, [tuple(each) for each in json.loads(await process.stdout.readline())])
        listening = asyncio.create_task(servers.listen())
        yield servers
        listening.cancel()
    finally:
        process.kill()
        await process.wait()


@dataclass
class Ran:
    """A run that is over, and what was so."""

    plan: Plan
    truth: dict[Did, tuple[int, int]]
    status: FaultExperimentStatus
    before_restart: list[MarkStatus]
    failures: int  # looks of the probe that failed after the fault was planned, and before the run was over
    alarms: int  # samples of the signal that held


class Conducted:
    """One run as the controller conducts it, step by step; the server is what it breaks."""

    def __init__(self, plan: Plan, servers: Servers, pulse: Pulse) -> None:
        port, alarm = servers.ports[plan.number]
        spec = json.loads(json.dumps(plan.check))
        for probe, to in ((spec["probes"][0], port), (spec["detection"][0], alarm)):
            look = {"host": "127.0.0.1", "port": to} if "tcp" in probe else {"url": f"http://127.0.0.1:{to}/"}
            probe["tcp" if "tcp" in probe else "http"] = look
        self._plan = plan
        self._servers = servers
        self._check = CheckCopy(name="web", uid="c", generation=1, spec=RecoveryCheckSpec.model_validate(spec))
        self._spec = FaultExperimentSpec.model_validate(
            {
                "targets": [{"name": "web", "pods": {"selector": {"matchLabels": {"app": "web"}}}}],
                "faults": [{"name": "cut", "target": "web", "networkPartition": {}, "durationSeconds": 30}],
                "checks": [{"name": "web"}],
                "proof": {"durationPercent": 1},
                "steadyState": {"holdSeconds": 1, "timeoutSeconds": 600},
                "recoveryTimeoutSeconds": 600,
                "deadlineSeconds": 3000,
            }
        )
        kube = SimpleNamespace(acting_as=lambda namespace, account: None)
        settings = SimpleNamespace(namespace="")
        self._office: Any = SimpleNamespace(pulse=pulse, kube=kube, settings=settings)
        self._heard = 0
        self._before_restart: list[MarkStatus] = []
        self._state = State(FaultExperimentStatus(run_uid=f"run-{plan.number}"))
        self._looking = self._look()

    def _look(self) -> Looking:
        return Looking(self._office, "default", self._spec, lambda: None)

    async def conduct(self) -> Ran:
        machines = iter(self._plan.operators)
        machine.set(next(machines))
        restart = None
        looking = asyncio.create_task(self._looking.look([self._check]))
        before = 0
        while self._state.status.phase is not Phase.FINISHED:
            if self._step():
                before = self._failures()
                self._servers.begin(self._plan.number)
                restart = time.monotonic() + self._plan.restart
            if restart and time.monotonic() > restart and (other := next(machines, None)):
                await _end(looking)
                self._restart()
                await asyncio.sleep(self._plan.restart / 4)
                machine.set(other)
                looking = asyncio.create_task(self._looking.look([self._check]))
            await asyncio.sleep(STEP)
        assert restart is not None, self._state.status.findings
        failures = self._failures() - before
        while len(truth := self._servers.did[self._plan.number]) < len(self._plan.script.course()):
            await asyncio.sleep(0.05)
        watching = self._looking._watching
        assert watching is not None
        signal = watching.detections("web")["alarm"]
        await _end(looking)
        return Ran(self._plan, truth, self._state.status, self._before_restart, failures, signal.healthy_samples)

    def _failures(self) -> int:
        """Of all looks of the probe so far: a machine that stands still makes one fail in the steady state, too."""
        watching = self._looking._watching
        assert watching is not None
        probe = watching.histories("web")["it"]
        return probe.samples - probe.healthy_samples

    def _step(self) -> bool:
        """Whether the fault was planned in it."""
        now = Instant.now()
        self._state = replace(self._state, injections=tuple(self._told(i, now) for i in self._state.injections))
        fault = self._spec.faults[0]
        chosen = Chosen(fault, pod(), VehicleKind.SIDECAR, "", Rung.NFT, (Flow("10.1.0.1/32"),))
        found = Preparation((chosen,), (self._check,), at=now.utc)
        health = self._looking.health(self._state.injections, self._state.status, now)
        seen = Seen(preparation=found, claimed=True, health=health, before={}, after={}, released=True)
        decision = advance(self._spec, self._state, seen, now)
        self._state = decision.state
        return decision.plan is not None

    def _told(self, injection: InjectionStatus, received: Instant) -> InjectionStatus:
        """What the node's agent has told since."""
        did = self._servers.did.get(self._plan.number, {})
        news = list(did.items())[self._heard :]
        self._heard += len(news)
        for what, (_, after) in news:
            there = self._plan.node.read(after)
            match what:
                case Did.IN_FORCE:
                    injection = fold(injection, Line(Told.IN_FORCE, there, injection.name), received)
                    injection = fold(injection, Line(Told.HITS, there, injection.name, hits=1), received)
                    if there.boot != received.boot:
                        span = offset(received, self._plan.node.now(), Instant.now())  # as a ping tells it
                        injection = with_offset(injection, span.least, span.most)
                case Did.CLEARED:
                    over = Line(Told.CLEARED, there, injection.name, detail={"why": "Duration"})
                    injection = fold(injection, over, received)
                    injection = fold(injection, Line(Told.VERIFIED, there, injection.name), received)
        return injection

    def _restart(self) -> None:
        """All that is left is what was written down."""
        status = self._state.status.model_copy(
            update={"histories": self._looking.snapshot(), "injections": list(self._state.injections)}
        )
        written = FaultExperimentStatus.model_validate_json(json.dumps(status.to_json()))
        self._before_restart = written.marks
        self._state = State(written, tuple(written.injections))
        self._looking = self._look()
        self._looking.resume(written)


async def _end(looking: asyncio.Task[None]) -> None:
    looking.cancel()
    with suppress(asyncio.CancelledError):
        await looking


@pytest.fixture
async def ran(monkeypatch: pytest.MonkeyPatch) -> list[Ran]:
    monkeypatch.setattr(Instant, "now", classmethod(lambda cls: machine.get().now()))
    wanted = list(plans())
    pulse = Pulse()
    beating = asyncio.create_task(pulse.run())
    places = asyncio.Semaphore(AT_ONCE)

    async def run(plan: Plan, servers: Servers) -> Ran:
        async with places:
            return await Conducted(plan, servers, pulse).conduct()

    async with served([plan.script for plan in wanted]) as servers:
        done = await asyncio.gather(*(run(plan, servers) for plan in wanted))
    beating.cancel()
    return done


class Verifier:
    """What is not as it was, of one run."""

    def __init__(self, ran: Ran) -> None:
        self.ran = ran
        self.marks = {m.mark: m for m in ran.status.marks}
        self.moved = len({operator.boot for operator in ran.plan.operators}) > 1
        self.known = {m.boot: m for m in (*ran.plan.operators, ran.plan.node)}

    def here(self, moment: Any) -> int:
        """A stored moment as nanoseconds of this machine's boot-time clock."""
        return int(moment.nanos) - self.known[moment.boot].ahead

    def problems(self) -> Iterator[str]:
        truth = self.ran.truth
        down, up, cleared = truth[Did.DOWN], truth[Did.UP], truth[Did.CLEARED]
        yield from self.outside(Mark.ACTIVE, truth[Did.IN_FORCE], moved_by=WALL_CLOCKS_AGREE)
        yield from self.outside(Mark.CLEARED, cleared, moved_by=WALL_CLOCKS_AGREE)
        if Mark.FIRST_SYMPTOM in self.marks:
            yield from self.outside(Mark.FIRST_SYMPTOM, down)
            yield from self.outside(Mark.RECOVERED, up)
            over = max(up, cleared)
            second = 1_000_000_000
            yield from self.outside(Mark.STABLE, (over[0] + second, over[1] + second))
        elif self.ran.failures and self.ran.status.checks[0].spec.probes[0].failure_threshold == 1:
            yield f"{self.ran.failures} looks failed, but there is no symptom"
        if Mark.DETECTED in self.marks:
            yield from self.outside(Mark.DETECTED, truth.get(Did.ALARM, (0, 0)))
        elif self.ran.alarms:
            yield f"{self.ran.alarms} looks saw the alarm, but it was not detected"
        yield from self.lost()
        yield from self.figures()
        yield from self.verdict()

    def outside(self, mark: Mark, truth: tuple[int, int], moved_by: float = 0.0) -> Iterator[str]:
        found = self.marks.get(mark)
        if found is None:
            yield f"no {mark}"
            return
        least, most = self.here(found.earliest) - truth[1], self.here(found.latest) - truth[0]
        if not least <= 2_000 >= -most:  # stored in whole microseconds of UTC
            yield f"{mark} lies {least / 1e9:+.6f} to {most / 1e9:+.6f} s from the truth"

    def lost(self) -> Iterator[str]:
        """What was written before a restart is there after it."""
        for mark in self.ran.before_restart:
            now = self.marks.get(mark.mark)
            if now is None or (mark.mark not in (Mark.ACTIVE, Mark.CLEARED) and now != mark):
                yield f"{mark.mark} was {mark}, and after the restart {now}"

    def true_seconds(self) -> dict[str, tuple[float, float]]:
        """Of each figure that there is: not less, not more."""
        truth = self.ran.truth

        def between(one: Did, other: Did) -> tuple[float, float]:
            (a, b), (c, d) = truth[one], truth[other]
            return max(0, c - b) / 1e9, max(0, d - a) / 1e9

        seen = Mark.FIRST_SYMPTOM in self.marks
        found = {}
        if Mark.DETECTED in self.marks:
            found["detection"] = between(Did.IN_FORCE, Did.ALARM)
        elif seen:
            found["detection"] = between(Did.IN_FORCE, Did.DOWN)
        if seen:
            found["outage"] = between(Did.DOWN, Did.UP)
            found["recovery"] = between(Did.CLEARED, Did.UP)
        return found

    def figures(self) -> Iterator[str]:
        figures = self.ran.status.figures
        for name in ("activation", "detection", "outage", "recovery"):
            figure: Figure | None = getattr(figures, name)
            if figure and (figure.milliseconds < 0 or figure.plus_minus_milliseconds < 0):
                yield f"{name} is {figure}"
        for name, (least, most) in self.true_seconds().items():
            figure = getattr(figures, name)
            if figure is None:
                yield f"no {name}"
            elif not (
                figure.milliseconds - figure.plus_minus_milliseconds <= most * 1000 + 0.01
                and least * 1000 - 0.01 <= figure.milliseconds + figure.plus_minus_milliseconds
            ):
                yield f"{name} was {least:.4f} s, and is told as {figure}"

    def verdict(self) -> Iterator[str]:
        """A budget that was kept fails nobody, and one that was not passes nobody."""
        status = self.ran.status
        true = self.true_seconds()
        told = [(finding.reason, finding.message) for finding in status.findings]
        kept = not status.checks[0].spec.budgets.outage_seconds or all(least <= BUDGET for least, _ in true.values())
        broken = any(most > BUDGET for _, most in true.values())
        if status.verdict is Verdict.PASSED and not kept:
            yield f"Passed, though it took {true}"
        if status.verdict is Verdict.FAILED and not broken and {reason for reason, _ in told} != {"NotDetected"}:
            yield f"Failed, though it took {true}: {told}"
        if status.verdict not in (Verdict.PASSED, Verdict.FAILED, Verdict.INCONCLUSIVE):
            yield f"{status.verdict}: {told}"


def too_sure(status: FaultExperimentStatus) -> FaultExperimentStatus:
    """A timeline that takes a change for what the answer that showed it ended with."""
    marks = [mark.model_copy(update={"earliest": mark.latest}) for mark in status.marks]
    return status.model_copy(update={"marks": marks})


async def test_every_true_mark_lies_in_its_interval_and_no_figure_moves_with_a_wall_clock(ran: list[Ran]) -> None:
    found = [f"{each.plan}: {problem}" for each in ran for problem in Verifier(each).problems()]
    marks = Counter(str(m.mark) for each in ran for m in each.status.marks)
    found_by = Counter(f.reason for each in ran for f in each.status.findings[:1])
    widths = sorted(m.interval().width for each in ran for m in each.status.marks if m.mark is Mark.FIRST_SYMPTOM)
    print(f"{dict(marks)}; {dict(found_by)}; symptoms known to {widths[len(widths) // 2]:.3f} s")
    assert not found, "\n".join(found)
    shifted = [each for each in ran if list(Verifier(replace(each, status=too_sure(each.status))).problems())]
    assert len(shifted) > RUNS / 4, "who claims to know it exactly is wrong"
    assert min(marks[Mark.FIRST_SYMPTOM], marks[Mark.DETECTED]) > RUNS / 4, "who sees nothing proves nothing"
