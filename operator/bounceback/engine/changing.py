"""What becomes of an injection that changes objects."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from bounceback.api.experiment import FaultExperimentSpec
from bounceback.api.status import Healed, InjectionStatus, Moment
from bounceback.engine.evidence import DONE
from bounceback.engine.naming import injection_name
from bounceback.engine.originals import Originals
from bounceback.engine.planning import Chosen
from bounceback.faults import ObjectFault
from bounceback.types.instants import Instant
from bounceback.types.objects import Change
from bounceback.types.outcome import Cleanup, HealedBy, Healing, InjectionState

TARGET_GONE: Final = "TargetGone"


def changed(injection: InjectionStatus, at: Instant, objects: int) -> InjectionStatus:
    """It is in force: so many objects are changed."""
    if injection.state is not InjectionState.PLANNED:
        return injection
    moment = Moment.of(at)
    return injection.model_copy(
        update={
            "state": InjectionState.ACTIVE,
            "hits": objects,
            "in_force_at": moment,
            "first_hit_at": moment if objects else None,
            "clock_offset_milliseconds": 0,
        }
    )


def set_back(injection: InjectionStatus, at: Instant) -> InjectionStatus:
    """Somebody had written what is kept, and it was written again."""
    if injection.state in DONE:
        return injection
    first = injection.first_hit_at or Moment.of(at)
    return injection.model_copy(update={"hits": injection.hits + 1, "first_hit_at": first})


def healed(injection: InjectionStatus, at: Instant) -> InjectionStatus:
    """The system has put it right, all by itself."""
    return _over(injection, at, "Healed", HealedBy.SYSTEM)


def undone(injection: InjectionStatus, at: Instant, reason: str, left_alone: Iterable[str] = ()) -> InjectionStatus:
    """We have put right what we had changed; `left_alone` are the parts that others have changed, too."""
    paths = sorted(set(left_alone))
    told = f"others have changed {', '.join(paths)} meanwhile: left as they are" if paths else ""
    return _over(injection, at, reason, HealedBy.UNDO, told)


def target_gone(injection: InjectionStatus, at: Instant) -> InjectionStatus:
    """It was deleted, or made anew, by somebody else: nothing of ours is there."""
    return _over(injection, at, TARGET_GONE, None)


def never_begun(injection: InjectionStatus, at: Instant, reason: str = "NeverBegun") -> InjectionStatus:
    """It was ended before anything was changed."""
    return _over(injection, at, reason, None) if injection.state is InjectionState.PLANNED else injection


def refused(injection: InjectionStatus, reason: str, message: str) -> InjectionStatus:
    """It could not be brought about, and nothing of it is there."""
    if injection.state in DONE:
        return injection
    return injection.model_copy(
        update={
            "state": InjectionState.FAILED,
            "reason": reason[:64],
            "message": message[:512],
            "cleanup": Cleanup.CLEAN,
        }
    )


def left(injection: InjectionStatus, at: Instant, leftovers: Iterable[str], message: str) -> InjectionStatus:
    """It could not be put back: `leftovers` are the objects."""
    over = injection if injection.state in DONE else _over(injection, at, "NotUndone", None)
    return over.model_copy(
        update={
            "cleanup": Cleanup.LEFTOVER,
            "leftovers": [each[:200] for each in leftovers][:10],
            "message": message[:512],
        }
    )


def _over(
    injection: InjectionStatus, at: Instant, reason: str, by: HealedBy | None, message: str = ""
) -> InjectionStatus:
    if injection.state in DONE:
        return injection
    begun = injection.in_force_at
    healing = None
    if by is not None and begun is not None:
        healing = Healed(by=by, milliseconds=max(0, round(at.since(begun.instant()) * 1000)))
    return injection.model_copy(
        update={
            "state": InjectionState.CLEARED,
            "reason": reason,
            "message": message[:512],
            "cleared_at": Moment.of(at),
            "clock_offset_milliseconds": 0,
            "healed": healing,
            "cleanup": Cleanup.CLEAN,
        }
    )


def against_healing(spec: FaultExperimentSpec, injections: Iterable[InjectionStatus]) -> Iterator[tuple[str, str]]:
    """(reason, message) for each object that was put right by somebody else than objectFault.healing wants."""
    entries = {entry.name: entry for entry in spec.faults}
    for injection in injections:
        entry, healed = entries[injection.fault], injection.healed
        if not isinstance(entry.fault, ObjectFault):
            continue
        told = f"{entry.name} on {injection.on}"
        if healed is None:
            deleted = injection.reason == TARGET_GONE and injection.in_force_at is not None
            if deleted and entry.fault.healing is Healing.REQUIRED:
                yield "NotHealed", f"{told}: it was deleted by others, and nobody made it again"
            continue
        after = healed.milliseconds / 1000
        if entry.fault.healing is Healing.REQUIRED and healed.by is HealedBy.UNDO:
            yield (
                "NotHealed",
                f"{told}: the system did not put it right within {entry.duration_seconds} s; our undo did",
            )
        if entry.fault.healing is Healing.FORBIDDEN and healed.by is HealedBy.SYSTEM:
            yield (
                "HealedThoughForbidden",
                f"{told}: healing is Forbidden, but the system put it right after {after:.1f} s",
            )


def originals_of(
    spec: FaultExperimentSpec, namespace: str, experiment: str, run: str, chosen: Iterable[Chosen]
) -> Originals | None:
    """Of the changes that were chosen; None where there are none."""
    changes: dict[str, tuple[Change, ...]] = {}
    seconds: dict[str, float] = {}
    for choice in chosen:
        if choice.changes:
            name = injection_name(run, choice.fault.name, choice.on.uid)
            changes[name], seconds[name] = choice.changes, float(choice.fault.duration_seconds)
    return Originals(namespace, experiment, spec.service_account_name, changes, seconds) if changes else None


def still_needed(injections: Iterable[InjectionStatus]) -> bool:
    """Whether originals must be kept beyond the run's end: what could not be put right is tried again later."""
    return any(each.object is not None and each.cleanup is Cleanup.LEFTOVER for each in injections)
