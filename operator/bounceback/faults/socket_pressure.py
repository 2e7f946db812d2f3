"""Socket pressure: connections, ephemeral ports or the queue of a port are used up."""

from __future__ import annotations

from typing import ClassVar, Final, Self

from pydantic import Field, model_validator

from bounceback.faults.inside import InsideFault, not_by_chance
from bounceback.types.choice import ALWAYS, Choice
from bounceback.types.fields import Model, Port
from bounceback.types.inside import InsideAct
from bounceback.types.rules import Rule, exactly_one, one_of, refuse
from bounceback.types.scarce import Backlog, Crowd

SORTS: Final = ("connections", "ephemeralPorts", "backlog")


class ManyConnections(Model):
    """Connections from inside the pod to a port of it, held; those that the target closes are made again."""

    port: Port = Field(description="A TCP port on which the target listens.")
    count: int = Field(ge=1, le=10_000, description="Connections at a time.")
    per_second: int | None = Field(
        None, ge=1, le=100_000, description="How fast they are made; unset: all of them within a second."
    )


class FewPorts(Model):
    """Ephemeral ports of TCP are taken, so that the pod cannot open connections."""

    leave: int = Field(0, ge=0, le=65_535, description="Ports that are left.")


class ShortBacklog(Model):
    """The queue of connections that the target has not accepted yet is short, and full."""

    port: Port = Field(description="A TCP port on which the target listens.")
    size: int = Field(0, ge=0, le=4096, description="The queue's length, as in listen(2); one more always fits.")


class SocketPressure(InsideFault):
    """Connections to the target are made by the thousand, its ephemeral ports are taken, or its backlog is full.

    All of it happens in the target's network, and the kernel closes all sockets with the agent. The backlog is made
    short on the live socket and put back at the end, unless the target has listened anew by itself; what comes while
    it is full is turned away, which clients feel as a second's delay or more. Sockets are billed to the agent, but
    for what the target accepts. Proof is the number of connections made, of ports taken, or, for the backlog, of
    connections that the kernel turned away.
    """

    kind: ClassVar[str] = "socketPressure"
    hit_words: ClassVar[str] = "sockets taken or turned away"
    by_chance: ClassVar[bool] = False
    rules: ClassVar[tuple[Rule, ...]] = (one_of(SORTS),)
    entry_rules: ClassVar[tuple[Rule, ...]] = (not_by_chance("socketPressure"),)

    connections: ManyConnections | None = Field(None, description="A storm of connections.")
    ephemeral_ports: FewPorts | None = Field(None, description="No port for connections of its own.")
    backlog: ShortBacklog | None = Field(None, description="No room for connections of others.")

    @model_validator(mode="after")
    def _one_sort(self) -> Self:
        values = (self.connections, self.ephemeral_ports, self.backlog)
        given = [name for name, value in zip(SORTS, values, strict=True) if value is not None]
        if len(given) != 1:
            raise refuse(exactly_one(SORTS, given))
        return self

    def act(self, name: str, choice: Choice = ALWAYS) -> InsideAct:
        if self.backlog is not None:
            return Backlog(who=self.who(), port=self.backlog.port, size=self.backlog.size)
        if self.connections is not None:
            storm = self.connections
            pace = storm.per_second or storm.count
            return Crowd(who=self.who(), port=storm.port, connections=storm.count, per_second=pace)
        assert self.ephemeral_ports is not None
        return Crowd(who=self.who(), leave_ports=self.ephemeral_ports.leave)
