"""One way of one connection under rules: what arrives, what comes out, and when. No I/O, no clock: `now` is given.

Data goes through in this order, whatever the order of the rules: swallowed, corrupted, lost, sliced, held; then, when
its time has come, counted against limits and paced by throttles. Times are in seconds of one monotonic clock.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, cast

from bounceback.proxy.counters import Counter
from bounceback.proxy.shaping import Bucket, Delays, Dice, Losses, flipped, pieces
from bounceback.types import relay as does
from bounceback.types.choice import Chooser
from bounceback.types.plan import Direction
from bounceback.types.relay import Drawn, Rule

EARLY: Final = 0.0005
"""Seconds before its time at which something may go: the loop's timers know whole milliseconds."""


class End(Enum):
    """How a stream ends."""

    FIN = auto()  # this way; the other goes on
    CLOSE = auto()  # both ways, in order
    RESET = auto()  # both ways, at once


Piece = bytes | End


class Applied:
    """A rule in force, with what all its connections share."""

    __slots__ = ("buckets", "chooser", "counter", "first_new", "rule", "shapes", "since")

    def __init__(self, rule: Rule, since: float, first_new: int) -> None:
        self.rule = rule
        self.shapes = _shapes(rule.act)
        self.since = since  # when it came into force
        self.first_new = first_new  # connections of this number and above came later than that
        self.counter = Counter()
        self.chooser = Chooser(rule.choice, rule.name)
        self.buckets: dict[Direction, Bucket] = {}

    @property
    def hits_everything(self) -> bool:
        """On a connection that was chosen; else it depends on the segment."""
        return self.rule.drawn is not Drawn.SEGMENT or self.rule.choice.everything

    def hits_segment(self) -> bool:
        """Whether the next segment is hit; numbers it."""
        return self.rule.drawn is not Drawn.SEGMENT or self.chooser.next()

    def count(self, size: int) -> None:
        self.counter.hits += 1
        self.counter.bytes += size

    def bucket(self, way: Direction, act: does.Throttle) -> Bucket:
        if not act.shared:
            return Bucket(act.rate, act.burst)
        if way not in self.buckets:
            self.buckets[way] = Bucket(act.rate, act.burst)
        return self.buckets[way]


@dataclass(slots=True)
class _Item:
    arrived: float
    due: float
    piece: Piece
    paced: bool = False  # `due` is when the throttles let it through


def _shapes(act: does.Act) -> bool:
    """Whether it does something to what goes through a stream, and not only to connections or datagrams."""
    match act:
        case does.Reset():
            return act.after_bytes > 0
        case does.Refuse() | does.Duplicate() | does.Reorder():
            return False
        case _:
            return True


class _Stages:
    """The rules of one way of one connection, sorted by what they do."""

    __slots__ = ("closings", "corrupts", "holds", "limits", "losses", "silences", "slices", "throttles")

    def __init__(self) -> None:
        self.holds: list[tuple[Applied, Delays]] = []
        self.silences: list[Applied] = []
        self.throttles: list[tuple[Applied, Bucket]] = []
        self.losses: list[tuple[Applied, Losses]] = []
        self.corrupts: list[tuple[Applied, Losses]] = []
        self.slices: list[tuple[Applied, does.Slice, Dice]] = []
        self.limits: list[tuple[Applied, int, End]] = []
        self.closings: list[tuple[Applied, float]] = []  # with the seconds that the end of the stream is held back

    @property
    def closing(self) -> float:
        return sum(seconds for _, seconds in self.closings)

    def add(self, applied: Applied, way: Direction, number: int) -> None:
        rule = applied.rule
        dice = Dice(rule.choice.seed, rule.name, number, way)
        match rule.act:
            case does.Hold() as act:
                self.holds.append((applied, Delays(act, dice)))
            case does.Silence():
                self.silences.append(applied)
            case does.Throttle() as act:
                self.throttles.append((applied, applied.bucket(way, act)))
            case does.Lose() as act:
                self.losses.append((applied, Losses(act, dice)))
            case does.Corrupt() as act:
                self.corrupts.append((applied, Losses(does.Lose(act.probability, act.correlation), dice)))
            case does.Slice() as act:
                self.slices.append((applied, act, dice))
            case does.LimitData() as act:
                self.limits.append((applied, act.size, End.RESET if act.reset else End.CLOSE))
            case does.Reset(after_bytes=size) if size:
                self.limits.append((applied, size, End.RESET))
            case does.SlowClose() as act:
                self.closings.append((applied, act.delay_us / 1e6))
            case _:
                pass  # what is done to whole connections, or to datagrams


