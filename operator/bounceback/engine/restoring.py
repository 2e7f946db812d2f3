"""A changed object is put right again: what we changed is as it was before, and what others changed stays theirs.

All here is pure: objects go in, requests come out. A patch is pinned to the resourceVersion that it was computed from,
so that the API server refuses it (409) where somebody else wrote meanwhile: read again, compute again.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from bounceback.engine.merging import Notes, merged, same, without
from bounceback.types.objects import ANEW, RUN_LABEL, Change, Dependents, Json, of_cluster
from bounceback.types.pointers import MISSING, Parts, parts, pointer, value_at, with_value

OWNED: Final = ("apiVersion", "kind", "status")
OWNED_METADATA: Final = (
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "managedFields",
    "selfLink",
)
"""What the API server alone writes: neither compared nor put back."""
CLOCK: Final = "%Y-%m-%dT%H:%M:%S.%fZ"  # metav1.MicroTime


@dataclass(frozen=True, slots=True)
class Nothing:
    """No request is to be made. `healed`: others put it right, and nothing of ours is there any more."""

    healed: bool = False
    left_alone: tuple[str, ...] = ()  # JSON pointers: what others have changed besides


@dataclass(frozen=True, slots=True)
class Patch:
    """A JSON patch (RFC 6902)."""

    ops: tuple[Json, ...]
    left_alone: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """Without values: they may be a Secret's."""
        return f"Patch({', '.join(op['path'] for op in self.ops)})"


@dataclass(frozen=True, slots=True)
class Create:
    """The object is to be made, under its name; `again`: in place of one that was deleted."""

    body: Json
    again: bool = False

    def __repr__(self) -> str:
        return "Create()"


@dataclass(frozen=True, slots=True)
class Delete:
    """That very object is to be deleted, and none that came after it."""

    uid: str
    dependents: Dependents = Dependents.DELETE
    version: str = ""  # and only as it is in this version; "": in any


@dataclass(frozen=True, slots=True)
class Later:
    """Nothing can be done yet: ask again."""

    why: str


Request = Patch | Create | Delete


def patch(change: Change) -> Request | Nothing:
    """What brings the change about; Nothing where all there is to do is to keep it."""
    if change.along:
        return Nothing()
    if change.before is None:
        assert change.after is not None, "a change from nothing to nothing"
        return Create(change.after)
    if change.after is None:
        return Delete(change.uid, change.dependents)
    return _patch(change.before, _under(change.before, change.after))


def settled(change: Change, answer: Json) -> Change:
    """The change as the API server would carry it out, by its answer to a dry run of `patch(change)`.

    It writes some values in another way ("1000m" as "1"), fills in defaults, and drops what it does not know. Raises
    ValueError where something that was asked for did not come about.
    """
    if change.before is None or change.after is None:
        return change
    dropped = Notes()
    _three_way(change, answer, dropped)
    if dropped.back:
        raise ValueError(
            f"the API server would not have {_some(dropped.back)} of {change.key} changed like this: it drops what its "
            "schema does not know, and may set some fields itself"
        )
    return replace(change, after=_with_empties(_under(change.before, answer), change.after))


def back_again(change: Change) -> Patch | None:
    """The undo of a change that is not made yet, for a dry run; None where that would tell nothing, or is not told so.

    Objects that every namespace depends on: that the API server takes them back as they were is seen before.
    """
    if change.before is None or change.after is None or not of_cluster(change.key.api_version, change.key.kind):
        return None
    back = _patch(_under(change.before, change.after), change.before)
    return None if isinstance(back, Nothing) else back


def as_read(change: Change, now: Json | None) -> bool:
    """Of a deletion: that very object is as it was when the deletion was planned, but for what is of one piece
    (`whole`) and may change all the time."""
    if change.before is None or now is None or not _is_same(change, now):
        return False
    then, there = _ours(change.before), _ours(now)
    for path in change.whole:
        then, there = (with_value(each, parts(path), None) for each in (then, there))
    return same(then, there)


