"""The ledger of a workload: every operation by its number, and what is known of it, in as few bytes as possible."""

from __future__ import annotations

from array import array
from enum import IntEnum, StrEnum
from typing import Final

NOTHING: Final = -1
"""What a read got where there is nothing."""
FOREIGN: Final = -2
"""What a read got that no operation of this ledger can have written."""
MOST_OPERATIONS: Final = 1 << 31
"""Beyond that an event does not fit into 32 bits."""


class Model(StrEnum):
    """What the system promises to be."""

    REGISTER = "Register"  # keys, each with the value that was written last
    SET = "Set"  # values that were added
    COUNTER = "Counter"  # keys, each with the number of its increments
    QUEUE = "Queue"  # values that are put in once and taken out once, first in first out


class Function(IntEnum):
    """What an operation does: the byte that stands for it."""

    WRITE = 0  # Register: a value to a key. Set: a value added. Counter: 1 added to a key. Queue: a value put in
    READ = 1  # Register, Counter: what a key has. Set: whether a value is there
    TAKE = 2  # Queue: the next value, out


class Outcome(IntEnum):
    """What is known of an operation's effect: the byte that stands for it."""

    UNKNOWN = 0  # no answer, or one that does not say: it may have taken effect, or may yet
    ACKNOWLEDGED = 1
    FAILED = 2  # it certainly had no effect


WRITE, READ, TAKE = (int(function) for function in Function)
UNKNOWN, ACKNOWLEDGED, FAILED = (int(outcome) for outcome in Outcome)
"""As they stand in a ledger: whoever goes through millions of them compares plain numbers."""


class Ledger:
    """Operations, numbered from 0 in the order in which they began, and the order of all beginnings and ends.

    The value that an operation writes is its number, so that each is unlike any other. One operation takes 38 bytes.
    """

    def __init__(self) -> None:
        self.functions = bytearray()
        self.outcomes = bytearray()
        self.keys = array("I")
        """Register, Counter: of the key. Set: in a read the number of the earlier write whose value is asked for."""
        self.values = array("q")
        """Of a read or take what it got: a number, NOTHING or FOREIGN; of Set 1 or 0, of Counter the count."""
        self.events = array("I")
        """In order: twice the number, and 1 more where it is the end."""
        self.times = array("q")
        """Nanoseconds of each event, by one clock."""
        self.read_back_from: int | None = None
        """Operations from this number on are the read-back at the end."""
        self.listed: array[int] | None = None
        """Set: what the list of all values held at the end: numbers, or FOREIGN."""

    def __len__(self) -> int:
        return len(self.functions)

    def begin(self, function: int, key: int, now: int) -> int:
        """Its number. To be called before anything is sent; `now` in nanoseconds."""
        number = len(self.functions)
        self.functions.append(function)
        self.outcomes.append(0)
        self.keys.append(key)
        self.values.append(NOTHING)
        self.events.append(number << 1)
        self.times.append(now)
        return number

    def end(self, number: int, outcome: int, value: int, now: int) -> None:
        """To be called once its answer is there, or is waited for no longer."""
        self.outcomes[number] = outcome
        self.values[number] = value
        self.events.append(number << 1 | 1)
        self.times.append(now)

    def read_back(self) -> None:
        """What follows is the read-back."""
        self.read_back_from = len(self)

    @property
    def last_of_load(self) -> int:
        """Operations below this number are the load."""
        return len(self) if self.read_back_from is None else self.read_back_from
