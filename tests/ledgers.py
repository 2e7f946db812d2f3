"""Ledgers for tests: told operation by operation, or drawn in any order with any answers."""

from __future__ import annotations

from array import array
from collections.abc import Iterable

from hypothesis import strategies as st

from bounceback.accounting.ledger import FOREIGN, NOTHING, Function, Ledger, Model, Outcome

WRITE, READ, TAKE = Function
UNKNOWN, OK, FAILED = Outcome


class Told:
    """A ledger, told operation by operation; each is over before the next begins, unless it is said otherwise."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.now = 0

    def begin(self, function: Function, key: int = 0) -> int:
        self.now += 1000
        return self.ledger.begin(function, key, self.now)

    def end(self, number: int, outcome: Outcome = OK, value: int = NOTHING) -> int:
        self.now += 1000
        self.ledger.end(number, outcome, value, self.now)
        return number

    def write(self, outcome: Outcome = OK, key: int = 0) -> int:
        return self.end(self.begin(WRITE, key), outcome)

    def read(self, value: int, key: int = 0, outcome: Outcome = OK) -> int:
        return self.end(self.begin(READ, key), outcome, value)

    def take(self, value: int, outcome: Outcome = OK) -> int:
        return self.end(self.begin(TAKE), outcome, value)

    def at_the_end(self, listed: Iterable[int] | None = None) -> None:
        self.ledger.read_back()
        self.ledger.listed = None if listed is None else array("q", listed)


@st.composite
def ledgers(draw: st.DrawFn, model: Model) -> Ledger:
    """Any order of beginnings and ends, of few keys, with any outcomes and answers."""
    told = Told()
    other = TAKE if model is Model.QUEUE else READ
    open_: list[int] = []
    count = draw(st.integers(1, 14))
    back_from = draw(st.integers(0, count))
    read_back: set[int] = set()
    while len(told.ledger) < count or open_:
        if len(told.ledger) < count and (not open_ or draw(st.booleans())):
            if len(told.ledger) == back_from:
                while open_:  # the load is over before the read-back begins
                    finish(draw, told, open_.pop(0), model, read_back)
                told.ledger.read_back()
            final = len(told.ledger) >= back_from
            written = [n for n, function in enumerate(told.ledger.functions) if function == WRITE]
            if model is Model.SET and not written:
                function = WRITE
            else:
                function = other if final else draw(st.sampled_from([WRITE, WRITE, other]))
            keys = written if (model, function) == (Model.SET, READ) else [0, 1]
            open_.append(told.begin(function, draw(st.sampled_from(keys)) if function is not TAKE else 0))
        else:
            number = open_.pop(draw(st.integers(0, len(open_) - 1)))
            finish(draw, told, number, model, read_back)
    if told.ledger.read_back_from is None:
        told.ledger.read_back()
    if model is Model.SET and draw(st.booleans()):
        told.ledger.listed = array("q", draw(st.lists(st.integers(FOREIGN, 7), max_size=10)))
    return told.ledger


def answers(model: Model, ledger: Ledger, key: int) -> list[int]:
    """What a system might say, most of it nearly true."""
    same = [
        n
        for n, (function, of) in enumerate(zip(ledger.functions, ledger.keys, strict=True))
        if function == WRITE and (of == key or model is Model.QUEUE)
    ]
    match model:
        case Model.SET:
            return [0, 1]
        case Model.COUNTER:
            return [max(0, len(same) + off) for off in (-3, -2, -1, 0, 1)]
    return [*same, *same, NOTHING, FOREIGN, 8]


def finish(draw: st.DrawFn, told: Told, number: int, model: Model, read_back: set[int]) -> None:
    """It ends somehow, or never; a key is read back once at most, as it is in earnest."""
    ledger = told.ledger
    key = ledger.keys[number]
    outcome = draw(st.sampled_from([OK, OK, OK, UNKNOWN, FAILED]))
    if ledger.read_back_from is not None and ledger.functions[number] == READ:
        outcome = FAILED if key in read_back else outcome
        read_back |= {key} if outcome is OK else set()
    value = NOTHING
    if ledger.functions[number] != WRITE and outcome is OK:
        value = draw(st.sampled_from(answers(model, ledger, key)))
    if outcome is not UNKNOWN or draw(st.booleans()):
        told.end(number, outcome, value)