def in_force(change: Change, now: Json | None) -> bool:
    """Something that we did is there."""
    if change.after is None:
        return now is None or (_is_same(change, now) and _is_going(now))
    if change.before is None:
        return now is not None and _is_made_by(change, now)
    if now is None or not _is_same(change, now):
        return False
    notes = Notes()
    _three_way(change, now, notes)
    return bool(notes.restored)


def healed(change: Change, now: Json | None) -> bool:
    """Of a change that was made: nothing of it is there any more. Never true of what is kept."""
    if change.kept is not None:
        return False
    if change.after is None:
        return now is not None and not _is_same(change, now) and not _is_made_by_us(now)
    if now is None and change.before is not None:
        return _was_held(change)
    return not in_force(change, now)


def _was_held(change: Change) -> bool:
    """An object that we gave a finalizer goes only when somebody took that away; of any other one that was deleted
    nobody has put anything right."""
    assert change.before is not None and change.after is not None
    before, after = (set(body["metadata"].get("finalizers") or ()) for body in (change.before, change.after))
    return bool(after - before)


def undo(change: Change, now: Json | None) -> Request | Nothing | Later:
    """What puts it right, given the object as it is now (None: there is none)."""
    if change.before is None:
        if now is None or not _is_made_by(change, now):
            return Nothing(healed=True)
        return Nothing() if _is_going(now) else Delete(now["metadata"]["uid"])
    if change.after is None:
        return _made_again(change, now)
    if now is None or not _is_same(change, now):
        return Nothing(healed=healed(change, now))
    notes = Notes()
    wanted = _three_way(change, now, notes)
    done = _patch(now, wanted)
    if isinstance(done, Nothing):
        return Nothing(healed(change, now), tuple(notes.left))
    return replace(done, left_alone=tuple(notes.left))


def held(change: Change, now: Json | None, at: datetime) -> Patch | Nothing:
    """What sets a kept change back or renews it, where that is due at `at`; another object of that name is let be."""
    kept = change.kept
    if kept is None or change.after is None or now is None or not _is_same(change, now) or _is_going(now):
        return Nothing()
    wanted = now
    for path in kept.paths:
        way = parts(path)
        while len(way) > 1 and value_at(wanted, way[:-1]) is MISSING:
            way = way[:-1]  # what it is in was removed
        wanted = with_value(wanted, way, _aside(change, now, way))
    stale = kept.every and any(_is_old(value_at(now, parts(clock)), at, kept.every) for clock in kept.clocks)
    if same(wanted, now) and not stale:
        return Nothing()
    for clock in kept.clocks:
        wanted = with_value(wanted, parts(clock), at.astimezone(UTC).strftime(CLOCK))
    return _patch(now, wanted)


def _aside(change: Change, now: Json, way: Parts) -> Any:
    """What is to be at a kept path; its clocks go on."""
    wanted = copy.deepcopy(change.after)
    for clock in map(parts, change.kept.clocks if change.kept else ()):
        if value_at(wanted, clock[:-1]) is not MISSING:
            wanted = with_value(wanted, clock, value_at(now, clock))
    return value_at(wanted, way)


def _is_old(clock: object, at: datetime, seconds: float) -> bool:
    try:
        return at - datetime.fromisoformat(str(clock)) >= timedelta(seconds=seconds)
    except (ValueError, TypeError):
        return True


def _made_again(change: Change, now: Json | None) -> Create | Nothing | Later:
    assert change.before is not None
    if now is None:
        return Create(_new(change.before), again=True)
    if not _is_same(change, now):
        return Nothing(healed=not _is_made_by_us(now))
    if _is_going(now):
        return Later(f"{change.key} is still being deleted ({_waits_for(now)})")
    return Nothing()  # it never was deleted


