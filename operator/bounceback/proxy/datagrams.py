"""One way of what one UDP client says under rules: what becomes of each datagram, and when. No I/O, no clock.

As netem does it, datagrams that are held for different times overtake each other.
"""

from __future__ import annotations

from bounceback.proxy.lane import EARLY, Applied
from bounceback.proxy.shaping import Bucket, Delays, Dice, Losses, flipped
from bounceback.types import relay as does
from bounceback.types.plan import Direction


class Course:
    """What the rules that go this way make of each datagram."""

    __slots__ = ("_chances", "_delays", "_dice", "_throttles", "rules")

    def __init__(self, rules: tuple[Applied, ...], way: Direction, number: int) -> None:
        self.rules = rules
        self._chances: list[tuple[Applied, Losses]] = []
        self._delays: list[tuple[Applied, Delays]] = []
        self._throttles: list[tuple[Applied, Bucket, float]] = []  # with the seconds that one may wait
        for applied in rules:
            rule = applied.rule
            dice = Dice(rule.choice.seed, rule.name, number, way)
            match rule.act:
                case does.Lose() as act:
                    self._chances.append((applied, Losses(act, dice)))
                case does.Duplicate() | does.Corrupt() | does.Reorder() as act:
                    self._chances.append((applied, Losses(does.Lose(act.probability, act.correlation), dice)))
                case does.Hold() as act:
                    self._delays.append((applied, Delays(act, dice)))
                case does.Throttle() as act:
                    self._throttles.append((applied, applied.bucket(way, act), act.latency_us / 1e6))
                case _:
                    pass

    def of(self, data: bytes, now: float) -> list[tuple[float, bytes]]:
        """What arrives of it, and when: nothing, itself, or more than one."""
        due, copies, size = now, 1, len(data)
        for applied in self.rules:
            if isinstance(applied.rule.act, does.Silence):
                applied.count(size)
                return []
        for applied, delays in self._delays:
            if applied.hits_segment():
                due += delays.next()
                applied.count(size)
        for applied, chances in self._chances:
            act, hit = applied.rule.act, applied.hits_segment() and chances.next()
            if isinstance(act, does.Reorder) and not hit:
                due += act.delay_us / 1e6
            if not hit:
                continue
            applied.count(size)
            match act:
                case does.Lose():
                    return []
                case does.Duplicate():
                    copies += 1
                case does.Corrupt() if data:
                    data = flipped(data, chances.dice)
                case _:
                    pass
        found = []
        for _ in range(copies):
            if (paced := self._paced(size, due)) is not None:
                found.append((paced, data))
        return found

    def _paced(self, size: int, ready: float) -> float | None:
        """When the throttles have let it through; None: their queue is full."""
        due = ready
        for applied, bucket, longest in self._throttles:
            if bucket.queue(ready) > longest:
                applied.count(size)
                return None
            due = max(due, gone := bucket.take(size, ready))
            if gone > ready + EARLY:
                applied.count(size)
        return due
