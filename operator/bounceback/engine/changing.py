"""What becomes of an injection that changes objects, and how a change that was planned is brought about later."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from bounceback.api.status import Healed, InjectionStatus, Moment
from bounceback.engine import restoring
from bounceback.engine.evidence import DONE
from bounceback.engine.restoring import Create, Nothing, Patch, Request
from bounceback.types.instants import Instant
from bounceback.types.objects import Change, Json, ObjectKey
from bounceback.types.outcome import Cleanup, HealedBy, InjectionState
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
    if isinstance(wanted, Nothing) or (now is not None and _is_done(change, now)):
        return Nothing()
    if not isinstance(wanted, Patch) or now is None:
        return wanted
    ops = [op for op in wanted.ops if op["path"] != VERSION]
    if any(value_at(now, parts(op["path"])) != value_at(change.before, parts(op["path"])) for op in ops):
        return None
    version = {"op": "replace", "path": VERSION, "value": now["metadata"]["resourceVersion"]}
    return Patch((version, *ops))


def _is_done(change: Change, now: Json) -> bool:
    """By an operator before us, or by a request whose answer was lost."""
    if change.before is None or change.after is None:
        return restoring.in_force(change, now)
    wanted = restoring.patch(change)
    paths = [parts(op["path"]) for op in wanted.ops if op["path"] != VERSION] if isinstance(wanted, Patch) else []
    return all(value_at(now, path) == value_at(change.after, path) for path in paths)


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
            "first_hit_at": moment,
            "clock_offset_milliseconds": 0,
        }
    )


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
