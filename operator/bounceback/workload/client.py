"""What a protocol must offer to carry a workload."""

from __future__ import annotations

from array import array
from typing import Any, Final, NamedTuple, Protocol

from bounceback.accounting.ledger import Function, Outcome

NO_NUMBER: Final = -2
"""In an answer: something is there, and it is no number."""
MOST: Final = (1 << 63) - 1


class Answer(NamedTuple):
    """`value` is what a read or take got, as the system has it; None: nothing is there. A Set's read gets 1 or None."""

    outcome: Outcome
    value: int | None = None


class Client(Protocol):
    """One connection, for one operation at a time."""

    trouble: str
    """What the last operation that was not acknowledged came to, for people; empty where it cannot be told."""

    async def perform(self, function: Function, key: str, value: int) -> Answer:
        """Never raises for what the system or the way to it does: no answer in time is UNKNOWN.

        A read or take that got an answer is ACKNOWLEDGED, and a read that did not is FAILED: it changes nothing.
        """

    async def close(self) -> None:
        """The next operation connects anew."""


class System(Protocol):
    """Where clients come from."""

    def client(self) -> Client: ...

    async def listed(self, key: str, seconds: float) -> array[int]:
        """Of a Set: all values there are; entries that are no numbers are NO_NUMBER. Raises SilentError."""


class SilentError(Exception):
    """The system does not answer as it must; the message says what it does."""


def number_of(found: Any) -> int:
    """Of text or a number, as long as it fits into 63 bits; else NO_NUMBER."""
    if isinstance(found, bool) or (isinstance(found, float) and not found.is_integer()):
        return NO_NUMBER
    try:
        number = int(found)
    except (ValueError, TypeError, OverflowError):
        return NO_NUMBER
    return number if abs(number) <= MOST else NO_NUMBER
