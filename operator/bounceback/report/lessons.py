"""What a run teaches: how the system failed, the limits that were found, and what to look at next.

All of it is read off the status; nothing is guessed that was not seen. What to look at next is advice, and says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from pydantic import Field

from bounceback.api.status import Figure
from bounceback.report.redact import redact
from bounceback.report.subject import Subject
from bounceback.report.words import count, figure, rate, seconds
from bounceback.types.fields import Model
from bounceback.types.outcome import Aspect, CollapseState, Mark, Verdict

MOST: Final = 12
"""Lines of each kind."""

MODES: Final = {
    "NotRecovered": "once hit, it does not come back by itself",
    "NotDetected": "it is in trouble and does not say so",
    "DetectedTooLate": "it says that it is in trouble only after somebody has come",
    "NamedWrongly": "it calls the trouble by another name",
    "ErrorStateNotHeld": "it does not go to its declared error state, or leaves it early",
    "StrategyNotSeen": "it does not react as its check declares",
    "CameBackByItself": "it goes on by itself where it should call for somebody",
    "RepairFailed": "what the runbook says does not repair it",
    "InvariantBroken": "it loses, doubles or contradicts its data",
    "PromiseBroken": "what it acknowledges is not true afterwards",
    "DiffersFromReference": "it leaves behind what it would not without the fault",
    "DiffersFromBefore": "it does not come back to what it was",
    "NotHealed": "it does not put right what was changed",
    "HealedThoughForbidden": "it puts right what was to stay changed",
    "Felt": "it lets through what nobody was to notice",
    "PerformanceNotBack": "it comes back slower than it was",
    "CollapsedEarly": "it breaks down under less than it should bear",
    "ClientMisbehaved": "its client of the Kubernetes API does not react as it should",
    "BudgetExceeded": "it takes longer than it may",
}
"""What a finding of the verdict Failed says of the system."""

NEXT: Final = {
    "NotDetected": "an alert or a condition for this trouble, and whether its threshold is reached within the fault",
    "DetectedTooLate": "the period and threshold of the alert",
    "NamedWrongly": "how errors of this dependency are told from others where they are caught",
    "ErrorStateNotHeld": "the code that decides to refuse: what it takes for a sign of health",
    "StrategyNotSeen": "whether the code path is there, and the signal: a metric or a line by which it would show",
    "CameBackByItself": "what resets the error state: a timer, a restart, a success of something else",
    "RepairFailed": "the end of the repair's log, and the runbook",
    "InvariantBroken": "when writes are acknowledged, and what happens to those under way when a dependency fails",
    "PromiseBroken": "the operations named in the account: when they were acknowledged, and what was durable by then",
    "DiffersFromReference": "clean-up after a failed attempt: names made anew with every try are a usual cause",
    "DiffersFromBefore": "who writes what differs, and whether a mask should say that it may: a count, a time of day",
    "NotHealed": "whether a controller watches this object, and compares this field with what it should be",
    "HealedThoughForbidden": "who else writes this object: a controller, or a tool that applies it again",
    "Felt": "what the first symptom went through: that redundancy did not carry it",
    "PerformanceNotBack": "caches that begin cold, queues that are worked off, retries that go on",
    "CollapsedEarly": "timeouts and retries against this strength: many retries are load of their own",
    "ClientMisbehaved": "the client library's settings for retries, Retry-After and re-lists",
    "BudgetExceeded": "where the time went: the marks say whether detecting, failing over or coming back is slow",
    "FaultHitNothing": "whether the target talks to these peers at all, by these ports, while the fault lasts",
    "FaultHitTooLittle": "which targets were idle; a workload in the check keeps all of them busy",
    "NeverHealthy": "the probe: it was never healthy, which tells as much of its address as of the system",
    "ProbeCannotWork": "the field that is named: what it needs is a right, a Secret or a server that answers",
    "ObservationGap": "the operator's pod: it was away, or too late, at a moment that decides",
    "BudgetUndecided": "a shorter period of the probes: the figure is known too vaguely for its budget",
    "Leftover": "what is listed as left behind; it is not the system's, and must be removed by hand",
}
"""By the reason of a finding: where to look."""

RETURN: Final = {
    "network": "connections that outlived the fault: time-outs, keep-alives, and pools that keep what failed",
    "connection": "connections that were reset or cut: whether they are opened anew, and by whom",
    "dns": "addresses that are kept: how long, and whether they are looked up again after a failure",
    "tls": "what is kept of a failed handshake, and whether certificates are read again",
    "api": "retries with back-off, and a new list after a watch that broke",
    "auth": "whether the token is read again: it is renewed in its file",
    "object": "whether the controller watches this object, and what it does if it is another or gone",
    "pod": "state that a killed process leaves: locks, sockets, half-written files; and the order of start-up",
    "container": "state that a killed process leaves: locks, sockets, half-written files; and the order of start-up",
    "process": "state that a stopped or killed process leaves, and who waits for it",
    "node": "whether the pods may run elsewhere: budgets, affinities, volumes",
    "clock": "what compares times of two machines, or takes the clock for a counter",
    "file": "whether files are checked before they are believed, and read again",
    "io": "whether an error of the disk is taken for the end of the service",
}
"""What did not come back, by the first word of the kind of fault."""
PRESSED: Final = "limits that are reached and never left: open circuit breakers, exhausted pools, threads that wait"

UNCHECKED: Final = {
    "detection": "detection in the check: nobody asked whether the system itself noticed",
    "strategy": "a signal with tells: Strategy: whether it retries, fails over or opens a circuit as declared",
    "categorization": "category beside a signal: whether it names the trouble rightly",
    "consistency": "invariants, or a workload: nothing was said of lost or doubled data",
    "performance": "performance with a workload: whether it is as fast again as it was",
}
"""Of a run that passed: what it says nothing about."""


@dataclass(frozen=True, slots=True)
class Lessons:
    """Sentences, without what looks like a credential."""

    modes: tuple[str, ...]
    limits: tuple[str, ...]
    next: tuple[str, ...]

    def parts(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Each with its title; only those that say something."""
        titled = (("Failure modes", self.modes), ("Limits found", self.limits), ("What to look at next", self.next))
        return tuple(part for part in titled if part[1])


