"""A run held against the reference run: what stands in the record of that one, and what differs, in words."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from bounceback.api.reference_run import ComparedObjects, Lives, ReferenceRun
from bounceback.api.status import InvariantResult
from bounceback.engine.end_state import Difference, EndState, ends_differ
from bounceback.engine.invariants import REFERENCE
from bounceback.engine.lives import lives_differ
from bounceback.types.objects import SECRET_KINDS, Json
from bounceback.types.outcome import Judgement
from bounceback.types.pointers import MISSING, parts

MOST_RESULTS: Final = 20
"""Objects that differ and are told of, each by itself."""
MOST_TOLD: Final = 4
"""Differences of one object that are told."""
LONGEST_VALUE: Final = 120

Hide = Callable[[Any, str], Any]
"""A value as it may be shown, by the key that it stands under."""


def record(ends: Sequence[EndState], lives: Sequence[Lives]) -> Json:
    """What is written down of the reference run."""
    return {"ends": list(ends), "changed": [dict(each.changed) for each in lives]}


def compared(
    asked: ReferenceRun,
    reference: Json,
    ends: Sequence[EndState],
    lives: Sequence[Lives],
    taken: Sequence[Mapping[str, int]],
    hide: Hide,
) -> tuple[InvariantResult, ...]:
    """One result for each object that differs; one for each entry of which none does. `taken`: as `lives_differ`."""
    results: list[InvariantResult] = []
    for index, entry in enumerate(asked.objects):
        told: dict[str, list[str]] = {}
        if entry.lives:
            for name, then, now in lives_differ(reference["changed"][index], lives[index].changed, taken[index]):
                told.setdefault(name, []).append(f"{then} in the reference run, {now} now")
        for each in ends_differ(reference["ends"][index], ends[index]):
            told.setdefault(each.name, []).append(in_words(each, entry.kind, hide))
        unknown = lives[index].gap if entry.lives else ""
        results += _of_entry(entry, told, unknown, sum(len(each) for each in ends[index].values()))
    failed = [each for each in results if each.result is Judgement.FAILED]
    others = [each for each in results if each.result is not Judgement.FAILED]
    if len(failed) > MOST_RESULTS:
        others.insert(0, _result("others", Judgement.FAILED, f"{len(failed) - MOST_RESULTS} more objects differ"))
    return (*failed[:MOST_RESULTS], *others)


def _of_entry(
    entry: ComparedObjects, told: Mapping[str, Sequence[str]], unknown: str, count: int
) -> Iterator[InvariantResult]:
    for name, differences in told.items():
        yield _result(f"{entry.kind} {name}", Judgement.FAILED, first_of(differences))
    if unknown:
        yield _result(str(entry), Judgement.INCONCLUSIVE, f"what came and went is not known: {unknown}")
    elif not told:
        yield _result(str(entry), Judgement.PASSED, f"as in the reference run: {count} at the end")


def not_compared(asked: ReferenceRun, why: str) -> tuple[InvariantResult, ...]:
    return tuple(_result(str(entry), Judgement.INCONCLUSIVE, f"not compared: {why}") for entry in asked.objects)


def _result(name: str, result: Judgement, message: str) -> InvariantResult:
    return InvariantResult(check=REFERENCE, name=name, result=result, message=message[:1024])


def first_of(differences: Sequence[str]) -> str:
    words = "; ".join(differences[:MOST_TOLD])
    return words if len(differences) <= MOST_TOLD else f"{words}; and {len(differences) - MOST_TOLD} more"


def in_words(difference: Difference, kind: str, hide: Hide, when: str = "in the reference run") -> str:
    path, then, now = difference.path, difference.reference, difference.now
    if not path:
        return f"{then} {when.replace('in ', 'at the end of ')}, {now} now"
    if kind in SECRET_KINDS and parts(path)[0] in ("data", "stringData"):
        what = "not there" if now is MISSING else "new" if then is MISSING else "another"
        return f"{path} is {what} (hidden)"
    return f"{path} is {shown(now, path, hide)}, and was {shown(then, path, hide)} {when}"


def shown(value: Any, path: str, hide: Hide) -> str:
    if value is MISSING:
        return "not there"
    for key in parts(path) or ("",):  # any part of the way may tell that it is a secret
        value = hide(value, key)
    words = json.dumps(value, sort_keys=True)
    return words if len(words) <= LONGEST_VALUE else f"{words[: LONGEST_VALUE - 1]}…"
