"""The account that a ledger gives: what was promised, and what is not as it was promised."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from bounceback.accounting.ledger import ACKNOWLEDGED, FAILED, UNKNOWN, WRITE, Ledger, Model, Outcome
from bounceback.types.outcome import Verdict

MOST_EXAMPLES: Final = 10
COUNTS: Final = (
    "acknowledged",
    "failed",
    "unknown",
    "took_effect",
    "reads",
    "unanswered",
    "read_back",
    "not_read_back",
    "may_be_lost",
)
"""The fields of an account that are numbers."""


class Flaw(StrEnum):
    """What must not happen to operations."""

    LOST = "Lost"
    DUPLICATED = "Duplicated"
    REORDERED = "Reordered"
    STALE = "Stale"
    PHANTOM = "Phantom"


SEEN: Final = {
    Model.REGISTER: (Flaw.LOST, Flaw.REORDERED, Flaw.STALE, Flaw.PHANTOM),
    Model.SET: (Flaw.LOST, Flaw.DUPLICATED, Flaw.STALE, Flaw.PHANTOM),
    Model.COUNTER: (Flaw.LOST, Flaw.DUPLICATED, Flaw.STALE, Flaw.PHANTOM),
    Model.QUEUE: (Flaw.LOST, Flaw.DUPLICATED, Flaw.REORDERED, Flaw.PHANTOM),
}
"""The flaws that can be told of each model."""

WORDS: Final = {
    Flaw.LOST: "acknowledged and not there at the end",
    Flaw.DUPLICATED: "took effect more than once",
    Flaw.REORDERED: "seen in an order that cannot be",
    Flaw.STALE: "read as they were before what had been acknowledged",
    Flaw.PHANTOM: "seen without having been written",
}


@dataclass
class Finding:
    """How often a flaw was found, and the numbers of the first operations that show it."""

    count: int = 0
    examples: list[int] = field(default_factory=list)

    def add(self, number: int, times: int = 1) -> None:
        self.count += times
        if len(self.examples) < MOST_EXAMPLES and number >= 0:
            self.examples.append(number)


@dataclass
class Account:
    """Counts of operations. Reads are those that got an answer; what they found is in the flaws."""

    model: Model
    acknowledged: int = 0  # writes
    failed: int = 0
    unknown: int = 0
    took_effect: int = 0  # of the unknown: those that were seen, where the model can tell
    reads: int = 0  # of the load; Queue: takes
    unanswered: int = 0  # reads of the load without an answer; Queue: takes that may have taken something
    read_back: int = 0  # what was looked at at the end: keys, or acknowledged values
    not_read_back: int = 0  # of which nobody knows what became
    may_be_lost: int = 0  # Queue: not there, but a take without an answer may have had it
    flaws: dict[Flaw, Finding] = field(default_factory=dict)

    @classmethod
    def of(cls, model: Model, ledger: Ledger) -> Account:
        """Only what needs no checker: the outcomes of operations."""
        written, read = _outcomes(ledger)
        return cls(
            model,
            acknowledged=written[ACKNOWLEDGED],
            failed=written[FAILED],
            unknown=written[UNKNOWN],
            reads=read[ACKNOWLEDGED],
            unanswered=read[UNKNOWN] + (0 if model is Model.QUEUE else read[FAILED]),
            flaws={flaw: Finding() for flaw in SEEN[model]},
        )

    def to_json(self) -> dict[str, Any]:
        counts = {name: getattr(self, name) for name in COUNTS}
        flaws = {str(flaw): {"count": each.count, "examples": each.examples} for flaw, each in self.flaws.items()}
        return {"model": str(self.model), **counts, "flaws": flaws}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Account:
        """Raises KeyError, TypeError or ValueError."""
        flaws = {
            Flaw(flaw): Finding(int(each["count"]), [int(number) for number in each["examples"]])
            for flaw, each in data["flaws"].items()
        }
        return cls(Model(data["model"]), **{name: int(data[name]) for name in COUNTS}, flaws=flaws)

    def count(self, flaw: Flaw) -> int:
        return self.flaws[flaw].count if flaw in self.flaws else 0


def _outcomes(ledger: Ledger) -> tuple[list[int], list[int]]:
    """How many writes, and how many reads of the load, had each outcome."""
    last = ledger.last_of_load
    functions, outcomes = ledger.functions[:last], ledger.outcomes[:last]
    every = [outcomes.count(bytes([outcome])) for outcome in Outcome]
    if functions.count(bytes([WRITE])) == last:
        return every, [0] * len(every)
    written = [0] * len(every)
    for function, outcome in zip(functions, outcomes, strict=True):
        if function == WRITE:
            written[outcome] += 1
    return written, [one - other for one, other in zip(every, written, strict=True)]


@dataclass(frozen=True)
class Judged:
    """The verdict, and a line for each reason."""

    verdict: Verdict
    reasons: tuple[str, ...]


def judge(account: Account, allowed: Iterable[Flaw] = ()) -> Judged:
    """A flaw that is not allowed fails; what was not looked at is no pass."""
    tolerated = frozenset(allowed)
    flaws = [(flaw, finding.count) for flaw, finding in account.flaws.items() if finding.count]
    if failed := [f"{flaw}: {count:,} {WORDS[flaw]}" for flaw, count in flaws if flaw not in tolerated]:
        return Judged(Verdict.FAILED, tuple(failed))
    if unclear := tuple(_unclear(account, tolerated)):
        return Judged(Verdict.INCONCLUSIVE, unclear)
    told = f"{account.acknowledged:,} acknowledged writes, none of them lost"
    if account.count(Flaw.LOST):
        told = f"{account.acknowledged:,} acknowledged writes, {account.count(Flaw.LOST):,} lost, as is allowed"
    return Judged(Verdict.PASSED, (told,))


def _unclear(account: Account, allowed: frozenset[Flaw]) -> Iterator[str]:
    """What keeps an account without flaws from being a pass."""
    if not account.acknowledged:
        yield "no write was acknowledged: nothing could be lost"
    elif not account.read_back:
        yield "nothing was read back"
    if Flaw.LOST in allowed:
        return
    if account.not_read_back:
        what = "keys" if account.model in (Model.REGISTER, Model.COUNTER) else "acknowledged values"
        yield f"{account.not_read_back:,} {what} could not be read back"
    if account.may_be_lost:
        yield f"{account.may_be_lost:,} acknowledged values are not there; takes without an answer may have had them"
