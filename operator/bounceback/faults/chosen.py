"""Which of what a fault is about it hits: the same four fields for every kind, on the entry that holds it."""

from __future__ import annotations

from pydantic import Field

from bounceback.types.choice import Choice
from bounceback.types.fields import Model, Percent


class Chosen(Model):
    """To be inherited by what holds a fault. What is counted is up to the kind: packets, connections, queries."""

    probability: Percent = Field(
        100, description="Chance in percent of each packet, connection or query (whatever the kind is about) to be hit."
    )
    nth: int = Field(0, ge=0, le=1_000_000, description="Only every nth of them; 0: any.")
    first_n: int = Field(0, ge=0, le=1_000_000_000, description="At most this many are hit; 0: no end.")
    seed: int = Field(
        0,
        ge=0,
        le=2_147_483_647,
        description="Decides which are hit where that is left to chance; the same seed, the same.",
    )

    def choice(self) -> Choice:
        return Choice(self.probability / 100, self.nth, self.first_n, self.seed)
