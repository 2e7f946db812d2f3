"""File descriptor pressure: processes of the target may have few open files."""

from __future__ import annotations

from typing import Annotated, ClassVar, Final, Self

from pydantic import Field, model_validator

from bounceback.faults.inside import ProcessFault, not_by_chance
from bounceback.types.choice import ALWAYS, Choice
from bounceback.types.rules import Rule, exactly_one, one_of, refuse
from bounceback.types.scarce import Descriptors

LIMITS: Final = ("limit", "leave")
Count = Annotated[int, Field(ge=0, le=1 << 20)]


class FileDescriptorPressure(ProcessFault):
    """Processes of the target may have no more than so many open files, sockets among them, or so many more.

    The soft limit (RLIMIT_NOFILE) of the processes that run when it begins is lowered, and put back at the end, also in
    what they have started meanwhile. What is open stays open. A process that raises its limit by itself keeps it. With
    a ramp the limit falls as that share rises. Proof is the number of calls that were refused, where the node's
    kernel counts them, else that of the looks at which a process had none left.
    """

    kind: ClassVar[str] = "fileDescriptorPressure"
    hit_words: ClassVar[str] = "times without a descriptor"
    by_chance: ClassVar[bool] = False
    rules: ClassVar[tuple[Rule, ...]] = (one_of(LIMITS),)
    entry_rules: ClassVar[tuple[Rule, ...]] = (not_by_chance("fileDescriptorPressure"),)

    limit: Count | None = Field(None, description="Open files that a process may have.")
    leave: Count | None = Field(None, description="Open files that each may have beyond those it has; 0: used up.")

    @model_validator(mode="after")
    def _one_limit(self) -> Self:
        given = [name for name, value in zip(LIMITS, (self.limit, self.leave), strict=True) if value is not None]
        if len(given) != 1:
            raise refuse(exactly_one(LIMITS, given))
        return self

    def act(self, name: str, choice: Choice = ALWAYS) -> Descriptors:
        return Descriptors(who=self.who(), limit=self.limit, leave=self.leave)
