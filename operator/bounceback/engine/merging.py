"""A value is taken back to what it was, where it still is what we made of it: the three-way merge of an undo."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from bounceback.types.pointers import MISSING, Parts, pointer

MAPS: Final = frozenset({("metadata", "labels"), ("metadata", "annotations"), ("data",), ("binaryData",)})
"""Mappings whose keys have nothing to do with each other."""
SETS: Final = frozenset({("metadata", "finalizers")})
"""Lists of texts whose order says nothing."""


@dataclass
class Notes:
    """What was found on the way, as JSON pointers; `whole` goes in: paths of one piece, each with the clocks in it."""

    whole: Mapping[Parts, Collection[Parts]] = field(default_factory=dict)
    restored: list[str] = field(default_factory=list)  # was as we made it
    back: list[str] = field(default_factory=list)  # others made it as it was before
    left: list[str] = field(default_factory=list)  # others made it something else


def merged(old: Any, new: Any, now: Any, way: Parts, notes: Notes) -> Any:
    """`now`, with `old` wherever we had changed that to `new` and nobody changed it since."""
    if same(old, new):
        return now
    if now is MISSING and old is not MISSING and new in ({}, []):
        now = copy.deepcopy(new)  # the API server leaves out what is empty
    if way not in notes.whole and not same(now, new):
        if isinstance(new, dict) and isinstance(now, dict) and (isinstance(old, dict) or _is_map(old, new, now, way)):
            return _begun(old, now, _mapping(old if isinstance(old, dict) else {}, new, now, way, notes))
        if isinstance(new, list) and isinstance(now, list) and (isinstance(old, list) or old is MISSING):
            before = old if isinstance(old, list) else []
            if key := _key(before, new, now, way):
                return _begun(old, now, _entries(before, new, now, key, way, notes))
    return _at_once(old, new, now, way, notes)


def _begun(old: Any, now: Any, result: Any) -> Any:
    """What we began goes with the last that we had put in it."""
    return MISSING if old is MISSING and now and not result else result


def _is_map(old: Any, new: dict[str, Any], now: dict[str, Any], way: Parts) -> bool:
    """A mapping that we began, whose keys stand for themselves: others may have added some."""
    return old is MISSING and (way in MAPS or all(same(now.get(key, MISSING), new[key]) for key in new))


def _at_once(old: Any, new: Any, now: Any, way: Parts, notes: Notes) -> Any:
    """A value that is as a whole ours, or as it was, or somebody else's."""
    was, made, there = (_stopped(value, notes.whole.get(way, ())) for value in (old, new, now))
    if same(there, made):
        notes.restored.append(pointer(way))
        return copy.deepcopy(old)
    (notes.back if same(there, was) or (now is MISSING and old in ({}, [])) else notes.left).append(pointer(way))
    return now


def _mapping(
    old: Mapping[str, Any], new: Mapping[str, Any], now: Mapping[str, Any], way: Parts, notes: Notes
) -> dict[str, Any]:
    result = {}
    for key in _in_turn(now, old, new):
        value = merged(old.get(key, MISSING), new.get(key, MISSING), now.get(key, MISSING), (*way, key), notes)
        if value is not MISSING:
            result[key] = value
    return result


def _entries(
    old: list[Any], new: list[Any], now: list[Any], key: Callable[[Any], Hashable], way: Parts, notes: Notes
) -> list[Any]:
    """Entry by entry; those that come back stand after the one that they stood after."""
    before, made, there = ({key(entry): entry for entry in each} for each in (old, new, now))
    result: dict[Hashable, Any] = {}
    order: list[Hashable] = []
    for name in _in_turn(there, before, made):
        was, ours, is_now = (each.get(name, MISSING) for each in (before, made, there))
        judged = _at_once if was is MISSING and ours is not MISSING else merged  # what is left of an entry is none
        value = judged(was, ours, is_now, (*way, _shown(name)), notes)
        if value is not MISSING:
            result[name] = value
            order.insert(len(order) if name in there else _place(name, list(before), order), name)
    return [result[name] for name in order]


def _place(name: Hashable, before: list[Hashable], order: list[Hashable]) -> int:
    """Right after the one that stood before it and is there."""
    earlier = [each for each in before[: before.index(name)] if each in order]
    return order.index(earlier[-1]) + 1 if earlier else 0


def _key(old: list[Any], new: list[Any], now: list[Any], way: Parts) -> Callable[[Any], Hashable] | None:
    """What tells the entries of such a list apart; None: it is one value."""
    entries = [*old, *new, *now]
    candidates: list[Callable[[Any], Hashable]] = []
    if all(isinstance(entry, dict) for entry in entries):
        candidates = [_uid, _reference, _name]
    elif way in SETS:
        candidates = [lambda entry: entry]
    for key in candidates:
        if all(key(entry) is not None for entry in entries) and all(_distinct(each, key) for each in (old, new, now)):
            kept = {key(entry) for entry in old} & {key(entry) for entry in new}
            if [k for k in map(key, old) if k in kept] == [k for k in map(key, new) if k in kept]:
                return key
    return None


def _uid(entry: Mapping[str, Any]) -> Hashable:
    return _word(entry, "uid")


def _reference(entry: Mapping[str, Any]) -> Hashable:
    """Of an object: a subject of a binding, for example."""
    kind, name = _word(entry, "kind"), _word(entry, "name")
    if not kind or not name:
        return None
    return kind, _word(entry, "apiGroup"), _word(entry, "namespace"), name


def _name(entry: Mapping[str, Any]) -> Hashable:
    return _word(entry, "name")


def _word(entry: Mapping[str, Any], field: str) -> str | None:
    """A custom resource may have anything there; what is no text tells nothing apart."""
    return value if isinstance(value := entry.get(field), str) else None


def _distinct(entries: Sequence[Any], key: Callable[[Any], Hashable]) -> bool:
    return len({key(entry) for entry in entries}) == len(entries)


def _shown(name: Hashable) -> str:
    return str(name[-1] if isinstance(name, tuple) else name)


def _in_turn(*mappings: Mapping[Any, Any]) -> list[Any]:
    """The keys of all of them, each once."""
    return list(dict.fromkeys(key for mapping in mappings for key in mapping))


def _stopped(value: Any, clocks: Collection[Parts]) -> Any:
    """Without its clocks."""
    for clock in clocks:
        if isinstance(value, dict) and clock:
            inner = _stopped(value.get(clock[0], MISSING), [clock[1:]]) if len(clock) > 1 else MISSING
            value = without(value, (clock[0],)) | ({} if inner is MISSING else {clock[0]: inner})
    return value


def without(mapping: Mapping[str, Any], keys: Collection[str]) -> dict[str, Any]:
    return {key: value for key, value in mapping.items() if key not in keys}


def same(one: Any, other: Any) -> bool:
    """Equal as JSON: true is not 1."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return isinstance(one, bool) is isinstance(other, bool) and bool(one == other)
