"""How a planned change is brought about later, and what it takes to undo it: all that the rollback pod needs.

No models are loaded here: a rollback pod starts before each change, and is ready within a second or two for that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from bounceback.engine import restoring
from bounceback.engine.restoring import Create, Delete, Nothing, Patch, Request
from bounceback.types.objects import Change, Json, ObjectKey
from bounceback.types.outcome import Cleanup, InjectionState, Phase
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
    if isinstance(wanted, Delete) and now is not None and not restoring.in_force(change, now):
        return _deletion(change, wanted, now)
    if isinstance(wanted, Nothing) or (now is not None and restoring.in_force(change, now)):
        return Nothing()  # there is nothing to do, or it was done: by an operator before us, for example
    if not isinstance(wanted, Patch) or now is None:
        return wanted
    ops = [op for op in wanted.ops if op["path"] != VERSION]
    if any(value_at(now, parts(op["path"])) != value_at(change.before, parts(op["path"])) for op in ops):
        return None
    version = {"op": "replace", "path": VERSION, "value": now["metadata"]["resourceVersion"]}
    return Patch((version, *ops))


def _deletion(change: Change, wanted: Delete, now: Json) -> Delete | None:
    """Only what is as it was planned to be made anew: what others wrote since would be lost."""
    if not restoring.as_read(change, now):
        return None
    return wanted if change.whole else replace(wanted, version=now["metadata"]["resourceVersion"])


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


@dataclass(frozen=True, slots=True)
class Guarded:
    """An injection that changes objects, as it was planned."""

    name: str
    start_at: float  # UTC seconds: not begun before, and
    not_after: float  # over by then


def guarded_in(record: Mapping[str, Any]) -> tuple[Originals, tuple[Guarded, ...]] | None:
    """What a journal's record says of changed objects; None where there are none."""
    if "objects" not in record:
        return None
    originals = Originals.from_json(record["objects"])
    planned = (each for each in record["injections"] if each["name"] in originals.changes)
    return originals, tuple(Guarded(i["name"], _not_before(i), i["notAfter"]) for i in planned)


def _not_before(injection: Mapping[str, Any]) -> float:
    """One that waits may begin as soon as it is planned."""
    return float(injection["plannedUtc"] if injection.get("waiting") else injection["startAt"])


def to_be_undone(status: Mapping[str, Any], injection: Guarded, seconds: float, now: float) -> float | None:
    """UTC seconds by which an injection is over, by what the experiment's status says of it; None: it is.

    Of one that the status does not list any more all that is known is the phase. One that waits does not begin before
    the status says that it does not wait any more: it is looked at again when it would be over, had it begun `now`.
    """
    listed = next((each for each in status.get("injections") or () if each["name"] == injection.name), None)
    if listed is None:
        ended = (Phase.REPAIRING, Phase.RECOVERING, Phase.VERIFYING, Phase.REPEATING, Phase.FINISHED)
        return None if status.get("phase") in ended else injection.not_after
    over = listed.get("state") in (InjectionState.CLEARED, InjectionState.FAILED)
    if over and listed.get("cleanup") == Cleanup.CLEAN:
        return None
    if listed.get("waiting"):
        return min(now + seconds, injection.not_after) if now < injection.not_after else None
    begun = listed.get("inForceAt")
    return float(begun["utc"]) + seconds if begun else listed.get("notAfter") or injection.not_after
