"""Reset: connections are broken off with an RST."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from bounceback.faults.connection_fault import ConnectionFault
from bounceback.types import relay


class ConnectionReset(ConnectionFault):
    """Both ends of a connection get a real RST (ECONNRESET): those that are open at once, or each after so much.

    With `afterBytes` or `afterMilliseconds` every connection is reset once it has come that far, those opened while it
    lasts too, and none before. Proof is the number of connections reset.
    """

    kind: ClassVar[str] = "connectionReset"
    hit_words: ClassVar[str] = "connections reset"

    after_bytes: int = Field(
        0, ge=0, le=1_000_000_000_000, description="After exactly this much passed one way; 0: whatever passed."
    )
    after_milliseconds: int = Field(
        0,
        ge=0,
        le=3_600_000,
        description="This long after it was opened, or after the fault began if that came later; 0: at any age.",
    )
    refuse_new: bool = Field(False, description="Refuse connections while it lasts (ECONNREFUSED).")

    def does(self) -> tuple[tuple[relay.Act, relay.Connections], ...]:
        reset = relay.Reset(self.after_bytes, self.after_milliseconds * 1000)
        which = relay.Connections.EXISTING if reset.at_once else relay.Connections.ALL
        refusal = ((relay.Refuse(), relay.Connections.NEW),) if self.refuse_new else ()
        return ((reset, which), *refusal)
