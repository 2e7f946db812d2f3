"""Acts that use up what a pod has of space, descriptors and sockets. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

from bounceback.types.inside import InsideAct


@dataclass(frozen=True, slots=True, kw_only=True)
class Fill(InsideAct):
    """The file system at `path` is filled: down to so much free space, or by an amount; one of the three is set."""

    capabilities: ClassVar[tuple[str, ...]] = ("DAC_OVERRIDE",)

    path: str
    free_bytes: int | None = None
    free_percent: int | None = None
    amount_bytes: int | None = None
    leave_bytes: int = 0  # never less than this stays free
    keep: bool = False  # what the target frees meanwhile is filled again
    share: float = 1.0  # of all that
    driver: str = field(default="disk", init=False)

    def scaled(self, share: float) -> Self:
        return replace(self, share=self.share * share)

    def amount(self, size: int, free: int) -> int:
        """Bytes to fill, of a file system with that size and, without what is filled already, that much free."""
        if self.amount_bytes is not None:
            whole = self.amount_bytes
        elif self.free_bytes is not None:
            whole = free - self.free_bytes
        else:
            assert self.free_percent is not None
            whole = free - size * self.free_percent // 100
        return round(max(0, whole) * self.share)


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptors(InsideAct):
    """Processes may have no more than `limit` open files, or no more than `leave` beyond those that they have."""

    capabilities: ClassVar[tuple[str, ...]] = ("DAC_READ_SEARCH", "SETUID", "SETGID")
    outlives: ClassVar[bool] = True

    limit: int | None = None
    leave: int | None = None
    driver: str = field(default="descriptors", init=False)

    def scaled(self, share: float) -> Self:
        """A limit that is that much less of one: half the share, twice as many."""
        return replace(
            self,
            limit=None if self.limit is None else round(self.limit / share),
            leave=None if self.leave is None else round((self.leave + 1) / share) - 1,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowd(InsideAct):
    """Sockets in the target's network: connections to its `port`, held; or its ephemeral ports, all but so many."""

    capabilities: ClassVar[tuple[str, ...]] = ("DAC_READ_SEARCH",)  # /proc/PID/fd of others: who listens
    mebibytes: ClassVar[int] = 192  # 4 KiB a socket, 28,000 of them, are billed to who made them

    port: int = 0
    connections: int = 0
    per_second: int = 0  # connections that are opened
    leave_ports: int | None = None
    share: float = 1.0
    driver: str = field(default="crowd", init=False)

    def scaled(self, share: float) -> Self:
        """That share of the connections, or of the ports that are taken."""
        return replace(self, share=self.share * share)


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog(InsideAct):
    """No more than `size` + 1 connections to `port` wait to be accepted, and so many do."""

    capabilities: ClassVar[tuple[str, ...]] = ("DAC_READ_SEARCH",)
    outlives: ClassVar[bool] = True

    port: int
    size: int = 0
    driver: str = field(default="backlog", init=False)

    def scaled(self, share: float) -> Self:
        """A queue that is longer: half the share, twice the length."""
        return replace(self, size=round((self.size + 1) / share) - 1)
