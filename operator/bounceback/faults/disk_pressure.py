"""Disk pressure: the file system at a path of the target is filled."""

from __future__ import annotations

from typing import ClassVar, Final, Self

from pydantic import Field, model_validator

from bounceback.faults.inside import Bytes, FolderPath, InsideFault, not_by_chance
from bounceback.types.choice import ALWAYS, Choice
from bounceback.types.fields import Percent
from bounceback.types.rules import Rule, exactly_one, one_of, refuse
from bounceback.types.scarce import Fill

LEVELS: Final = ("freeBytes", "freePercent", "amountBytes")
KEEP_WITH: Final = "keep must be false or unset with amountBytes: there is no level to keep"


class DiskPressure(InsideFault):
    """The file system at a path of the target is filled: down to so much free space, or by an amount.

    The path is the container's, and symbolic links lead nowhere outside of it. Space is held by a file without a name,
    which the kernel frees when the agent ends. On the node's own file system (emptyDir, hostPath, what a container
    writes below its root) 15 % and leaveBytes stay free, or it is refused: the kubelet evicts pods below that. A
    volume in memory is billed to the target. With a ramp that share is filled. Proof is the number of MiB held; how
    little was free is told.
    """

    kind: ClassVar[str] = "diskPressure"
    hit_words: ClassVar[str] = "MiB held"
    by_chance: ClassVar[bool] = False
    entry_rules: ClassVar[tuple[Rule, ...]] = (not_by_chance("diskPressure"),)
    rules: ClassVar[tuple[Rule, ...]] = (
        one_of(LEVELS),
        Rule("!self.keep || !has(self.amountBytes)", KEEP_WITH, ".keep"),
    )

    path: FolderPath = Field(description="A folder of the container, on the file system that is meant.")
    free_bytes: Bytes | None = Field(None, description="So much is free afterwards, for others than root.")
    free_percent: Percent | None = Field(None, description="The same, of the file system's size.")
    amount_bytes: Bytes | None = Field(None, ge=1, description="So much is taken.")
    leave_bytes: Bytes = Field(0, description="Refused where less than this would stay free, and given back then.")
    keep: bool = Field(
        False, description="Fill again what the target frees while it lasts; false: who makes room has it."
    )

    @model_validator(mode="after")
    def _one_level(self) -> Self:
        values = (self.free_bytes, self.free_percent, self.amount_bytes)
        given = [name for name, value in zip(LEVELS, values, strict=True) if value is not None]
        if len(given) != 1:
            raise refuse(exactly_one(LEVELS, given))
        if self.keep and self.amount_bytes is not None:
            raise refuse(KEEP_WITH, "keep")
        return self

    def where(self) -> str:
        return self.path

    def act(self, name: str, choice: Choice = ALWAYS) -> Fill:
        return Fill(
            who=self.who(),
            path=self.path,
            free_bytes=self.free_bytes,
            free_percent=self.free_percent,
            amount_bytes=self.amount_bytes,
            leave_bytes=self.leave_bytes,
            keep=self.keep,
        )