def _three_way(change: Change, now: Json, notes: Notes) -> Json:
    """`now`, with what we changed as it was before, but for what others have changed there."""
    assert change.before is not None and change.after is not None
    clocks = {parts(clock) for clock in change.kept.clocks} if change.kept else set()
    notes.whole = {parts(path): {clock[len(parts(path)) :] for clock in clocks} for path in change.whole}
    return _under(now, merged(_ours(change.before), _ours(change.after), _ours(now), (), notes))


def _ours(body: Json) -> Json:
    """Without what the API server owns."""
    metadata = without(body.get("metadata") or {}, OWNED_METADATA)
    return {**without(body, OWNED), "metadata": metadata}


def _under(now: Json, wanted: Json) -> Json:
    """What is wanted, with what the API server owns as it is."""
    metadata, ours = now.get("metadata") or {}, _ours(wanted)
    owned = {key: metadata[key] for key in OWNED_METADATA if key in metadata}
    return {**{key: now[key] for key in OWNED if key in now}, **ours, "metadata": {**owned, **ours["metadata"]}}


def _new(body: Json) -> Json:
    """As it is to be made anew: under its name, with nothing that the API server gives out."""
    named = {key: body["metadata"][key] for key in ("name", "namespace") if key in body["metadata"]}
    ours = _ours(body)
    kind = {"apiVersion": body["apiVersion"], "kind": body["kind"]}
    return {**kind, **ours, "metadata": {**named, **ours["metadata"]}}


def _with_empties(answer: Any, asked: Any) -> Any:
    """The answer, with what was emptied still there and empty: the API server leaves out what is empty."""
    if not isinstance(answer, dict) or not isinstance(asked, dict):
        return answer
    emptied = {key: value for key, value in asked.items() if value in ({}, []) and key not in answer}
    return {key: _with_empties(value, asked.get(key)) for key, value in answer.items()} | emptied


def _is_same(change: Change, now: Json) -> bool:
    """Not another one that came to have its name."""
    return bool(now["metadata"].get("uid") == change.uid)


def _is_made_by(change: Change, now: Json) -> bool:
    assert change.after is not None
    made = (change.after["metadata"].get("labels") or {}).get(RUN_LABEL)
    return bool(made) and (now["metadata"].get("labels") or {}).get(RUN_LABEL) == made


def _waits_for(going: Json) -> str:
    """What its end waits for, in words; of a namespace its own conditions say so."""
    if finalizers := going["metadata"].get("finalizers"):
        return ", ".join(finalizers)
    conditions = (going.get("status") or {}).get("conditions") or [] if going.get("kind") == "Namespace" else []
    return "; ".join(each["message"] for each in conditions if each["status"] == "True") or "its grace period"


def _is_made_by_us(now: Json) -> bool:
    """What we made again is as it was, without a label of ours; but the API server notes who wrote it."""
    return any(entry.get("manager") == ANEW for entry in now["metadata"].get("managedFields") or [])


def _is_going(now: Json) -> bool:
    return bool(now["metadata"].get("deletionTimestamp"))


def _patch(now: Json, wanted: Json) -> Patch | Nothing:
    ops = tuple(_ops(now, wanted, ()))
    if not ops:
        return Nothing()
    version = now["metadata"].get("resourceVersion")
    # Not a test: where that fails the API server answers 422, as it does for values that are wrong.
    pinned = ({"op": "replace", "path": "/metadata/resourceVersion", "value": version},) if version else ()
    return Patch((*pinned, *ops))


def _ops(now: Any, wanted: Any, way: tuple[str, ...]) -> list[Json]:
    """Mappings part by part, lists as a whole."""
    if same(now, wanted):
        return []
    if isinstance(now, dict) and isinstance(wanted, dict):
        keys = [*now, *(key for key in wanted if key not in now)]
        return [op for key in keys for op in _ops(now.get(key, MISSING), wanted.get(key, MISSING), (*way, key))]
    if wanted is MISSING:
        return [{"op": "remove", "path": pointer(way)}]
    return [{"op": "add" if now is MISSING else "replace", "path": pointer(way), "value": wanted}]


def _some(paths: list[str]) -> str:
    return ", ".join(paths[:3]) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")
