"""Memory pressure: memory that the target may use is held by something else."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from bounceback.faults.inside import Bytes, not_by_chance
from bounceback.faults.pressure import PressureFault
from bounceback.types.choice import ALWAYS, Choice
from bounceback.types.inside import Container
from bounceback.types.pressure import Memory, Victim
from bounceback.types.rules import Rule, one_of


class MemoryPressure(PressureFault):
    """So much memory is held, billed to the container: at once, or growing; what it takes to hold it is part of it.

    What the target uses already stays, so 100 percent of the limit always reaches it. The kernel then ends processes
    (OOM): with `victim` Injector ours, which tries again a second later; with Target one of the target's, and then
    everything is let go: whether it recovers is the question. With a ramp that share is held. Proof is the number of
    MiB held; processes that the kernel ended and waiting times are told.
    """

    kind: ClassVar[str] = "memoryPressure"
    hit_words: ClassVar[str] = "MiB held"
    amount: ClassVar[str] = "amount_bytes"
    rules: ClassVar[tuple[Rule, ...]] = (one_of(("amountBytes", "percentOfLimit")),)
    entry_rules: ClassVar[tuple[Rule, ...]] = (not_by_chance("memoryPressure"),)

    amount_bytes: Bytes | None = Field(None, ge=1_048_576, description="So much is held.")
    growth_bytes_per_second: Bytes | None = Field(
        None, ge=4096, description="It grows so quickly until all of it is held; unset: at once."
    )
    victim: Victim = Field(
        Victim.INJECTOR,
        description="Whose process the kernel ends first when memory runs out. Where the kernel ends all processes of "
        "a container together (memory.oom.group, usual with cgroup v2), Injector gives memory back before it does.",
    )

    def act(self, name: str, choice: Choice = ALWAYS) -> Memory:
        return Memory(
            who=self.who(),
            amount=self.amount_bytes or 0,
            percent=float(self.percent_of_limit or 0),
            growth=self.growth_bytes_per_second or 0,
            victim=self.victim,
        )

    def missing_limit(self, container: Container) -> str:
        return "memory limit" if container.memory_limit is None else ""
