"""Acts on what is inside a pod, from its node: its processes, its cgroups, its files. Standard library only.

Modules beside this one have the acts; `types/plan.py` knows which driver is whose.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Self

OURS: Final = re.compile(r"bb-[0-9a-f]{10}(-guard)?|bounceback-.*")
"""Containers that Bounceback adds to pods: agents, guards, the API proxy."""


@dataclass(frozen=True, slots=True)
class Who:
    """Which of a pod's processes: those that fit all that is set. Containers of ours are meant by name only."""

    container: str = ""  # its name in the pod
    process: str = ""  # as /proc/PID/comm has it: the first 15 bytes of the program's name
    port: int = 0  # it listens on this port of TCP

    def __str__(self) -> str:
        words = [f"container {self.container}"] if self.container else []
        words += [f"process {self.process}"] if self.process else []
        words += [f"listening on port {self.port}"] if self.port else []
        return ", ".join(words) or "any process"


@dataclass(frozen=True, slots=True)
class Container:
    """One of a pod's, as its specification has it; a limit is the pod's where only that has one."""

    name: str
    memory_limit: int | None = None  # bytes
    cpu_limit: int | None = None  # thousandths of a processor
    clock: bool = False  # it was armed for a clock that can be changed
    no_clock: str = ""  # why it was not, where it was to be


@dataclass(frozen=True, slots=True, kw_only=True)
class InsideAct:
    """What an order of this sort asks for; the fields of each are JSON, but for `who`."""

    capabilities: ClassVar[tuple[str, ...]] = ()  # beside those that any NodePod has (vehicles/node_pod.py)
    mebibytes: ClassVar[int] = 0  # of memory that the agent needs beside its own
    outlives: ClassVar[bool] = False  # what it makes does not end with the agent's process: a guard undoes it

    who: Who = Who()
    driver: str = field(default="", init=False)  # the module of `drivers` that carries it out

    def scaled(self, share: float) -> Self:
        """That share of it (0 < share < 1), for patterns."""
        raise NotImplementedError

    def following(self) -> Self:
        """The same where also what takes the place of what ended in the pod is to be hit."""
        return self

    def taking_place(self) -> Self:
        """The same for a pod that took a target's place: what it is about may not be there yet."""
        return self

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Self:
        """From what dataclasses.asdict made of it. Raises KeyError, TypeError."""
        given = {name: value for name, value in fields.items() if name != "driver"}
        return cls(**{**given, "who": Who(**given["who"])})
