"""How figures and outcomes are put into words, the same in every report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from bounceback.api.status import Axes, Figure, InjectionStatus
from bounceback.engine.repeats import so_far
from bounceback.faults import KINDS
from bounceback.report.subject import Subject
from bounceback.types.outcome import Cleanup, HealedBy, InjectionAxis, Judgement, Mark, RepairState, Verdict

GOOD, BAD, UNCLEAR = "good", "bad", "unclear"

TONES: Final[dict[str, str]] = {
    Verdict.PASSED: GOOD,
    Verdict.FAILED: BAD,
    Verdict.INCONCLUSIVE: UNCLEAR,
    Verdict.ABORTED: UNCLEAR,
    Verdict.ERROR: BAD,
    InjectionAxis.PROVEN: GOOD,
    InjectionAxis.UNPROVEN: UNCLEAR,
    Cleanup.CLEAN: GOOD,
    Cleanup.LEFTOVER: BAD,
    Cleanup.UNVERIFIED: UNCLEAR,
}
"""Whether an outcome is good news; all axes and verdicts are there."""

MARKS: Final[dict[Mark, str]] = {
    Mark.PLANNED: "planned",
    Mark.ACTIVE: "active",
    Mark.FIRST_SYMPTOM: "first symptom",
    Mark.DETECTED: "detected",
    Mark.CLEARED: "cleared",
    Mark.REPAIR_BEGAN: "repair began",
    Mark.REPAIRED: "repaired",
    Mark.RECOVERED: "recovered",
    Mark.STABLE: "stable",
    Mark.CONSISTENT: "consistent",
}


REPAIRS: Final[dict[RepairState, str]] = {
    RepairState.DONE: "repaired",
    RepairState.FAILED: "the repair failed",
    RepairState.NOT_RUN: "the repair was not run",
    RepairState.UNKNOWN: "nobody knows how the repair ended",
}


def recovered_from(subject: Subject) -> str:
    """What the recovery is measured from."""
    return "cleared" if subject.mark(Mark.REPAIR_BEGAN) is None else "repair began"


def seconds(value: float) -> str:
    """5.0 s; below 0.1 s in milliseconds, above two minutes in minutes and seconds."""
    if value == 0:
        return "0 s"
    if abs(value) < 0.0995:
        return f"{round(value * 1000)} ms"
    if value < 120:
        return f"{value:.1f} s"
    return f"{int(value // 60)} min {int(value % 60)} s"


def size(bytes_: int) -> str:
    """12 KiB, 3.4 MiB."""
    return f"{bytes_ / 2**20:.1f} MiB" if bytes_ >= 2**20 else f"{max(1, round(bytes_ / 1024))} KiB"


def figure(value: Figure) -> str:
    """1.4 s ±0.2, with as many decimals as the uncertainty bears."""
    middle, error = value.milliseconds / 1000, value.plus_minus_milliseconds / 1000
    decimals = 1 if error >= 0.05 else 2 if error >= 0.005 else 3
    return f"{middle:.{decimals}f} s ±{error:.{decimals}f}"


def axes(found: Axes) -> str:
    return (
        f"injection {found.injection} · recovery {found.recovery} · "
        f"consistency {found.consistency} · cleanup {found.cleanup}"
    )


def count(number: int, what: str) -> str:
    """1 pod, 2 pods."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def hits(subject: Subject) -> str:
    """1,284 packets delayed, 2 pods deleted; "" where nothing was hit."""
    words = {kind.kind: kind.hit_words for kind in KINDS}
    total: Counter[str] = Counter()
    for injection in subject.status.injections:
        total[words.get(subject.kind_of(injection.fault), "hits")] += injection.hits
    if len(total) == 1 and subject.status.injection_counts.hits:
        return f"{subject.status.injection_counts.hits:,} {next(iter(total))}"
    return ", ".join(f"{number:,} {what}" for what, number in total.items() if number)


def outcome(injection: InjectionStatus) -> str:
    """Why it is in its state: Duration; and what became of the target: put right, started again, followed."""
    return ", ".join(filter(None, (injection.reason, *_became(injection))))


def _became(injection: InjectionStatus) -> Iterator[str]:
    if healed := injection.healed:
        by = "by the system" if healed.by is HealedBy.SYSTEM else "by our undo"
        yield f"put right {by} after {seconds(healed.milliseconds / 1000)}"
    if injection.restarts:
        yield f"{count(injection.restarts, 'restart')} of its containers"
    if injection.replaced_by:
        yield f"its place taken by {injection.replaced_by}"
    if injection.replaces:
        gap = injection.gap_milliseconds
        yield "takes another's place" + ("" if gap is None else f" after {seconds(gap / 1000)} without a fault")
    if injection.host_network:
        yield "in its node's own network"


