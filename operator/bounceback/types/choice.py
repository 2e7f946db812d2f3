"""Which of the things that match are hit: shared by every rule of the relay, of the DNS handler and of the TLS one.

Decisions follow from the choice, the rule's name and the order of what matched, never from time or a generator that
others draw from: the same seed and the same traffic make the same decisions, on any machine. Standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_MASK: Final = (1 << 64) - 1
_GAMMA: Final = 0x9E3779B97F4A7C15


@dataclass(frozen=True, slots=True)
class Choice:
    """Which of the things that a rule sees it hits; all parts must agree.

    They are counted from 1 for each rule, in the order in which it sees them. The draw for the k-th depends on `seed`,
    the rule's name and k alone: the same seed hits the same ones, and a larger probability hits those that a smaller
    one does, and more.
    """

    probability: float = 1.0
    nth: int = 0  # every nth; 0: all
    first_n: int = 0  # at most this many are hit; 0: no end
    seed: int = 0

    @property
    def everything(self) -> bool:
        return self.probability >= 1 and self.nth <= 1 and not self.first_n


ALWAYS: Final = Choice()


class Chooser:
    """One rule's choice among the things that it sees, one after the other."""

    __slots__ = ("_stream", "choice", "hits", "seen")

    def __init__(self, choice: Choice, name: str) -> None:
        self.choice = choice
        self.seen = 0
        self.hits = 0
        self._stream = stream(choice.seed, name)

    def next(self) -> bool:
        """Whether the next one is hit."""
        self.seen += 1
        hit = self._agrees(self.seen)
        self.hits += hit
        return hit

    def _agrees(self, number: int) -> bool:
        choice = self.choice
        if choice.first_n and self.hits >= choice.first_n:
            return False
        if choice.nth and number % choice.nth:
            return False
        return choice.probability >= 1 or drawn(self._stream, number) < choice.probability


def stream(seed: int, name: str) -> int:
    """What tells the draws of one rule from those of another with the same seed."""
    import hashlib  # brings OpenSSL along: agents that throw no dice have no use for it

    return int.from_bytes(hashlib.blake2b(f"{seed}\0{name}".encode(), digest_size=8).digest(), "big")


def drawn(stream: int, number: int) -> float:
    """The number-th draw of a stream: evenly spread over 0 <= x < 1.

    SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014), entered at any place.
    """
    value = (stream + number * _GAMMA) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return ((value ^ (value >> 31)) >> 11) / (1 << 53)  # as many bits as a float holds
