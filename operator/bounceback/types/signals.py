"""Signals to a pod's processes. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

from bounceback.types.choice import ALWAYS, Choice
from bounceback.types.inside import InsideAct
from bounceback.types.repeat import Repeat


@dataclass(frozen=True, slots=True, kw_only=True)
class ToProcesses(InsideAct):
    """What is done to processes, one by one."""

    capabilities: ClassVar[tuple[str, ...]] = ("DAC_READ_SEARCH", "KILL")
    """Who listens on a port is told by /proc/PID/fd, which is its owner's alone (proc(5))."""

    name: str = ""  # the fault's: the dice depend on it
    choice: Choice = ALWAYS  # among the processes that are meant, the oldest first
    waits: bool = False  # nobody to be hit is no reason to refuse it: they are still to come
    follow: bool = False  # processes that take the place of those that ended are hit, too

    def scaled(self, share: float) -> Self:
        """That share of the processes."""
        return replace(self, choice=replace(self.choice, probability=self.choice.probability * share))

    def following(self) -> Self:
        return replace(self, follow=True)

    def taking_place(self) -> Self:
        return replace(self, waits=True)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Self:
        return super(ToProcesses, cls).from_json({**fields, "choice": Choice(**fields["choice"])})


@dataclass(frozen=True, slots=True, kw_only=True)
class Freeze(ToProcesses):
    """They are stopped (SIGSTOP), and go on at its end (SIGCONT)."""

    outlives: ClassVar[bool] = True
    driver: str = field(default="freeze", init=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal(ToProcesses):
    """They get a signal, once or again and again."""

    signal: str  # as signal(7) has it, without SIG
    firsts: bool = False  # only the process with which each container began
    again: Repeat | None = None
    driver: str = field(default="signals", init=False)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Self:
        again = Repeat(**fields["again"]) if fields["again"] else None
        return super(Signal, cls).from_json({**fields, "again": again})
