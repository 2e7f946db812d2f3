"""A container's wall clock that is wrong, and where what makes it so is. Standard library only.

Programs of a container that was armed for it have a library of ours preloaded (operator/clock), which asks a page of
memory how far the clock is off. The page is a file of the container, so that an agent on the node reaches it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar, Final, Self

from bounceback.types.inside import InsideAct

FOLDER: Final = "/bounceback/clock"
"""In each container that is armed: a folder of its own, with the page and the library."""
PAGE: Final = f"{FOLDER}/page"
LIBRARY: Final = f"{FOLDER}/libbounceback-clock.so"
PRELOAD_VARIABLE: Final = "LD_PRELOAD"
CONTAINERS_VARIABLE: Final = "BOUNCEBACK_CONTAINERS"
"""Names, with commas between them, of the containers for which the page and the library are laid out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Skew(InsideAct):
    """The clock jumps by so many milliseconds, and goes that much faster (negative: slower) than the true one."""

    capabilities: ClassVar[tuple[str, ...]] = ("DAC_READ_SEARCH",)  # programs and environments of others
    outlives: ClassVar[bool] = True

    offset_milliseconds: int = 0
    drift_ppm: int = 0  # microseconds a second
    driver: str = field(default="clock", init=False)

    def scaled(self, share: float) -> Self:
        return replace(
            self,
            offset_milliseconds=round(self.offset_milliseconds * share),
            drift_ppm=round(self.drift_ppm * share),
        )

    def __str__(self) -> str:
        words = [f"{self.offset_milliseconds / 1000:+g} s"] if self.offset_milliseconds else []
        return " and ".join([*words, *([f"{self.drift_ppm:+d} ppm"] if self.drift_ppm else [])])
