"""Slow close: the end of a connection takes its time."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from bounceback.faults.connection_fault import ConnectionFault
from bounceback.types import relay


class ConnectionSlowClose(ConnectionFault):
    """All data arrives at once, and the end of the stream (FIN) later: who waits for it keeps a connection open.

    Proof is the number of ends held back.
    """

    kind: ClassVar[str] = "connectionSlowClose"
    hit_words: ClassVar[str] = "ends of streams held back"

    delay_milliseconds: int = Field(ge=1, le=3_600_000, description="Time until the other side is told.")

    def does(self) -> tuple[tuple[relay.Act, relay.Connections], ...]:
        return ((relay.SlowClose(self.delay_milliseconds * 1000), relay.Connections.ALL),)
