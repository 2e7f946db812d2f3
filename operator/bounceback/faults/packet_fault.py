"""What faults on packets have in common: netem or tbf, nft where it will do, else the relay on whole segments."""

from __future__ import annotations

from typing import ClassVar, Final

from pydantic import Field

from bounceback.faults.base import NetworkFault, nft_needs, queue_needs, relay_needs
from bounceback.types.choice import ALWAYS, Choice
from bounceback.types.plan import Direction, Feature, Rung
from bounceback.types.rules import Rule

NOT_COUNTED: Final = "nth and firstN must be unset for {}: netem throws dice and does not count"


class PacketFault(NetworkFault):
    """On the packets between the target and its peers."""

    qdisc: ClassVar[Feature]
    """What carries it out, where the kernel has it."""
    relayed: ClassVar[bool] = True
    """A relay of TCP connections can do it, too."""

    direction: Direction = Field(
        Direction.EGRESS, description="What the target sends (Egress), gets (Ingress), or Both."
    )

    def rungs(self, choice: Choice = ALWAYS) -> tuple[Rung, ...]:
        """A qdisc throws dice of its own, and does not count."""
        own = Rung.TBF if self.qdisc is Feature.TBF else Rung.NETEM
        relay = (Rung.RELAY,) if self.relayed else ()
        return relay if counts(choice) else (own, *relay)

    def ways(self) -> Direction:
        return self.direction

    def needs(self, rung: Rung, choice: Choice = ALWAYS) -> frozenset[Feature]:
        match rung:
            case Rung.NFT:
                return nft_needs(choice)
            case Rung.RELAY:
                return relay_needs(self)
            case _:
                return queue_needs(self.qdisc, self.direction)


def counts(choice: Choice) -> bool:
    """It asks for more than dice."""
    return choice.nth > 1 or choice.first_n > 0


def not_counted(kind: str) -> Rule:
    """On the entry: a qdisc is all there is, and it cannot count."""
    return Rule(f"!has(self.{kind}) || (self.nth <= 1 && self.firstN == 0)", NOT_COUNTED.format(kind), ".nth")


def counted_elsewhere(kind: str, qdisc: Rung, others: str) -> Rule:
    """On the entry: a qdisc cannot be forced for what it cannot count."""
    return Rule(
        f"!has(self.{kind}) || (self.nth <= 1 && self.firstN == 0)"
        f" || !has(self.mechanism) || self.mechanism != '{qdisc}'",
        f"mechanism must be {others}, or unset, for {kind} with nth or firstN",
        ".mechanism",
    )
