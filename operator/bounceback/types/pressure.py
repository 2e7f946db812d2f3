"""Acts that take what a container has little of: processors, memory, processes. Standard library only."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import ClassVar

from bounceback.types.inside import InsideAct


class Victim(StrEnum):
    """Which process the kernel ends first when the memory that is taken is more than the container may have."""

    INJECTOR = "Injector"
    TARGET = "Target"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cpu(InsideAct):
    """In each container so many processors are kept busy, or that share of its limit."""

    mebibytes: ClassVar[int] = 32
    processors: float = 0.0
    percent: float = 0.0  # of the limit
    driver: str = field(default="cpu", init=False)

    def scaled(self, share: float) -> Cpu:
        return replace(self, processors=self.processors * share, percent=self.percent * share)

    def wanted(self, limit: float | None) -> float:
        """Processors. Raises ValueError for a share of no limit."""
        return self.processors or _share(limit, self.percent, "CPU limit")


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory(InsideAct):
    """In each container so many bytes are held, or that share of its limit; `growth`: bytes a second, 0: at once."""

    amount: int = 0
    percent: float = 0.0  # of the limit
    growth: int = 0
    victim: str = Victim.INJECTOR
    driver: str = field(default="memory", init=False)

    def scaled(self, share: float) -> Memory:
        """That much less of it, growing as quickly."""
        return replace(self, amount=round(self.amount * share), percent=self.percent * share)

    def wanted(self, limit: int | None) -> int:
        """Bytes. Raises ValueError for a share of no limit."""
        return self.amount or round(_share(limit, self.percent, "memory limit"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Pids(InsideAct):
    """In each container there are so many threads of ours, or that share of its limit."""

    mebibytes: ClassVar[int] = 128
    amount: int = 0
    percent: float = 0.0  # of the limit
    driver: str = field(default="pids", init=False)

    def scaled(self, share: float) -> Pids:
        return replace(self, amount=math.ceil(self.amount * share), percent=self.percent * share)

    def wanted(self, limit: int | None) -> int:
        """Threads. Raises ValueError for a share of no limit."""
        return self.amount or math.ceil(_share(limit, self.percent, "limit of processes"))


def _share(limit: float | None, percent: float, what: str) -> float:
    if limit is None:
        raise ValueError(f"has no {what} on its node, so there is nothing to take {percent:g} percent of")
    return limit * percent / 100
