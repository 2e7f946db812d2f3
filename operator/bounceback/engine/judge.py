"""The verdict: small questions in a fixed order; the first with an answer decides, all answers are reported."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from bounceback.api.experiment import FaultExperimentSpec
from bounceback.api.status import Aspects, Axes, FaultExperimentStatus, Finding, InjectionStatus
from bounceback.engine.budgets import budget_exceeded, unmeasured
from bounceback.engine.changing import against_healing
from bounceback.engine.client_behavior import judge_all, of_clients
from bounceback.engine.collapse import collapsed_early
from bounceback.engine.evidence import seconds_in_force
from bounceback.engine.finished import Run
from bounceback.engine.health import Health
from bounceback.engine.invariants import if_broken, if_undecided, invariant_results
from bounceback.engine.manual import not_as_manual
from bounceback.engine.performance import not_as_fast, performance
from bounceback.engine.proving import lasted, why_idle
from bounceback.engine.refusing import is_refused, refused_by_agent
from bounceback.engine.strategy import is_declared, not_as_declared
from bounceback.engine.timeline import figures, in_seconds
from bounceback.engine.working import account_findings, account_results
from bounceback.types.instants import Interval
from bounceback.types.outcome import (
    NOT_STARTED,
    Aspect,
    Cleanup,
    Expect,
    Impact,
    InjectionAxis,
    InjectionState,
    Judgement,
    Mark,
    StartState,
    Verdict,
)


def judge(
    spec: FaultExperimentSpec, status: FaultExperimentStatus, injections: Iterable[InjectionStatus], health: Health
) -> FaultExperimentStatus:
    """The status with figures, axes, aspects, findings and the verdict."""
    marks = {m.mark: m.interval() for m in status.marks}
    run = Run(spec, status, tuple(injections), health, invariant_results(status), figures(marks))
    found: dict[tuple[str, str], Finding] = {}
    for finding in (finding for ask in QUESTIONS for finding in ask(run)):
        found.setdefault((finding.reason, finding.message), finding)  # what ended a run another question finds, too
    findings = list(found.values())
    verdict = findings[0].verdict if findings else Verdict.PASSED
    measured = run.figures
    return status.model_copy(
        update={
            "figures": measured,
            "invariants": list(run.invariants),
            "findings": findings[:50],
            "verdict": verdict,
            "axes": axes(run),
            "aspects": aspects(run),
            "detected": in_seconds(measured.detection.milliseconds) if measured.detection else None,
            "recovered": in_seconds(measured.recovery.milliseconds) if measured.recovery else None,
        }
    )


def inconsistent(run: Run) -> Iterable[Finding]:
    """Lost or wrong data outweighs everything, also after an abort."""
    for result in run.invariants:
        if result.result is Judgement.FAILED:
            yield _finding(Verdict.FAILED, if_broken(result), f"{result.check}/{result.name}: {result.message}")
    yield from account_findings(run, Verdict.FAILED)


def left_behind(run: Run) -> Iterable[Finding]:
    for injection in run.injections:
        if injection.cleanup is Cleanup.LEFTOVER:
            left = ", ".join(injection.leftovers)
            yield _finding(Verdict.ERROR, "Leftover", f"{injection.name} left on {injection.on}: {left}")


def injection_failed(run: Run) -> Iterable[Finding]:
    for injection in run.injections:
        if injection.state is InjectionState.FAILED and not is_refused(injection):
            told = injection.message or injection.reason
            yield _finding(Verdict.ERROR, "InjectionFailed", f"{injection.fault} on {injection.on}: {told}")


def ended_early(run: Run) -> Iterable[Finding]:
    """Not steady, cancelled, frozen, an abort condition, refused."""
    if run.status.ending is not None and run.status.ending.verdict is not Verdict.ERROR:
        yield run.status.ending


def injection_refused(run: Run) -> Iterable[Finding]:
    """Each but the one for which the run ended."""
    for injection in filter(is_refused, run.injections):
        if (finding := refused_by_agent(run.spec, injection)) != run.status.ending:
            yield finding


def unproven(run: Run) -> Iterable[Finding]:
    """A fault that hit nothing says nothing about the system."""
    if not run.injections:
        if run.status.ending is None:
            yield _finding(
                Verdict.INCONCLUSIVE, "NothingInjected", "no injection was ever planned: no target was there"
            )
        return
    for start in run.status.starts:
        if start.state is StartState.NOT_STARTED:
            yield _finding(Verdict.INCONCLUSIVE, NOT_STARTED, f"{start.fault} never started: {start.message}")
    proof, begun = run.spec.proof, [i for i in run.injections if i.reason != NOT_STARTED and not is_refused(i)]
    hit = [i for i in begun if i.hits >= proof.min_hits]
    if len(hit) * 100 < proof.targets_percent * len(begun):
        idle = [i for i in begun if i.hits < proof.min_hits]
        names = ", ".join(i.name for i in idle)[:400]
        yield _finding(
            Verdict.INCONCLUSIVE,
            "FaultHitTooLittle" if hit else "FaultHitNothing",
            f"{len(hit)} of {len(begun)} injections had {proof.min_hits} hits or more, "
            f"{proof.targets_percent} % are asked for; idle: {names}; {why_idle(run, idle)}",
        )
    short = [i for i in begun if not lasted(run, i)]
    if (len(begun) - len(short)) * 100 < proof.targets_percent * len(begun):
        names = ", ".join(f"{i.name} {seconds_in_force(i):.1f} s" for i in short)[:400]
        yield _finding(
            Verdict.INCONCLUSIVE,
            "FaultTooShort",
            f"in force for less than {proof.duration_percent} % of the asked time: {names}",
        )


def unverified(run: Run) -> Iterable[Finding]:
    if names := [i.name for i in run.injections if i.cleanup is Cleanup.UNVERIFIED]:
        yield _finding(
            Verdict.INCONCLUSIVE, "CleanupUnverified", f"nobody could look for what was left: {', '.join(names)[:600]}"
        )


def unobserved(run: Run) -> Iterable[Finding]:
    """A gap over a deciding moment, or probes that never succeeded."""
    for problem in run.health.problems:
        yield _finding(Verdict.INCONCLUSIVE, "ProbeCannotWork", problem)
    for problem in run.health.never_healthy:
        yield _finding(Verdict.INCONCLUSIVE, "NeverHealthy", problem)
    probed = any(check.spec.probes for check in run.status.checks)
    if run.injections and probed and not any(view.samples for view in run.health.views):
        yield _finding(Verdict.INCONCLUSIVE, "NothingObserved", "no probe took a sample while the run lasted")
    yield from _gaps(run)


def _gaps(run: Run) -> Iterable[Finding]:
    """A gap decides where a moment was widened by it, or where it could hide what must not be."""
    for gap in run.health.gaps:
        for name in (Mark.FIRST_SYMPTOM, Mark.RECOVERED):
            mark = run.mark(name)
            if mark and gap.earliest.since(mark.earliest) >= 0 >= gap.latest.since(mark.latest):
                yield _gap(gap, f"around {name}")
        if run.mark(Mark.FIRST_SYMPTOM) is None and (asked := _symptoms_decide(run)):
            yield _gap(gap, f"in which a symptom could have passed unseen; {asked}")
    if run.spec.expect in KEPT_TO and run.health.error_state:
        for gap in run.health.error_state_gaps:
            yield _gap(gap, f"in which the error state could have been left; expect is {run.spec.expect}")


def _symptoms_decide(run: Run) -> str:
    """What was asked that a symptom which nobody saw would have broken; empty: nothing."""
    if run.spec.impact is Impact.FORBIDDEN:
        return "impact is Forbidden"
    bounded = (check.name for check in run.status.checks if check.spec.budgets.outage_seconds is not None)
    return next((f"{name} has a budgets.outageSeconds" for name in bounded), "")


def _gap(gap: Interval, where: str) -> Finding:
    return _finding(Verdict.INCONCLUSIVE, "ObservationGap", f"nobody was looking for {gap.width:.1f} s {where}")


def not_recovered(run: Run) -> Iterable[Finding]:
    fallen = _began(run) or (run.injections and run.health.unhealthy)  # in vain, but who knows what it did
    if fallen and run.cured and _probed(run) and run.mark(Mark.RECOVERED) is None and not run.health.problems:
        why = "; ".join(run.health.unhealthy) or run.status.message
        yield _finding(Verdict.FAILED, "NotRecovered", f"not healthy again after {run.cure}: {why}")


def not_healed(run: Run) -> Iterable[Finding]:
    """What objectFault.healing asks of the system; objects that were put right early were not left to it."""
    if run.status.ending is None:
        for reason, told in against_healing(run.spec, run.injections):
            yield _finding(Verdict.FAILED, reason, told)


def felt_though_forbidden(run: Run) -> Iterable[Finding]:
    if run.spec.impact is Impact.FORBIDDEN and run.mark(Mark.FIRST_SYMPTOM) is not None:
        yield _finding(
            Verdict.FAILED, "Felt", f"impact is Forbidden, but {_source(run, Mark.FIRST_SYMPTOM)} saw a symptom"
        )


def misbehaved(run: Run) -> Iterable[Finding]:
    """What checks ask of clients of the Kubernetes API, by what the proxies before them saw."""
    seen = of_clients(run.spec.faults, run.injections)
    for check in run.status.checks:
        wanted = check.spec.client_behavior
        if wanted is None or not _began(run):
            continue
        if not seen:
            told = f"{check.name}: clientBehavior is asked for, but no fault on a client of the Kubernetes API saw any"
            yield _finding(Verdict.INCONCLUSIVE, "BehaviorUnseen", told)
        for answer in judge_all(wanted, seen):
            told = f"{check.name}: clientBehavior.{answer.field}: {answer.seen}"
            if answer.result is Judgement.FAILED:
                yield _finding(Verdict.FAILED, "ClientMisbehaved", told)
            elif answer.result is Judgement.INCONCLUSIVE:
                yield _finding(Verdict.INCONCLUSIVE, "BehaviorUndecided", told)


def not_safe(run: Run) -> Iterable[Finding]:
    """FailSafe and Manual: the declared error state must be reached and held."""
    if run.spec.expect not in KEPT_TO or not run.injections:
        return
    if run.health.error_state is None:
        told = f"expect is {run.spec.expect}, but no check declares errorState probes"
        yield _finding(Verdict.INCONCLUSIVE, "ErrorStateUnknown", told)
    elif not run.health.error_state and (run.spec.expect is Expect.FAIL_SAFE or run.mark(Mark.REPAIR_BEGAN)):
        yield _finding(Verdict.FAILED, "ErrorStateNotHeld", "the declared error state was not reached and held")


def not_felt(run: Run) -> Iterable[Finding]:
    asked = "expect is Manual" if run.spec.expect is Expect.MANUAL else "impact is Required"
    required = run.spec.expect is Expect.MANUAL or run.spec.impact is Impact.REQUIRED
    if required and run.injections and run.mark(Mark.FIRST_SYMPTOM) is None:
        yield _finding(Verdict.INCONCLUSIVE, "NotFelt", f"{asked}, but no probe saw a symptom")


def not_detected(run: Run) -> Iterable[Finding]:
    """A system that was asked to notice (within a time, or to be repaired then), by what it declares, and never did."""
    manual = run.spec.expect is Expect.MANUAL
    for check in run.status.checks:
        wanted = (manual or check.spec.budgets.detect_seconds is not None) and check.spec.noticing
        if wanted and run.injections and run.mark(Mark.DETECTED) is None and run.mark(Mark.FIRST_SYMPTOM) is not None:
            yield _finding(Verdict.FAILED, "NotDetected", f"{check.name}: none of its detection signals ever held")


def named_wrongly(run: Run) -> Iterable[Finding]:
    """A system that noticed, and never told rightly what the trouble is, though somebody declared what is right."""
    if _began(run) and run.health.named_rightly is False:
        for told in run.health.named_wrongly:
            yield _finding(Verdict.FAILED, "NamedWrongly", told)


def undecided(run: Run) -> Iterable[Finding]:
    for result in run.invariants:
        if result.result is Judgement.INCONCLUSIVE and run.injections:
            told = f"{result.check}/{result.name}: {result.message}"
            yield _finding(Verdict.INCONCLUSIVE, if_undecided(result), told)
    yield from account_findings(run, Verdict.INCONCLUSIVE)


KEPT_TO: Final = (Expect.FAIL_SAFE, Expect.MANUAL)
"""Outcomes with an error state that must be kept to."""
RECOVERY_FAILED: Final = (
    not_recovered,
    not_healed,
    collapsed_early,
    felt_though_forbidden,
    not_safe,
    not_detected,
    not_as_manual,
    named_wrongly,
)
QUESTIONS: Final[tuple[Callable[[Run], Iterable[Finding]], ...]] = (
    inconsistent,
    left_behind,
    injection_failed,
    ended_early,
    injection_refused,
    unproven,
    unverified,
    unobserved,
    lambda run: _only(Verdict.FAILED, _recovery_findings(run)),
    lambda run: _only(Verdict.INCONCLUSIVE, _recovery_findings(run)),
    undecided,
)


def _recovery_findings(run: Run) -> list[Finding]:
    return [
        f
        for ask in (*RECOVERY_FAILED, budget_exceeded, unmeasured, not_as_fast, misbehaved, not_as_declared, not_felt)
        for f in ask(run)
    ]


def _only(verdict: Verdict, findings: Iterable[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.verdict is verdict]


def axes(run: Run) -> Axes:
    """Each axis by its own questions alone."""
    return Axes(
        injection=_injection_axis(run),
        recovery=_recovery_axis(run),
        consistency=_consistency(run),
        cleanup=_cleanup_axis(run),
    )


def _injection_axis(run: Run) -> InjectionAxis:
    if any(injection.state is InjectionState.FAILED for injection in run.injections):
        return InjectionAxis.FAILED
    if not run.injections or any(unproven(run)):
        return InjectionAxis.UNPROVEN
    return InjectionAxis.PROVEN


def _recovery_axis(run: Run) -> Judgement:
    found = {f.verdict for f in _recovery_findings(run)}
    if Verdict.FAILED in found:
        return Judgement.FAILED
    nothing_to_see = not _began(run) or not _probed(run) or any(unobserved(run))
    return Judgement.INCONCLUSIVE if found or nothing_to_see else Judgement.PASSED


def _cleanup_axis(run: Run) -> Cleanup:
    found = {i.cleanup for i in run.injections}
    return next((c for c in (Cleanup.LEFTOVER, Cleanup.UNVERIFIED) if c in found), Cleanup.CLEAN)


def _consistency(run: Run) -> Judgement:
    return _worst([*(result.result for result in run.invariants), *account_results(run)])


def _worst(results: Iterable[Judgement]) -> Judgement:
    found = set(results)
    return next((j for j in (Judgement.FAILED, Judgement.INCONCLUSIVE) if j in found), Judgement.PASSED)


def aspects(run: Run) -> Aspects:
    """NotChecked where nothing was declared that could tell."""
    declared = any(check.spec.noticing for check in run.status.checks)
    detection = Aspect.NOT_CHECKED
    if declared and _began(run):
        detection = Aspect.PASSED if run.mark(Mark.DETECTED) else Aspect.FAILED
    success = Aspect.NOT_CHECKED
    if _probed(run) and _began(run):
        success = Aspect(_recovery_axis(run))
    consistency = Aspect.NOT_CHECKED
    if (run.invariants or run.status.workloads) and run.injections:
        consistency = Aspect(_consistency(run))
    return Aspects(
        detection=detection,
        categorization=_categorization(run),
        strategy=_strategy(run),
        success=success,
        consistency=consistency,
        performance=performance(run),
    )


def _categorization(run: Run) -> Aspect:
    """Whether the system told what the trouble is, where somebody declared what is right."""
    if run.health.named_rightly is None or not _began(run):
        return Aspect.NOT_CHECKED
    return Aspect.PASSED if run.health.named_rightly else Aspect.FAILED


def _strategy(run: Run) -> Aspect:
    """How clients of the Kubernetes API took it, and whether what the check declares was seen, where it asks."""
    asked = is_declared(run) or any(check.spec.client_behavior is not None for check in run.status.checks)
    if not _began(run) or not asked:
        return Aspect.NOT_CHECKED
    found = {finding.verdict for ask in (misbehaved, not_as_declared) for finding in ask(run)}
    if Verdict.FAILED in found:
        return Aspect.FAILED
    return Aspect.INCONCLUSIVE if found else Aspect.PASSED


def _began(run: Run) -> bool:
    """Whether anything was ever in force: otherwise there is nothing to detect, and nothing to recover from."""
    return any(injection.in_force_at for injection in run.injections)


def _probed(run: Run) -> bool:
    return any(check.spec.probes for check in run.status.checks)


def _source(run: Run, mark: Mark) -> str:
    return next((m.source for m in run.status.marks if m.mark is mark), "")


def _finding(verdict: Verdict, reason: str, message: str) -> Finding:
    return Finding(verdict=verdict, reason=reason, message=message[:1024])