class Lane:
    """What the rules that go this way make of what comes in."""

    __slots__ = ("_items", "_last_due", "_number", "_stages", "_way", "held", "lacks", "passed", "rules")

    def __init__(self, way: Direction, number: int) -> None:
        self._way = way
        self._number = number  # the connection's
        self._items: deque[_Item] = deque()
        self._last_due = -math.inf
        self._stages: _Stages | None = None
        self.rules: tuple[Applied, ...] = ()
        self.held = 0  # bytes that wait here
        self.passed: dict[str, int] = {}  # bytes that came out under a rule that counts them
        self.lacks = False  # bytes were swallowed: this stream can never be whole again

    @property
    def idle(self) -> bool:
        """No rule, and nothing waits."""
        return not self._items and not self.rules

    def follow(self, rules: tuple[Applied, ...], now: float) -> None:
        """From now on these rules; what already waits gets the time that they give it."""
        self.rules = rules
        self._stages = None  # made when it is needed: a change concerns many connections, and most are silent
        names = {applied.rule.name for applied in rules}
        self.passed = {name: size for name, size in self.passed.items() if name in names}
        if self._items:
            self._reconsider(now)

    def _made(self) -> _Stages:
        if self._stages is None:
            self._stages = _Stages()
            for applied in self.rules:
                self._stages.add(applied, self._way, self._number)
        return self._stages

    def put(self, data: bytes, now: float) -> None:
        """Data arrives."""
        stages = self._made()
        for applied in stages.silences:
            applied.count(len(data))
            if isinstance(applied.rule.act, does.Silence) and applied.rule.act.swallow:
                self.lacks = True
                return
        for applied, chances in stages.corrupts:
            if applied.hits_segment() and chances.next():
                data = flipped(data, chances.dice)
                applied.count(len(data))
        due = max(self._last_due, now + self._late(len(data)) + self._recovery(len(data)))
        if not stages.slices:
            self._append(_Item(now, due, data))
            return
        applied, cut, dice = stages.slices[0]  # a second one would only cut what is cut
        applied.count(len(data))
        start = 0
        for size in pieces(cut, len(data), dice):
            self._append(_Item(now, due, data[start : start + size]))
            start += size
            due += cut.pause_us / 1e6

    def end(self, how: End, now: float) -> None:
        """The stream ends, behind all that came before."""
        stages, closing = self._made(), 0.0
        if how is not End.RESET:
            closing = stages.closing
            for applied, _ in stages.closings:
                applied.count(0)
        self._append(_Item(now, max(self._last_due, now + self._late() + closing), how))

    def opening(self, rules: tuple[Applied, ...]) -> float:
        """Seconds that these rules hold the first packet of a connection this way."""
        self.rules = rules
        return self._late()

    def _append(self, item: _Item) -> None:
        if self._made().silences:
            item.due = math.inf
        self._last_due = item.due
        self._items.append(item)
        if isinstance(item.piece, bytes):
            self.held += len(item.piece)

    def _late(self, size: int = 0) -> float:
        """Seconds that the rules hold the next segment; of size 0: something that is no segment, nor counted."""
        late = 0.0
        for applied, delays in self._made().holds:
            if not (applied.hits_segment() if size else applied.hits_everything):
                continue
            late += delays.next()
            if size:
                applied.count(size)
        return late

    def _recovery(self, size: int) -> float:
        """Seconds that TCP would take to bring a segment there that gets lost."""
        pause = 0.0
        for applied, losses in self._made().losses:
            if applied.hits_segment() and (lost := losses.recovery()):
                pause += lost
                applied.count(size)
        return pause

    def _reconsider(self, now: float) -> None:
        """New times for all that waits, none of them before the one in front of it."""
        if not self.rules:  # lifted: the quick way, as many connections wait for it one after the other
            for item in self._items:
                item.due = now
            self._last_due = now
            return
        stages = self._made()
        last = -math.inf
        for item in self._items:
            closing = stages.closing if isinstance(item.piece, End) and item.piece is not End.RESET else 0.0
            last = max(last, item.arrived + self._late() + closing)
            item.due = last = math.inf if stages.silences else last
            item.paced = False
        self._last_due = last

    def take(self, now: float) -> list[Piece]:
        """What comes out now, in order; an End is the last of it. Bytes are one piece where nothing is to cut them."""
        if not self._items:
            return []
        stages = self._made()
        out = self._due(now, stages)
        if len(out) > 1 and not stages.slices:
            end = [out.pop()] if isinstance(out[-1], End) else []
            return [b"".join(cast(list[bytes], out)), *end] if out else end
        return out

    def _due(self, now: float, stages: _Stages) -> list[Piece]:
        out: list[Piece] = []
        items = self._items
        if not stages.throttles and not stages.limits:
            return self._ripe(now + EARLY)
        while items:
            item = items[0]
            if stages.throttles and not item.paced and item.due <= now + EARLY and isinstance(item.piece, bytes):
                self._pace(item, stages)
            if item.due > now + EARLY:
                break
            items.popleft()
            if isinstance(item.piece, End):
                out.append(item.piece)
                break
            self.held -= len(item.piece)
            if stages.limits and (end := self._limited(item.piece, out, stages)) is not None:
                out.append(end)
                items.clear()
                self.held = 0
                break
            if not stages.limits:
                out.append(item.piece)
        return out

    def _ripe(self, until: float) -> list[Piece]:
        """All that is due by then, up to an End."""
        out: list[Piece] = []
        items = self._items
        while items and items[0].due <= until:
            out.append(piece := items.popleft().piece)
            if isinstance(piece, End):
                return out
            self.held -= len(piece)
        return out

    def _pace(self, item: _Item, stages: _Stages) -> None:
        """Let the throttles say when the first bytes of the item in front go, and leave the rest behind them."""
        assert isinstance(item.piece, bytes)
        quantum = min(bucket.quantum for _, bucket in stages.throttles)
        if len(item.piece) > quantum:
            self._items.insert(1, _Item(item.arrived, item.due, item.piece[quantum:]))
            item.piece = item.piece[:quantum]
        ready, size = item.due, len(item.piece)
        for applied, bucket in stages.throttles:
            gone = bucket.take(size, ready)
            if gone > ready + EARLY:
                applied.count(size)
            item.due = max(item.due, gone)
        item.paced = True

    def _limited(self, data: bytes, out: list[Piece], stages: _Stages) -> End | None:
        """Pass as many bytes on as the limits allow; how the connection ends with them, or None: it goes on."""
        left = [(size - self.passed.get(applied.rule.name, 0), applied, end) for applied, size, end in stages.limits]
        room, first, end = min(left, key=lambda entry: entry[0])
        room = max(0, min(room, len(data)))
        if room:
            out.append(data[:room])
        for _, applied, _ in left:
            self.passed[applied.rule.name] = self.passed.get(applied.rule.name, 0) + room
        if self.passed[first.rule.name] < next(size for applied, size, _ in stages.limits if applied is first):
            return None
        first.count(len(data) - room)
        return end

    def wake(self) -> float:
        """When there is something to take; `math.inf`: nothing that time would bring."""
        return self._items[0].due if self._items else math.inf
