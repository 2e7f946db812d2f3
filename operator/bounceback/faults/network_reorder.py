"""Reordering: packets between the target and its peers overtake each other."""

from __future__ import annotations

from typing import ClassVar, Final, Self

from pydantic import Field, model_validator

from bounceback.faults.packet_fault import PacketFault, not_counted
from bounceback.types.choice import ALWAYS, Choice
from bounceback.types.fields import Percent
from bounceback.types.plan import Act, Feature, Netem, Rung
from bounceback.types.rules import Rule, refuse

NOT_ALL: Final = "reorderPercent must be below 100 with a gap of 1: packets that are all sent at once keep their order"


class NetworkReorder(PacketFault):
    """All packets are held for a while, but for a share that is sent at once, before those held (tc-netem(8)).

    Proof is the number of packets that were sent before others.
    """

    kind: ClassVar[str] = "networkReorder"
    hit_words: ClassVar[str] = "packets reordered"
    qdisc: ClassVar[Feature] = Feature.NETEM
    relayed: ClassVar[bool] = False
    rules: ClassVar[tuple[Rule, ...]] = (Rule("self.reorderPercent < 100 || self.gap > 1", NOT_ALL, ".reorderPercent"),)
    entry_rules: ClassVar[tuple[Rule, ...]] = (not_counted("networkReorder"),)

    reorder_percent: int = Field(ge=1, le=100, description="Share of the packets that are not held.")
    correlation_percent: Percent = Field(
        0, description="How much the fate of one packet depends on that of the one before; the share stays what it is."
    )
    delay_milliseconds: int = Field(10, ge=1, le=60_000, description="How long the other packets are held, one way.")
    gap: int = Field(
        1, ge=1, le=1_000_000, description="Only every so manyth packet can overtake, and does by reorderPercent."
    )

    @model_validator(mode="after")
    def _some_are_held(self) -> Self:
        if self.reorder_percent == 100 and self.gap == 1:
            raise refuse(NOT_ALL, "reorderPercent")
        return self

    def act(self, rung: Rung, choice: Choice = ALWAYS) -> Act:
        return Netem(
            delay_us=self.delay_milliseconds * 1000,
            reorder_percent=self.reorder_percent * choice.probability,
            reorder_correlation=float(self.correlation_percent),
            reorder_gap=self.gap,
        )