def summary(subject: Subject) -> list[str]:
    """What a terminal shows of a finished experiment: what happened, the verdict with its axes, what was found."""
    status = subject.status
    column = max(len(subject.name), len(status.verdict or "")) + 2
    last = f"run {status.runs.told}: " if status.runs else ""
    lines = [f"{subject.name:<{column}}{last}{' ▸ '.join(_story(subject))}"]
    if status.verdict is not None:
        told = rate(subject) or (axes(status.axes) if status.axes else "")
        lines.append(f"{status.verdict:<{column}}{told}".rstrip())
        lines += [f"{'':<{column}}{line}" for line in over_all(subject)]
    lines += [f"{'':<{column}}{found.fault} {found.message}" for found in status.collapses]
    lines += [f"{'':<{column}}{finding.reason}: {finding.message}" for finding in status.findings]
    return lines


def rate(subject: Subject) -> str:
    """17 of 20 runs passed: 85 % (64 to 94.8 % at 95 % confidence), 90 % asked for; "" for a single run."""
    asked, runs = subject.spec.runs, subject.status.runs
    if asked is None or runs is None:
        return ""
    share = asked.required_success_percent
    return so_far(asked, runs) + (f", {share} % asked for" if share is not None else ", each asked for")


def over_all(subject: Subject) -> list[str]:
    """A line each: recovery in 20 runs: half within 1.2 s, 9 of 10 within 1.9 s, all within 2.4 s."""
    runs = subject.status.runs
    return [
        f"{each.figure} in {each.runs} run{'' if each.runs == 1 else 's'}: half within "
        f"{seconds(each.p50_milliseconds / 1000)}, 9 of 10 within {seconds(each.p90_milliseconds / 1000)}, "
        f"all within {seconds(each.most_milliseconds / 1000)}"
        for each in (runs.percentiles if runs else ())
        if each.figure != "activation"
    ]


def _story(subject: Subject) -> list[str]:
    status, figures = subject.status, subject.status.figures
    if subject.never_injected:
        return ["nothing was injected"]
    story = [f"steady {seconds(subject.spec.steady_state.hold_seconds)}", _who(subject)]
    touched = hits(subject)
    if figures.activation is not None:
        after = f"active after {seconds(figures.activation.milliseconds / 1000)}"
        story.append(f"{after} ({touched})" if touched else after)
    else:
        story.append("nothing was hit")
    counts = status.injection_counts
    gone = counts.cleared + counts.failed
    story.append(_healed(subject) or ("cleared" if gone == counts.total else f"cleared on {gone} of {counts.total}"))
    if repair := _repair(subject):
        story.append(repair)
    story.append(_return(subject))
    return story


def _repair(subject: Subject) -> str:
    """repaired in 2.1 s ±0.3; "" where nothing was to be."""
    repair, figure_ = subject.status.repair, subject.status.figures.repair
    if repair is None:
        return ""
    if repair.state is RepairState.DONE:
        return f"repaired in {figure(figure_)}" if figure_ else "repaired"
    return REPAIRS.get(repair.state, "not repaired")


def _healed(subject: Subject) -> str:
    """Where every object that was changed was put right by the system: how long that took. "" elsewhere."""
    injections = subject.status.injections
    took = [i.healed.milliseconds for i in injections if i.healed is not None and i.healed.by is HealedBy.SYSTEM]
    if not took or len(took) < subject.status.injection_counts.total:
        return ""
    return f"healed by the system after {seconds(max(took) / 1000)}"


def _who(subject: Subject) -> str:
    return ", ".join(f"{fault.name} on {_share(subject, fault.target)}" for fault in subject.spec.faults)


def _share(subject: Subject, target: str) -> str:
    """2 pods, or 2/4 pods where not all that match were chosen."""
    chosen = subject.status.targets.get(target, 0)
    matching = subject.status.matching.get(target, chosen)
    noun = next((each.noun for each in subject.spec.targets if each.name == target), "pod")
    return count(chosen, noun) if matching == chosen else f"{chosen}/{count(matching, noun)}"


def _return(subject: Subject) -> str:
    status = subject.status
    if status.figures.recovered_under_fault:
        return "recovered before it was cleared"
    if subject.mark(Mark.FIRST_SYMPTOM) is None:
        passed = status.axes is not None and status.axes.recovery is Judgement.PASSED
        return "nobody noticed" if passed else "no symptom was seen"
    if status.figures.recovery is not None:
        return f"recovered in {figure(status.figures.recovery)}"
    return "not recovered"
