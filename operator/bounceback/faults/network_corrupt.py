"""Corruption: packets between the target and its peers have a wrong bit."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from bounceback.faults.packet_fault import PacketFault, counted_elsewhere
from bounceback.types.choice import ALWAYS, Choice
from bounceback.types.fields import Percent
from bounceback.types.plan import Act, Feature, Netem, Rung
from bounceback.types.rules import Rule


class NetworkCorrupt(PacketFault):
    """One bit of a share of the packets is turned (tc-netem(8)); a checksum finds it, and the packet is thrown away.

    netem does not count them: proof is the number that were corrupted for sure, by the number that passed.
    """

    kind: ClassVar[str] = "networkCorrupt"
    hit_words: ClassVar[str] = "packets corrupted"
    qdisc: ClassVar[Feature] = Feature.NETEM
    entry_rules: ClassVar[tuple[Rule, ...]] = (counted_elsewhere("networkCorrupt", Rung.NETEM, "Relay"),)

    corrupt_percent: int = Field(ge=1, le=100, description="Share of the packets that get a wrong bit.")
    correlation_percent: Percent = Field(
        0, description="How much the fate of one packet depends on that of the one before; the share stays what it is."
    )

    def act(self, rung: Rung, choice: Choice = ALWAYS) -> Act:
        return Netem(
            corrupt_percent=self.corrupt_percent * choice.probability,
            corrupt_correlation=float(self.correlation_percent),
        )
