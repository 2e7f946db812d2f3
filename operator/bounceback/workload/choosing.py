"""Which operation comes next: by a seed, so that the same seed makes the same operations in the same order. Pure."""

from __future__ import annotations

import random
from array import array

from bounceback.accounting.ledger import Function, Model
from bounceback.api.workload import Workload


class Choosing:
    """One for a whole load."""

    def __init__(self, workload: Workload) -> None:
        self._draw = random.Random(workload.seed).random
        self._reads = workload.share_of_reads
        self._keys = workload.keys if workload.model in (Model.REGISTER, Model.COUNTER) else 0
        self._other = Function.TAKE if workload.model is Model.QUEUE else Function.READ
        self._asks_for_values = workload.model is Model.SET and self._reads > 0
        self._written = array("I")  # the writes that a read may ask for

    def next(self, number: int) -> tuple[Function, int]:
        """What operation `number` does, and its key; of a Set's read the number of the write that it asks for."""
        if self._reads and self._draw() < self._reads:
            if not self._asks_for_values:
                return self._other, int(self._draw() * self._keys)
            if self._written:
                return Function.READ, self._written[int(self._draw() * len(self._written))]
        if self._asks_for_values:
            self._written.append(number)
        return Function.WRITE, int(self._draw() * self._keys)
