"""The base of faults on connections: what a relay does to them that the kernel cannot, or only in part."""

from __future__ import annotations

from abc import abstractmethod

from pydantic import Field

from bounceback.faults.base import NetworkFault, nft_needs, relay_needs
from bounceback.types import relay
from bounceback.types.choice import ALWAYS, Choice
from bounceback.types.plan import Act, Direction, Feature, Rung


class ConnectionFault(NetworkFault):
    """On TCP connections between the target and its peers; both directions where `direction` is unset."""

    direction: Direction = Field(
        Direction.BOTH,
        description="What the target sends (Egress), gets (Ingress), or Both.",
    )

    @abstractmethod
    def does(self) -> tuple[tuple[relay.Act, relay.Connections], ...]:
        """What the relay is to do, and to which connections."""

    def rungs(self, choice: Choice = ALWAYS) -> tuple[Rung, ...]:
        return (Rung.RELAY,)

    def act(self, rung: Rung, choice: Choice = ALWAYS) -> Act:
        """Of a rung of the kernel. Raises ValueError for the relay: its rules are `relayed.rules`."""
        raise ValueError(f"{self.kind} has no act on {rung}")

    def ways(self) -> Direction:
        return self.direction

    def needs(self, rung: Rung, choice: Choice = ALWAYS) -> frozenset[Feature]:
        match rung:
            case Rung.RELAY:
                return relay_needs(self)
            case Rung.SOCKETS:
                return frozenset({Feature.SOCK_DESTROY})
            case _:
                return nft_needs(choice)
