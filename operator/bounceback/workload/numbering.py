"""What operations write, and what is read, as numbers of the ledger. Pure.

A value is the number of its operation and, above 32 bits, that of the run: what an earlier run left behind is none of
this one's. It stays below 2^53, so that it survives whoever takes all numbers for floating ones.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable

from bounceback.accounting.ledger import FOREIGN, NOTHING, Model
from bounceback.workload.client import NO_NUMBER

RUN_BITS = 20
VALUE_BITS = 32


class Numbering:
    """Of one run, which is a number from 1 on."""

    def __init__(self, model: Model, run: int, keys: int) -> None:
        self._model = model
        self._base = run << VALUE_BITS
        self.keys = [f"{run}-{key}" for key in range(keys)]
        """As the system gets them."""
        self._before: dict[int, int] = {}  # what keys had at first
        self._listed_before: frozenset[int] = frozenset()

    def value_of(self, number: int) -> int:
        """As the system gets it."""
        return self._base + number

    def had(self, key: int, value: int | None) -> None:
        """What the key had before the first operation."""
        if value is not None:
            self._before[key] = value

    def listed_before(self, values: Iterable[int]) -> None:
        """What the list had before the first operation."""
        self._listed_before = frozenset(values) - {NO_NUMBER}

    def got(self, key: int, value: int | None, count: int) -> int:
        """What a read or take got, as the ledger has it; `count` operations have begun."""
        match self._model:
            case Model.SET:
                return 0 if value is None else 1
            case Model.COUNTER:
                return (value or 0) - self._before.get(key, 0)
        if value is None or (self._model is Model.REGISTER and self._before.get(key) == value):
            return NOTHING
        return self._number(value, count)

    def listed(self, values: Iterable[int], count: int) -> array[int]:
        """What the list has that it had not before."""
        return array("q", (self._number(value, count) for value in values if value not in self._listed_before))

    def _number(self, value: int, count: int) -> int:
        number = value - self._base
        return number if 0 <= number < count else FOREIGN
