"""The base of faults on what is inside a pod: carried out from its node, on its processes, cgroups and files."""

from __future__ import annotations

import posixpath
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final

from pydantic import Field

from bounceback.faults.base import Fault
from bounceback.types.choice import ALWAYS, Choice
from bounceback.types.fields import ObjectName, Port
from bounceback.types.inside import Container, InsideAct, Who
from bounceback.types.plan import Feature, Rung
from bounceback.types.rules import Rule

ProcessName = Annotated[str, Field(min_length=1, max_length=15, pattern=r"^[^\s/]+$")]
FOLDER_PATTERN: Final = r"^/[^\x00]*$"
FILE_PATTERN: Final = r"^/[^\x00]*[^/\x00]$"
FolderPath = Annotated[str, Field(min_length=1, max_length=1024, pattern=FOLDER_PATTERN)]
FilePath = Annotated[str, Field(min_length=2, max_length=1024, pattern=FILE_PATTERN)]
"""As the container sees them."""
Bytes = Annotated[int, Field(ge=0, le=1 << 50)]
KERNELS_OWN: Final = ("/proc", "/sys")
"""What a container has there is no file system with files; whatever is mounted at other paths, an agent sees."""
NOT_BY_CHANCE: Final = "probability, nth and firstN must be unset for {}: there is nothing to choose from"


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why a pod cannot be hit; `reason` is one word for programs."""

    reason: str
    message: str
    field: str = ""  # of the fault, where it is about one: ".path"


class InsideFault(Fault):
    """Carried out by an agent on the pod's node, in a NodePod."""

    by_chance: ClassVar[bool] = True  # it is about things that can be chosen from
    way_out: ClassVar[str] = "choose pods on a node that can, or another fault"  # where a kernel has not what it needs

    container: ObjectName | None = Field(
        None, description="One container of the pod by name; unset: all, but those that Bounceback has added."
    )

    @abstractmethod
    def act(self, name: str, choice: Choice = ALWAYS) -> InsideAct:
        """What the agent is to do; `name` is the fault's, on which what is left to chance depends."""

    def obstacle(self, containers: Sequence[Container]) -> Obstacle | None:
        """Why it cannot be carried out on a pod with these containers; None: nothing is known against it."""
        names = [each.name for each in containers]
        if self.container is not None and self.container not in names:
            return Obstacle(
                "NoContainer", f"it has no container {self.container}; it has {', '.join(names)}", ".container"
            )
        path = posixpath.normpath(f"/{self.where().lstrip('/')}")
        if any(f"{path}/".startswith(f"{each}/") for each in KERNELS_OWN):
            return Obstacle("NotAVolume", f"{path} is the kernel's own: name a path with files of the target", ".path")
        return None

    def where(self) -> str:
        """The path that it is about, as the container sees it; empty: none."""
        return ""

    def who(self) -> Who:
        return Who(container=self.container or "")

    def needs(self) -> frozenset[Feature]:
        """What the kernel of the target's node must be able to do, and is probed for; most need nothing special."""
        return frozenset()

    def rungs(self, choice: Choice = ALWAYS) -> tuple[Rung, ...]:
        return (Rung.NODE,)


class ProcessFault(InsideFault):
    """Of these, one on processes that can be told apart."""

    process: ProcessName | None = Field(
        None, description="Only processes of this name, as /proc/PID/comm has it (15 characters at most)."
    )
    port: Port | None = Field(None, description="Only the processes that listen on this TCP port.")

    def who(self) -> Who:
        return Who(self.container or "", self.process or "", self.port or 0)


def not_by_chance(kind: str) -> Rule:
    """On the entry, for `by_chance` False."""
    cel = f"!has(self.{kind}) || (self.probability == 100 && self.nth <= 1 && self.firstN == 0)"
    return Rule(cel, NOT_BY_CHANCE.format(kind), ".probability")
