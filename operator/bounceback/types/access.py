"""Acts on what the target opens and reads. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Final, Self

from bounceback.types.choice import ALWAYS, Choice, drawn, stream
from bounceback.types.inside import InsideAct

EVERYWHERE: Final = "EPERM"
"""The error that any kernel with permission events answers; others take Feature.FANOTIFY_ERRNO."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access(InsideAct):
    """Files at `path` and below are opened and read late, or not at all: that error (errno(3)) is the answer then."""

    capabilities: ClassVar[tuple[str, ...]] = ("DAC_READ_SEARCH",)
    """A folder of the target may be its owner's alone."""
    mebibytes: ClassVar[int] = 16  # what waits is billed to who is asked

    path: str
    opens: bool = True
    reads: bool = True
    delay_us: int = 0
    jitter_us: int = 0
    error: str = ""  # "": it is a delay
    choice: Choice = ALWAYS
    name: str = ""  # the fault's: the dice depend on it
    driver: str = field(default="access", init=False)

    def scaled(self, share: float) -> Self:
        """A delay that much shorter; of errors that share."""
        if self.error:
            return replace(self, choice=replace(self.choice, probability=self.choice.probability * share))
        return replace(self, delay_us=round(self.delay_us * share), jitter_us=round(self.jitter_us * share))

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Self:
        return super(Access, cls).from_json({**fields, "choice": Choice(**fields["choice"])})


class Delays:
    """How long each access is held, one after the other: evenly spread around the delay, as the seed has it."""

    def __init__(self, seed: int, name: str) -> None:
        self._seed, self._name = seed, name
        self._stream: int | None = None
        self._count = 0

    def next(self, act: Access) -> float:
        """Seconds."""
        if not act.jitter_us:
            return act.delay_us / 1e6
        if self._stream is None:
            self._stream = stream(self._seed, f"{self._name}\0jitter")
        self._count += 1
        return (act.delay_us + (2 * drawn(self._stream, self._count) - 1) * act.jitter_us) / 1e6
