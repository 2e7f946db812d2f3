"""Refusal: nobody listens any more."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

from pydantic import Field

from bounceback.faults.connection_fault import ConnectionFault
from bounceback.types import relay


class Existing(StrEnum):
    KEEP = "Keep"
    RESET = "Reset"


class ConnectionRefusal(ConnectionFault):
    """The peers are down: connecting to them is refused, and connections that are open are reset, or kept if asked.

    Proof is the number of connections reset or turned away. Where the kernel refuses in the place of a closed port
    (`bounceback proxy` when all are refused) nobody can count those.
    """

    kind: ClassVar[str] = "connectionRefusal"
    hit_words: ClassVar[str] = "connections refused or reset"

    existing_connections: Existing = Field(
        Existing.RESET, description="Those that are open when it begins: Reset, or Keep."
    )

    def does(self) -> tuple[tuple[relay.Act, relay.Connections], ...]:
        refusal = (relay.Refuse(), relay.Connections.NEW)
        if self.existing_connections is Existing.KEEP:
            return (refusal,)
        return ((relay.Reset(), relay.Connections.EXISTING), refusal)
