"""What each checker of a workload promises, said again as plainly as can be: every pair of operations is looked at.

Slow, and without a thought of how to be quick: what the checkers are held against.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

from bounceback.accounting.account import Account, Flaw
from bounceback.accounting.ledger import NOTHING, Function, Ledger, Model, Outcome


@dataclass(frozen=True)
class Operation:
    number: int
    function: Function
    outcome: Outcome
    key: int
    value: int
    began: float
    ended: float  # infinity: nobody knows
    final: bool

    @property
    def over(self) -> float:
        """From when on its effect is certain to be there."""
        return self.ended if self.outcome is Outcome.ACKNOWLEDGED else math.inf


def operations(ledger: Ledger) -> list[Operation]:
    places = {event: place for place, event in enumerate(ledger.events)}
    return [
        Operation(
            n,
            Function(ledger.functions[n]),
            Outcome(ledger.outcomes[n]),
            ledger.keys[n],
            ledger.values[n],
            places[2 * n],
            places.get(2 * n + 1, math.inf),
            n >= ledger.last_of_load,
        )
        for n in range(len(ledger))
    ]


def flaws(model: Model, ledger: Ledger) -> dict[Flaw, int]:
    every = operations(ledger)
    writes = [o for o in every if o.function is Function.WRITE]
    answered = [o for o in every if o.function is not Function.WRITE and o.outcome is Outcome.ACKNOWLEDGED]
    return {Model.REGISTER: register, Model.SET: listed_set, Model.COUNTER: counter, Model.QUEUE: queue}[model](
        ledger, writes, answered
    )


def register(ledger: Ledger, writes: list[Operation], reads: list[Operation]) -> dict[Flaw, int]:
    def source(read: Operation) -> Operation | None:
        """The write of what it got; None: it is a phantom."""
        if read.value == NOTHING:
            return Operation(-1, Function.WRITE, Outcome.ACKNOWLEDGED, read.key, NOTHING, -1, -1, False)
        fits = [w for w in writes if (w.number, w.key) == (read.value, read.key)]
        return next((w for w in fits if w.outcome is not Outcome.FAILED and w.began < read.ended), None)

    found = Counter[Flaw]()
    lost = set()
    for read in reads:
        if (got := source(read)) is None:
            found[Flaw.PHANTOM] += 1
            continue
        due = [w for w in writes if w.key == read.key and w.outcome is Outcome.ACKNOWLEDGED and w.ended < read.began]
        if any(w.began > got.over for w in due):
            if read.final:
                lost |= {
                    w.number
                    for w in writes
                    if w.key == read.key and w.outcome is Outcome.ACKNOWLEDGED and w.began > got.over
                }
            else:
                found[Flaw.STALE] += 1
            continue
        earlier = [source(r) for r in reads if r.key == read.key and r.ended < read.began]
        found[Flaw.REORDERED] += any(w is not None and w.began > got.over for w in earlier)
    found[Flaw.LOST] = len(lost)
    return found


def listed_set(ledger: Ledger, writes: list[Operation], reads: list[Operation]) -> dict[Flaw, int]:
    possible = {w.number: w for w in writes if w.outcome is not Outcome.FAILED}
    phantoms = [r for r in reads if r.value and (r.key not in possible or possible[r.key].began > r.ended)]
    sightings = [r for r in reads if r.value and r not in phantoms]

    def known(number: int, moment: float) -> bool:
        seen = any(s.key == number and s.ended < moment for s in sightings)
        return number in possible and (possible[number].over < moment or seen)

    found = Counter[Flaw]({Flaw.PHANTOM: len(phantoms)})
    if ledger.listed is not None:
        times = Counter(value for value in ledger.listed if value in possible)
        found[Flaw.PHANTOM] += sum(value not in possible for value in ledger.listed)
        found[Flaw.DUPLICATED] = sum(count > 1 for count in times.values())
        absent = {number for number in possible if number not in times}
    else:
        last = {r.key: r.value for r in reads if r.final}
        absent = {number for number, value in last.items() if not value}
    lost = {number for number in possible if number in absent and known(number, math.inf)}
    found[Flaw.LOST] = len(lost)
    found[Flaw.STALE] = sum(not r.value and known(r.key, r.began) and r.key not in absent for r in reads)
    return found


def counter(ledger: Ledger, writes: list[Operation], reads: list[Operation]) -> dict[Flaw, int]:
    def possible(key: int, moment: float) -> int:
        return sum(w.key == key and w.outcome is not Outcome.FAILED and w.began < moment for w in writes)

    def certain(key: int, moment: float) -> int:
        return sum(w.key == key and w.over < moment for w in writes)

    found = Counter[Flaw]()
    for read in reads:
        if read.final:
            found[Flaw.LOST] += max(0, certain(read.key, math.inf) - read.value)
            found[Flaw.DUPLICATED] += max(0, read.value - possible(read.key, math.inf))
        elif read.value > possible(read.key, read.ended):
            found[Flaw.PHANTOM] += 1
        else:
            seen = [
                r.value
                for r in reads
                if r.key == read.key and not r.final and r.ended < read.began and r.value <= possible(r.key, r.ended)
            ]
            found[Flaw.STALE] += read.value < max([certain(read.key, read.began), *seen])
    return found


def queue(ledger: Ledger, writes: list[Operation], takes: list[Operation]) -> dict[Flaw, int]:
    possible = {w.number: w for w in writes if w.outcome is not Outcome.FAILED}
    found = Counter[Flaw]()
    first: dict[int, Operation] = {}
    often = set()
    for take in sorted(takes, key=lambda t: t.ended):
        if take.value == NOTHING:
            continue
        if take.value not in possible or possible[take.value].began > take.ended:
            found[Flaw.PHANTOM] += 1
        elif take.value in first:
            often.add(take.value)
        else:
            first[take.value] = take
    found[Flaw.DUPLICATED] = len(often)
    for value, take in first.items():
        overtakers = [v for v, t in first.items() if t.ended < take.began and possible[v].began > possible[value].over]
        found[Flaw.REORDERED] += bool(overtakers)
    missing = [w for w in writes if w.outcome is Outcome.ACKNOWLEDGED and w.number not in first]
    last = max((t for t in takes if t.final), key=lambda t: t.number, default=None)
    unknown = sum(o.function is Function.TAKE and o.outcome is Outcome.UNKNOWN for o in operations(ledger))
    if last is not None and last.value == NOTHING:
        found[Flaw.LOST] = max(0, len(missing) - unknown)
    return found


def agree(account: Account, ledger: Ledger) -> None:
    """Fails with both where they differ."""
    naive = flaws(account.model, ledger)
    given = {flaw: finding.count for flaw, finding in account.flaws.items()}
    assert given == {flaw: naive.get(flaw, 0) for flaw in given}
    assert not {flaw for flaw, count in naive.items() if count} - set(given)
    for finding in account.flaws.values():
        assert len(finding.examples) <= finding.count
        assert min(finding.examples, default=0) >= 0
