"""What becomes of an injection that changes objects, and how a change that was planned is brought about later."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from bounceback.api.experiment import FaultExperimentSpec
from bounceback.api.status import Healed, InjectionStatus, Moment
from bounceback.engine import restoring
from bounceback.engine.evidence import DONE
from bounceback.engine.naming import injection_name
from bounceback.engine.planning import Chosen
from bounceback.engine.restoring import Create, Nothing, Patch, Request
from bounceback.faults import ObjectFault
from bounceback.types.instants import Instant
from bounceback.types.objects import Change, Json, ObjectKey
from bounceback.types.outcome import Cleanup, HealedBy, Healing, InjectionState, Phase
from bounceback.types.pointers import parts, value_at

GIVEN_OUT: Final = ("clusterIP", "clusterIPs", "healthCheckNodePort")
"""Of a Service's spec: what no second one can have."""
VERSION: Final = "/metadata/resourceVersion"


def rebased(change: Change, now: Json | None) -> Request | Nothing | None:
    """What brings the change about, given the object as it is now; Nothing: it is done, or was never to be done.

    None where others have changed just that since the change was planned. Of what is only kept, nothing is to be done.
    """
    if change.before is not None and now is None:
        return Nothing() if change.after is None else None
    wanted = restoring.patch(change)
    if isinstance(wanted, Nothing) or (now is not None and restoring.in_force(change, now)):
        return Nothing()  # there is nothing to do, or it was done: by an operator before us, for example
    if not isinstance(wanted, Patch) or now is None:
        return wanted
    ops = [op for op in wanted.ops if op["path"] != VERSION]
    if any(value_at(now, parts(op["path"])) != value_at(change.before, parts(op["path"])) for op in ops):
        return None
    version = {"op": "replace", "path": VERSION, "value": now["metadata"]["resourceVersion"]}
    return Patch((version, *ops))


def copy_of(body: Json) -> Json:
    """The object under a name that nobody has: to ask, by a dry run, whether it could be made again."""
    again = restoring.undo(Change(ObjectKey.of(body), body, None), None)
    assert isinstance(again, Create)
    made: dict[str, Any] = {**again.body, "metadata": {**again.body["metadata"]}}
    made["metadata"]["name"] = f"{made['metadata']['name'][:52]}-bb-trial"
    if body["kind"] == "Service" and body["apiVersion"] == "v1":
        spec = {key: value for key, value in body["spec"].items() if key not in GIVEN_OUT}
        ports = [{key: value for key, value in port.items() if key != "nodePort"} for port in spec.get("ports") or []]
        made["spec"] = {**spec, **({"ports": ports} if ports else {})}
    return made


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
    return _over(injection, at, "TargetGone", None)


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
        if not isinstance(entry.fault, ObjectFault) or healed is None:
            continue
        told, after = f"{entry.name} on {injection.on}", healed.milliseconds / 1000
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


@dataclass(frozen=True)
class Originals:
    """All that it takes to put the objects of a run right again: kept in the journal, and never shown."""

    namespace: str
    experiment: str
    account: str
    changes: Mapping[str, tuple[Change, ...]]  # by injection, in the order in which they are made
    seconds: Mapping[str, float]  # by injection: how long it is to last

    def to_json(self) -> Json:
        return {
            "namespace": self.namespace,
            "experiment": self.experiment,
            "account": self.account,
            "changes": {name: [change.to_json() for change in changes] for name, changes in self.changes.items()},
            "seconds": dict(self.seconds),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Originals:
        changes = {name: tuple(map(Change.from_json, listed)) for name, listed in data["changes"].items()}
        return cls(data["namespace"], data["experiment"], data["account"], changes, data["seconds"])


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


def to_be_undone(status: Mapping[str, Any], injection: InjectionStatus, seconds: float) -> float | None:
    """UTC seconds by which an injection is over, by what the experiment's status says of it; None: it is.

    `injection` is as it was planned. In one that the status does not list any more all that is known is the phase.
    """
    known = [InjectionStatus.model_validate(each) for each in status.get("injections") or ()]
    now = next((each for each in known if each.name == injection.name), None)
    if now is None:
        over = (Phase.RECOVERING, Phase.VERIFYING, Phase.FINISHED)
        return None if status.get("phase") in over else injection.not_after
    if now.state in DONE and now.cleanup is Cleanup.CLEAN:
        return None
    return now.in_force_at.utc + seconds if now.in_force_at else injection.not_after
