"""Lives: how many objects of each name came and went in a run, which of them the fault took, how two runs differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from bounceback.api.experiment import FaultExperimentSpec
from bounceback.api.reference_run import MOST_CHANGED, ComparedObjects, Lives
from bounceback.api.status import InjectionStatus
from bounceback.engine.end_state import ANY, GENERATED
from bounceback.faults.object_fault import ObjectFault
from bounceback.faults.object_kinds.removal import Deleted
from bounceback.types.outcome import VehicleKind

Changes = Mapping[str, Sequence[int]]
"""By stable name: how many came, how many went."""
NOTHING: Final = (0, 0)


def with_change(lives: Lives, name: str, version: str, *, came: bool, room: int = MOST_CHANGED) -> Lives:
    """One more that came or went, known up to that version; `room` is for so many names."""
    if name not in lives.changed and len(lives.changed) >= room:
        return with_gap(lives, version, f"more than {room} names came and went; narrow the selector")
    before = lives.changed.get(name, NOTHING)
    count = [before[0] + came, before[1] + (not came)]
    return lives.model_copy(update={"version": version, "changed": {**lives.changed, name: count}})


def with_gap(lives: Lives, version: str, why: str) -> Lives:
    """The first one is told; what came and went in it is not known, and will never be."""
    return lives.model_copy(update={"version": version, "gap": lives.gap or why[:256]})


def lives_differ(reference: Changes, now: Changes, taken: Mapping[str, int]) -> Iterator[tuple[str, str, str]]:
    """(name, what there was in the reference run, what there is now).

    `taken` are those that the fault itself took away, by stable name: each of them may have gone, with another one in
    its place.
    """
    for name in sorted({*reference, *now}):
        (came, went), (comes, goes) = reference.get(name, NOTHING), now.get(name, NOTHING)
        more = comes - came
        by_design = more == goes - went and 0 < more <= taken.get(name, 0)
        if (came, went) != (comes, goes) and not by_design:
            yield name, _told(came, went), _told(comes, goes)


def _told(came: int, went: int) -> str:
    return f"{came} came and {went} went"


def taken_by_faults(
    spec: FaultExperimentSpec, injections: Iterable[InjectionStatus], entry: ComparedObjects, names: Iterable[str]
) -> Counter[str]:
    """By stable name, among `names`: objects of the entry's kind that the faults took away."""
    faults = {fault.name: fault.fault for fault in spec.faults}
    taken: Counter[str] = Counter()
    known = tuple(names)
    for injection in injections:
        kind, name = "", ""
        if injection.vehicle is VehicleKind.POD_DELETE and injection.pod and injection.hits:
            kind, name = "Pod", injection.pod
        elif injection.object is not None and injection.hits and _deletes(faults.get(injection.fault)):
            kind, name = injection.object.kind, injection.object.name
        if kind == entry.kind:
            taken.update(each for each in known if stands_for(each, name))
    return taken


def _deletes(fault: object) -> bool:
    return isinstance(fault, ObjectFault) and isinstance(fault.done, Deleted)


def stands_for(stable: str, name: str) -> bool:
    """Whether an object of that name has this stable one."""
    if not stable.endswith(ANY):
        return stable == name
    return name.startswith(stable[:-1]) and GENERATED.fullmatch(name[len(stable) - 1 :]) is not None
