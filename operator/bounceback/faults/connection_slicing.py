"""Slicing: what was sent in one piece arrives in many."""

from __future__ import annotations

from typing import ClassVar, Final, Self

from pydantic import Field, model_validator

from bounceback.faults.connection_fault import ConnectionFault
from bounceback.types import relay
from bounceback.types.rules import Rule, refuse

TOO_VARIED: Final = "variationBytes must be below sizeBytes"


class ConnectionSlicing(ConnectionFault):
    """Data is cut into small pieces, each sent by itself: a program that takes one read for one message is found out.

    Nothing is lost and nothing changes its place. Proof is the number of segments cut.
    """

    kind: ClassVar[str] = "connectionSlicing"
    hit_words: ClassVar[str] = "segments cut"
    rules: ClassVar[tuple[Rule, ...]] = (Rule("self.variationBytes < self.sizeBytes", TOO_VARIED, ".variationBytes"),)

    size_bytes: int = Field(ge=1, le=1_000_000, description="The size of a piece.")
    variation_bytes: int = Field(
        0, ge=0, le=1_000_000, description="How much smaller or larger a piece may be; must be below sizeBytes."
    )
    pause_microseconds: int = Field(
        0, ge=0, le=60_000_000, description="Time between two pieces; below a millisecond several go at a time."
    )

    @model_validator(mode="after")
    def _varies_less_than_it_is(self) -> Self:
        if self.variation_bytes >= self.size_bytes:
            raise refuse(TOO_VARIED, "variationBytes")
        return self

    def does(self) -> tuple[tuple[relay.Act, relay.Connections], ...]:
        cut = relay.Slice(self.size_bytes, self.variation_bytes, self.pause_microseconds)
        return ((cut, relay.Connections.ALL),)
