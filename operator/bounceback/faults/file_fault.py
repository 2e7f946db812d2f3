"""File fault: a file of the target is corrupt, cut short, out of date, or gone."""

from __future__ import annotations

from typing import Annotated, ClassVar, Final, Self

from pydantic import Field, model_validator

from bounceback.faults.inside import Bytes, FilePath, InsideFault, not_by_chance
from bounceback.types.choice import ALWAYS, Choice
from bounceback.types.files import Damage, Spoil
from bounceback.types.rules import Rule, refuse

PERCENT_WITH: Final = "corruptPercent must be given with damage Corrupt, and with it only"
KEEP_WITH: Final = "keepBytes must be unset with any damage but Truncate"


class FileFault(InsideFault):
    """A file of the target is Corrupt, cut short (Truncate), out of date (Stale), or gone (Remove) for a while.

    The original is kept beside it under a name that begins with bb-, and is exchanged with it in one step at the
    beginning and at the end: it comes back as it was, with owner, mode and times. What has the file open goes on with
    the original. What the target does to the file meanwhile counts for more, and is told: a file of its own stays, and
    so does what it wrote. Stale: who opens it sees what was in it when the fault began; newer contents come to
    light at the end. Proof is the number of changes: one, and each newer content that was withheld.
    """

    kind: ClassVar[str] = "fileFault"
    hit_words: ClassVar[str] = "changes to a file"
    by_chance: ClassVar[bool] = False
    rules: ClassVar[tuple[Rule, ...]] = (
        Rule("(self.damage == 'Corrupt') == has(self.corruptPercent)", PERCENT_WITH, ".corruptPercent"),
        Rule("self.damage == 'Truncate' || !has(self.keepBytes)", KEEP_WITH, ".keepBytes"),
    )
    entry_rules: ClassVar[tuple[Rule, ...]] = (not_by_chance("fileFault"),)

    path: FilePath = Field(description="The file, as the container sees it; no symbolic link.")
    damage: Damage = Field(description="Corrupt, Truncate, Stale or Remove.")
    corrupt_percent: Annotated[int, Field(ge=1, le=100)] | None = Field(
        None, description="Share of the file that is other bytes than it was, in pieces; which, the seed decides."
    )
    keep_bytes: Bytes | None = Field(None, description="What Truncate leaves of it; unset: nothing.")

    @model_validator(mode="after")
    def _fits_the_damage(self) -> Self:
        if (self.damage is Damage.CORRUPT) != (self.corrupt_percent is not None):
            raise refuse(PERCENT_WITH, "corruptPercent")
        if self.keep_bytes is not None and self.damage is not Damage.TRUNCATE:
            raise refuse(KEEP_WITH, "keepBytes")
        return self

    def where(self) -> str:
        return self.path

    def act(self, name: str, choice: Choice = ALWAYS) -> Spoil:
        return Spoil(
            who=self.who(),
            path=self.path,
            damage=str(self.damage),
            percent=float(self.corrupt_percent or 0),
            keep_bytes=self.keep_bytes or 0,
            seed=choice.seed,
            name=name,
        )