class RecordLessons(Model):
    """The same for programs."""

    failure_modes: list[str] = Field(default_factory=list, description="How the system failed, as it was seen.")
    limits: list[str] = Field(default_factory=list, description="What was measured, beside what is allowed.")
    next: list[str] = Field(default_factory=list, description="Advice: where to look, or what was not asked.")


def record_lessons(subject: Subject) -> RecordLessons:
    found = lessons(subject)
    return RecordLessons(failure_modes=list(found.modes), limits=list(found.limits), next=list(found.next))


def lessons(subject: Subject) -> Lessons:
    """Of a finished run; of repeated ones what each is listed with, and all else of the last."""
    return Lessons(_told(_modes(subject)), _told(_limits(subject)), _told(_next(subject)))


def _told(lines: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(redact(line) for line in lines))[:MOST]


def _found(subject: Subject) -> Iterator[tuple[Verdict, str]]:
    """Verdict and reason of each finding; where runs are repeated these only count them, so of each run, too."""
    runs = subject.status.runs
    yield from ((finding.verdict, finding.reason) for finding in subject.status.findings)
    yield from ((each.verdict, each.reason) for each in (runs.listed if runs else ()))


def _modes(subject: Subject) -> Iterator[str]:
    """How it failed: what broke a promise first, then what was seen of it from outside."""
    status = subject.status
    for verdict, reason in _found(subject):
        if verdict is Verdict.FAILED and reason in MODES:
            yield f"{MODES[reason]} ({reason})"
    for work in status.workloads:
        for flaw in work.flaws:
            if flaw.count:
                yield f"{flaw.flaw}: {count(flaw.count, 'operation')} of {work.check}" + (
                    ", as the check allows" if flaw.allowed else ""
                )
    if subject.mark(Mark.FIRST_SYMPTOM) is not None:
        for view in status.views:
            yield from (f"it shows as {view.name}/{symptom}" for symptom in view.symptoms)
    for injection in status.injections:
        if injection.restarts:
            yield f"containers of {injection.on} were started again {count(injection.restarts, 'time')}"


def _limits(subject: Subject) -> Iterator[str]:
    status, figures = subject.status, subject.status.figures
    for each in status.collapses:
        if each.state is not CollapseState.UNDECIDED:
            yield f"{each.fault} {each.message}"
    budgets = [check.spec.budgets for check in status.checks]
    for what, found, allowed in (
        ("notices within", figures.detection, [b.detect_seconds for b in budgets]),
        ("is down for", figures.outage, [b.outage_seconds for b in budgets]),
        ("is back within", figures.recovery, [b.recover_seconds for b in budgets]),
    ):
        if found is not None:
            yield f"{what} {_of(found, [each for each in allowed if each is not None])}"
    for work in status.workloads:
        if (pace := work.performance) is not None and pace.before.per_second and pace.during.seconds:
            share = round(100 * pace.during.per_second / pace.before.per_second)
            yield f"under the fault {work.check} has {share} % of its throughput ({pace.during.per_second:,.1f}/s)"
    if told := rate(subject):
        yield told


def _of(found: Figure, allowed: list[int]) -> str:
    bound = f", {min(allowed)} s are allowed" if allowed else ", no budget is set"
    return f"{figure(found)}{bound}"


def _next(subject: Subject) -> Iterator[str]:
    status = subject.status
    for _, reason in _found(subject):
        if reason == "NotRecovered":
            yield from _what_did_not_return(subject)
        elif reason in NEXT:
            yield NEXT[reason]
    if status.verdict is Verdict.PASSED:
        yield from _beyond(subject)


def _what_did_not_return(subject: Subject) -> Iterator[str]:
    for entry in subject.spec.faults:
        kind = entry.fault.kind
        if kind.endswith("Pressure"):
            yield PRESSED
        elif words := next((words for start, words in RETURN.items() if kind.startswith(start)), ""):
            yield words


def _beyond(subject: Subject) -> Iterator[str]:
    """What a run that passed leaves open."""
    status, spec = subject.status, subject.spec
    if status.aspects is not None:
        asked = status.aspects.to_json()
        yield from (words for name, words in UNCHECKED.items() if asked.get(name) == Aspect.NOT_CHECKED)
    if subject.mark(Mark.FIRST_SYMPTOM) is None:
        yield "a longer or stronger fault: no probe saw a symptom, so nothing had to come back"
    for target in spec.targets:
        chosen = status.targets.get(target.name, 0)
        if chosen < status.matching.get(target.name, chosen):
            yield f"all of {target.name}: {chosen} of {status.matching[target.name]} were hit"
    if spec.runs is None:
        yield f"runs: it passed once, in {seconds(subject.length)}, and that is no rate"
