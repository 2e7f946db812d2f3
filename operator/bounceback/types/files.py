"""Acts on files that the target uses. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import ClassVar, Final, Self

from bounceback.types.choice import drawn, stream
from bounceback.types.inside import InsideAct

MOST_PIECES: Final = 4096
SHORTEST_PIECE: Final = 16


class Damage(StrEnum):
    CORRUPT = "Corrupt"
    TRUNCATE = "Truncate"
    STALE = "Stale"
    REMOVE = "Remove"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spoil(InsideAct):
    """The file at `path` is damaged: that share of it is corrupt, or so many bytes are left."""

    capabilities: ClassVar[tuple[str, ...]] = ("CHOWN", "DAC_OVERRIDE", "FOWNER")
    outlives: ClassVar[bool] = True

    path: str
    damage: str
    percent: float = 0.0
    keep_bytes: int = 0
    seed: int = 0
    name: str = ""  # what is left to chance depends on it
    driver: str = field(default="files", init=False)

    def scaled(self, share: float) -> Self:
        """That share of what is corrupt; other damage is done or not."""
        return replace(self, percent=self.percent * share)


def pieces(act: Spoil, size: int) -> list[tuple[int, int, int]]:
    """What is corrupt in a file of that size, at least one piece: start, end, and what its bytes are XORed with."""
    length = max(SHORTEST_PIECE, -(-size // MOST_PIECES))
    count = -(-size // length)
    draws = stream(act.seed, act.name)
    chosen = [number for number in range(count) if drawn(draws, number) * 100 < act.percent]
    if not chosen and count:
        chosen = [int(drawn(draws, count) * count)]
    masks = stream(act.seed, f"{act.name}\0mask")
    return [(n * length, min(size, (n + 1) * length), 1 + int(drawn(masks, n) * 255)) for n in chosen]


def corrupted(data: bytes, mask: int) -> bytes:
    """Each byte is another one; done twice it is as it was."""
    return bytes(byte ^ mask for byte in data)
