"""Process pressure: the target finds no room for another process or thread."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from bounceback.faults.inside import not_by_chance
from bounceback.faults.pressure import PressureFault
from bounceback.types.choice import ALWAYS, Choice
from bounceback.types.pressure import Pids
from bounceback.types.rules import Rule, one_of


class ProcessPressure(PressureFault):
    """So many threads of ours are in the container's own cgroup, where they do nothing but count.

    100 percent takes all that is left of the limit (the kubelet's podPidsLimit), and what gets free: no new thread or
    process can start there. With a ramp that share is taken. A container that is started again is pressed again. Proof
    is the number of threads held; how often something was refused is told.
    """

    kind: ClassVar[str] = "processPressure"
    hit_words: ClassVar[str] = "threads held"
    amount: ClassVar[str] = "processes"
    rules: ClassVar[tuple[Rule, ...]] = (one_of(("processes", "percentOfLimit")),)
    entry_rules: ClassVar[tuple[Rule, ...]] = (not_by_chance("processPressure"),)

    processes: int | None = Field(None, ge=1, le=4096, description="So many, or as many as there is room for.")

    def act(self, name: str, choice: Choice = ALWAYS) -> Pids:
        return Pids(who=self.who(), amount=self.processes or 0, percent=float(self.percent_of_limit or 0))
