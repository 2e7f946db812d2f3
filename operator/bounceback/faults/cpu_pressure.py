"""CPU pressure: processors that the target may use are busy with something else."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from bounceback.faults.inside import not_by_chance
from bounceback.faults.pressure import PressureFault
from bounceback.types.choice import ALWAYS, Choice
from bounceback.types.inside import Container
from bounceback.types.pressure import Cpu
from bounceback.types.rules import Rule, one_of


class CpuPressure(PressureFault):
    """Processes of ours in the container's own cgroup burn so much processor time, billed to its limit.

    So the target is slowed down by its own limit (throttled) and by its share of what the node has, and others keep
    theirs. With a ramp that share of it is burned. A container that is started again is pressed again. Proof is the
    number of milliseconds that the kernel has billed to our processes; throttled time and waiting time are told.
    """

    kind: ClassVar[str] = "cpuPressure"
    hit_words: ClassVar[str] = "milliseconds of processor time burned"
    amount: ClassVar[str] = "workers"
    rules: ClassVar[tuple[Rule, ...]] = (one_of(("workers", "percentOfLimit")),)
    entry_rules: ClassVar[tuple[Rule, ...]] = (not_by_chance("cpuPressure"),)

    workers: int | None = Field(
        None, ge=1, le=64, description="So many processes that never rest: each wants a processor of its own."
    )

    def act(self, name: str, choice: Choice = ALWAYS) -> Cpu:
        return Cpu(who=self.who(), processors=float(self.workers or 0), percent=float(self.percent_of_limit or 0))

    def missing_limit(self, container: Container) -> str:
        return "CPU limit" if container.cpu_limit is None else ""
