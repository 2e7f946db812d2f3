"""What faults on packets have in common: netem or tbf, nft where it will do, else the relay on whole segments."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from bounceback.faults.base import RELAY_NEEDS, NetworkFault, nft_needs, queue_needs
from bounceback.types.choice import ALWAYS, Choice
from bounceback.types.plan import Direction, Feature, Rung
from bounceback.types.rules import Rule


class PacketFault(NetworkFault):
    """On the packets between the target and its peers."""

    qdisc: ClassVar[Feature]
    """What carries it out, where the kernel has it."""

    direction: Direction = Field(
        Direction.EGRESS, description="Which way's packets: what the target sends (Egress), gets (Ingress), or Both."
    )

    def rungs(self, choice: Choice = ALWAYS) -> tuple[Rung, ...]:
        """A qdisc throws dice of its own, and does not count."""
        own = Rung.TBF if self.qdisc is Feature.TBF else Rung.NETEM
        return (Rung.RELAY,) if counts(choice) else (own, Rung.RELAY)

    def ways(self) -> Direction:
        return self.direction

    def needs(self, rung: Rung, choice: Choice = ALWAYS) -> frozenset[Feature]:
        match rung:
            case Rung.NFT:
                return nft_needs(choice)
            case Rung.RELAY:
                return RELAY_NEEDS
            case _:
                return queue_needs(self.qdisc, self.direction)


def counts(choice: Choice) -> bool:
    """It asks for more than dice."""
    return choice.nth > 1 or choice.first_n > 0


def counted_elsewhere(kind: str, qdisc: Rung, others: str) -> Rule:
    """On the entry: a qdisc cannot be forced for what it cannot count."""
    return Rule(
        f"!has(self.{kind}) || (self.nth <= 1 && self.firstN == 0)"
        f" || !has(self.mechanism) || self.mechanism != '{qdisc}'",
        f"mechanism must be {others}, or unset, for {kind} with nth or firstN",
        ".mechanism",
    )
