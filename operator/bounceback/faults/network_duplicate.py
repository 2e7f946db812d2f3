"""Duplicates: packets between the target and its peers come twice."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from bounceback.faults.packet_fault import PacketFault, not_counted
from bounceback.types.choice import ALWAYS, Choice
from bounceback.types.fields import Percent
from bounceback.types.plan import Act, Feature, Netem, Rung
from bounceback.types.rules import Rule


class NetworkDuplicate(PacketFault):
    """A share of the packets is sent twice, one right after the other (tc-netem(8)).

    netem does not count them: proof is the number that were duplicated for sure, by the number that passed.
    Linux 6.12.50 to 6.18 has no other netem on an interface beside one that duplicates.
    """

    kind: ClassVar[str] = "networkDuplicate"
    hit_words: ClassVar[str] = "packets duplicated"
    qdisc: ClassVar[Feature] = Feature.NETEM
    relayed: ClassVar[bool] = False
    entry_rules: ClassVar[tuple[Rule, ...]] = (not_counted("networkDuplicate"),)

    duplicate_percent: int = Field(ge=1, le=100, description="Share of the packets that come twice.")
    correlation_percent: Percent = Field(
        0, description="How much the fate of one packet depends on that of the one before; the share stays what it is."
    )

    def act(self, rung: Rung, choice: Choice = ALWAYS) -> Act:
        return Netem(
            duplicate_percent=self.duplicate_percent * choice.probability,
            duplicate_correlation=float(self.correlation_percent),
        )
