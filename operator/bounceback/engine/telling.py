"""What is worth telling of a check that watches by itself: what is written at once, and what becomes an event."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bounceback.api.check_status import ContinuousStatus, Outage
from bounceback.api.status import Figure
from bounceback.engine.conditions import CANNOT_LOOK
from bounceback.engine.outages import NEVER_HEALTHY, NOBODY_LOOKS
from bounceback.types.outcome import Judgement


@dataclass(frozen=True, slots=True)
class Told:
    """An event."""

    reason: str
    message: str
    warning: bool = False


def news_of(record: ContinuousStatus) -> tuple[object, ...]:
    """What must be written at once when it changes; all else may wait for the next heartbeat."""
    lasting = record.outage
    return (
        record.state,
        record.reason,
        record.message if record.reason == CANNOT_LOOK else "",
        record.totals.outages,
        record.totals.ended,
        lasting and (len(lasting.marks), lasting.experiments, lasting.check_changed),
    )


def happenings(before: ContinuousStatus | None, after: ContinuousStatus) -> Iterator[Told]:
    """What came between two writes, the oldest first; of outages those that are kept."""
    begun, ended = (before.totals.outages, before.totals.ended) if before else (0, 0)
    over = list(reversed(after.outages[: after.totals.ended - ended]))
    for outage in (*over, *([after.outage] if after.outage else [])):
        if outage.number > begun:
            yield Told("OutageBegan", f"outage {outage.number} since {_began(outage)}: {outage.symptom}", warning=True)
        if outage is not after.outage:
            yield _ended(outage)
    worse = before is None or (before.reason, before.message) != (after.reason, after.message)
    if worse and after.reason in (CANNOT_LOOK, NEVER_HEALTHY, NOBODY_LOOKS):
        yield Told(after.reason, after.message, warning=True)


def _ended(outage: Outage) -> Told:
    assert outage.lasted is not None
    words = f"outage {outage.number}, since {_began(outage)}, lasted {told(outage.lasted)}"
    words += f", detected after {told(outage.detection)}" if outage.detection else ""
    words += f"; {cause(outage)}"
    if outage.budgets is Judgement.FAILED:
        return Told("BudgetExceeded", f"{words}; longer than the check's budgets allow", warning=True)
    return Told("OutageEnded", words)


def cause(outage: Outage) -> str:
    """In words: an experiment, or nobody."""
    if not outage.experiments:
        return "no experiment was under way"
    return f"as experiment{'s' if len(outage.experiments) > 1 else ''} {', '.join(outage.experiments)} was under way"


def told(figure: Figure) -> str:
    """1.4 s ±0.2, in as many decimals as the milliseconds bear."""
    return f"{figure.milliseconds / 1000:.3g} s ±{figure.plus_minus_milliseconds / 1000:.2g}"


def _began(outage: Outage) -> str:
    return outage.began.latest.rfc3339()
