"""Again and again: when the next time is. Standard library only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bounceback.types.choice import drawn, stream


@dataclass(frozen=True, slots=True)
class Repeat:
    """Each time that many seconds after the last one; with `most` above `least` drawn anew each time between them.

    The k-th draw depends on `seed`, `name` and k alone: the same seed, the same times, on every target.
    """

    least: float
    most: float
    seed: int = 0
    name: str = ""  # the fault's

    def times(self) -> Iterator[float]:
        """Seconds since the first time, of the second one and all that follow."""
        at, number = 0.0, 0
        draws = stream(self.seed, self.name) if self.most > self.least else 0
        while True:
            number += 1
            at += self.least + (self.most - self.least) * (drawn(draws, number) if draws else 0.0)
            yield at
