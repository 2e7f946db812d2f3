"""What becomes of the events of one watch: decided by the rules in force, without I/O.

`now` is in seconds of any clock. Without a rule that does something, what comes is passed on as it is, at once, and
nothing of it is kept.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from bounceback.proxy.api.frames import Chunks, Frame, Framing
from bounceback.proxy.api.rulebook import Applied
from bounceback.proxy.api.status import gone_event
from bounceback.types.api_rule import Act, CutWatch, Ending, ErrorEvent, Event, Events, Stall, Where

MOST_HELD: Final = 1 << 20
"""Bytes of one watch that wait here before its server has to wait, too."""
MOST_REPLAYED: Final = 64
MOST_REPLAYED_BYTES: Final = 256 << 10
"""What comes again in a replay: events since the rule came into force. Nothing is kept for rules that may come."""
NOT_REPLAYED: Final = frozenset({"BOOKMARK", "ERROR"})


@dataclass(frozen=True, slots=True)
class Write:
    """To the client."""

    data: bytes


@dataclass(frozen=True, slots=True)
class End:
    """The client's connection ends so, after `partial`, the beginning of an event that is never finished.

    It may have come before: `torn` is true in both cases. `Ending.CLOSE` of what is not is how the server ends a watch,
    with the last chunk of the body.
    """

    ending: Ending
    partial: bytes = b""
    error: bool = False  # an ERROR event of ours came before it
    torn: bool = False


Step = Write | End


@dataclass(slots=True)
class _Met:
    """A rule on the whole watch that hit it, when the watch met the rule."""

    applied: Applied
    at: float  # when it takes effect, unless it waits for events
    events: int  # that it waits for


@dataclass(slots=True)
class _Waiting:
    """An event that goes to the client at its time; sooner, if the rule that holds it is lifted."""

    frame: Frame
    at: float = -math.inf
    by: Applied | None = None


class Watch:
    """One watch. Its steps are to be carried out in order, and the last one is an `End`."""

    def __init__(self, framing: Framing | None, applied: tuple[Applied, ...], now: float) -> None:
        self.over = False
        """Whether it has ended for the client; what comes still is for nobody."""
        self._framing = framing or Chunks()
        self._readable = framing is not None
        self._known: dict[str, Act] = {}  # rules on the whole watch that it has met, and what they were then
        self._met: list[_Met] = []  # those of them that hit it and have not ended it yet
        self._silent: Applied | None = None  # nothing is passed on until it is lifted; then the watch is reset
        self._events: list[tuple[Applied, Events]] = []
        self._queue: deque[_Waiting] = deque()  # in the order in which it goes to the client
        self._queued = 0  # bytes
        self._swapped: _Waiting | None = None  # comes after the event that follows it
        self._replay: deque[bytes] = deque()
        self._begun = False  # whether the client has the beginning of an event, and not its end
        self._ended = False  # the server's side
        self._looked = -math.inf  # when it was last decided what is due
        self._idle = True
        self._follow(applied, now)

    @property
    def holds(self) -> int:
        """Bytes that wait here."""
        return self._queued + (len(self._swapped.frame.raw) if self._swapped else 0)

    @property
    def full(self) -> bool:
        """Whether the server should wait before it sends more."""
        return self._queued >= MOST_HELD  # what waits for another event must not keep that from coming

    @property
    def next_at(self) -> float:
        """When to call `due`; `math.inf`: not before something comes."""
        if self._idle or self.over or self._silent:
            return math.inf
        times = [met.at for met in self._met if not met.events]
        if self._swapped:
            times.append(self._swapped.at)
        if self._queue and not self._stalled:
            times.append(self._queue[0].at)
        return min((at for at in times if at > self._looked), default=math.inf)

    def follow(self, applied: tuple[Applied, ...], now: float) -> list[Step]:
        """These rules from now on."""
        if self.over:
            return []
        lifted = self._silent
        self._follow(applied, now)
        if lifted and not self._silent:
            return self._end(Ending.RESET)
        return self._go_on(now)

    def feed(self, data: bytes, now: float) -> list[Step]:
        """What the server sent."""
        if self._idle:
            self._framing.follow(data)
            return [Write(data)]
        if self.over or self._silent:
            return []
        for frame in self._framing.feed(data):
            self._arrive(frame, now)
        return self._go_on(now)

    def due(self, now: float) -> list[Step]:
        """What its time has come for."""
        return [] if self._idle else self._go_on(now)

    def ended(self, now: float) -> list[Step]:
        """The server ended the watch: what is held goes first. While it is stalled, all that waits for the lift."""
        if self.over or self._silent:
            return []
        self._ended = True
        return self._go_on(now)

    def left(self) -> None:
        """The client ended the watch: what had not been carried out on it did not hit it."""
        self.over = True
        self._idle = False
        for met in self._met:
            if not isinstance(met.applied.rule.act, Stall):
                met.applied.spared()
        self._met.clear()

    # Rules

    def _follow(self, applied: tuple[Applied, ...], now: float) -> None:
        rules = {each.rule.name: each.rule.act for each in applied}
        self._forget(rules)
        for each in applied:
            if not isinstance(each.rule.act, Events) and each.rule.name not in self._known:
                self._known[each.rule.name] = each.rule.act
                self._meet(each, now)
        self._events = [(each, each.rule.act) for each in applied if isinstance(each.rule.act, Events)]
        if not self._replays:
            self._replay.clear()
        for waiting in self._held():
            if waiting.by and rules.get(waiting.by.rule.name) != waiting.by.rule.act:
                waiting.at = -math.inf
        if self._idle and self._busy:
            self._idle = False
            self._begun = self._framing.begun

    def _forget(self, rules: dict[str, Act]) -> None:
        """What was lifted, or is another rule under the same name."""
        gone = {name for name, act in self._known.items() if rules.get(name) != act}
        for name in gone:
            del self._known[name]
        for met in [met for met in self._met if met.applied.rule.name in gone]:
            self._met.remove(met)
            if not isinstance(met.applied.rule.act, Stall):
                met.applied.spared()
        if self._silent and self._silent.rule.name in gone:
            self._silent = None

    def _meet(self, applied: Applied, now: float) -> None:
        match applied.rule.act:
            case ErrorEvent() if not self._readable:
                return  # we could not write one
            case Stall(drop=True):
                if applied.take():
                    self._fall_silent(applied)
            case Stall():
                if applied.take():
                    self._met.append(_Met(applied, math.inf, 0))
            case CutWatch() as cut:
                if applied.take():
                    self._met.append(_Met(applied, now + cut.after_us / 1e6, cut.after_events))
            case ErrorEvent() as error:
                if applied.take():
                    self._met.append(_Met(applied, now, error.after_events))

    def _fall_silent(self, by: Applied) -> None:
        self._silent = self._silent or by
        self._queue.clear()
        self._queued = 0
        self._swapped = None

    @property
    def _stalled(self) -> bool:
        return any(isinstance(met.applied.rule.act, Stall) for met in self._met)

    @property
    def _replays(self) -> bool:
        return any(act.do is Event.REPLAY for _, act in self._events)

    def _held(self) -> Iterator[_Waiting]:
        yield from self._queue
        if self._swapped:
            yield self._swapped

    # Events

    def _arrive(self, frame: Frame, now: float) -> None:
        """From the server."""
        chosen = self._chosen(frame) if self._events and self._readable and frame.whole else None
        if chosen is None:
            self._line_up(_Waiting(frame))
            return
        applied, act = chosen
        match act.do:
            case Event.DROP:
                pass
            case Event.REPEAT:
                self._line_up(_Waiting(frame), _Waiting(frame))
            case Event.DELAY:
                self._line_up(_Waiting(frame, now + act.delay_us / 1e6, applied))
            case Event.REORDER:
                longest = now + act.delay_us / 1e6 if act.delay_us else math.inf
                self._swapped = _Waiting(frame, longest, applied)
            case Event.REPLAY:
                again = [_Waiting(Frame(raw)) for raw in self._replay]
                self._line_up(*again, _Waiting(frame))

    def _chosen(self, frame: Frame) -> tuple[Applied, Events] | None:
        """The first rule that hits it decides; those after it are not asked."""
        for applied, act in self._events:
            if self._fits(act, frame) and applied.take():
                return applied, act
        return None

    def _fits(self, act: Events, frame: Frame) -> bool:
        if act.do is Event.REORDER and self._swapped:
            return False  # this is the one that goes first
        if act.do is Event.REPLAY and not self._replay:
            return False
        if frame.type not in act.types if act.types else frame.type == "BOOKMARK":
            return False
        return not act.names or frame.name in act.names

    def _line_up(self, *waiting: _Waiting) -> None:
        """Behind all that goes to the client before; then what was to come after it."""
        self._queue.extend(waiting)
        self._queued += sum(len(each.frame.raw) for each in waiting)
        if self._replays:
            self._remember(waiting[-1].frame)
        if (swapped := self._swapped) and waiting[-1].frame.ends:
            self._swapped = None
            swapped.at, swapped.by = -math.inf, None
            self._line_up(swapped)

    def _remember(self, frame: Frame) -> None:
        if not frame.whole or frame.type in NOT_REPLAYED:
            return
        self._replay.append(frame.raw)
        while len(self._replay) > MOST_REPLAYED or sum(map(len, self._replay)) > MOST_REPLAYED_BYTES:
            self._replay.popleft()

    # Steps

    def _go_on(self, now: float) -> list[Step]:
        """All that may go to the client now does."""
        if self.over or self._silent:
            return []
        self._looked = now
        if self._swapped and not self._framing.begun and (self._ended or self._swapped.at <= now):
            swapped, self._swapped = self._swapped, None
            self._line_up(_Waiting(swapped.frame))
        written: list[bytes] = []
        while (ending := self._ending(now)) is None and self._may_write(now):
            written.append(self._next())
        if ending is None and self._ended and not self._queue and not self._stalled:
            written.append(self._framing.release())
            ending = self._end(Ending.CLOSE)
        if ending is None and not self._idle and not self._busy:
            written.append(self._framing.release())
            self._idle = True
        data = b"".join(written)
        return [*([Write(data)] if data else []), *(ending or [])]

    def _next(self) -> bytes:
        """What goes to the client next."""
        frame = self._queue.popleft().frame
        self._queued -= len(frame.raw)
        self._begun = not frame.ends
        if frame.whole:
            for met in self._met:
                met.events = max(met.events - 1, 0)
        return frame.raw

    def _may_write(self, now: float) -> bool:
        return bool(self._queue) and not self._stalled and (self._ended or self._queue[0].at <= now)

    def _ending(self, now: float) -> list[Step] | None:
        """How it ends here and now; None: it does not."""
        for met in self._met:
            if met.at > now or met.events:
                continue
            match met.applied.rule.act:
                case ErrorEvent() as error if not (self._begun or self._stalled):
                    event = self._framing.error(gone_event(error.code, error.message))
                    return [Write(event), *self._end(Ending.CLOSE, by=met, error=True)]
                case CutWatch(where=Where.BETWEEN_EVENTS) as cut if not self._begun:
                    return self._end(cut.ending, by=met)
                case CutWatch(where=Where.MID_LINE) as cut:
                    if self._begun:
                        return self._end(cut.ending, by=met)
                    if partial := self._half(now):
                        return self._end(cut.ending, partial, by=met)
        return None

    def _half(self, now: float) -> bytes:
        """Of the next event that would go to the client, as far as it is here: less than all of it."""
        if self._may_write(now):
            raw = self._queue[0].frame.raw
        else:
            raw = b"" if self._queue or self._stalled else self._framing.partial
        return raw[: len(raw) // 2]

    def _end(self, ending: Ending, partial: bytes = b"", by: _Met | None = None, error: bool = False) -> list[Step]:
        if by is not None:
            self._met.remove(by)
        if ending is Ending.SILENCE and by is not None:
            self._fall_silent(by.applied)
        else:
            self.left()
        act = by.applied.rule.act if by is not None else None
        torn = isinstance(act, CutWatch) and act.where is Where.MID_LINE
        return [End(ending, partial, error, torn)]

    @property
    def _busy(self) -> bool:
        """Whether there is anything to be done; else what comes is passed on unread."""
        waits = self._queue or self._swapped or self._silent
        return bool(self._met or self._events or waits or self._ended or self.over)
