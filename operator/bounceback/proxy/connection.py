"""A connection that passes through, from when it is accepted to its end, and the rules that hit it."""

from __future__ import annotations

import asyncio
import math
import socket
from collections.abc import Callable, Iterable
from time import monotonic

from bounceback.proxy.counters import Traffic
from bounceback.proxy.lane import Applied, Lane
from bounceback.proxy.side import Budget, Side, reset_socket
from bounceback.types.plan import Direction
from bounceback.types.relay import Reset, Silence


class Connection:
    """Both sides, and the rules that hit them. Before it is `joined` it is a socket that was accepted."""

    __slots__ = (
        "_accepted",
        "_changed",
        "_gone",
        "_rules",
        "_sides",
        "_timers",
        "_traffic",
        "budget",
        "listener",
        "number",
        "numbers",
        "over",
        "since",
    )

    def __init__(
        self,
        listener: str,
        number: int,
        accepted: socket.socket,
        traffic: Traffic,
        budget: Budget,
        gone: Callable[[Connection], None],
    ) -> None:
        self.listener = listener
        self.number = number
        self.since = monotonic()
        self.budget = budget
        self.numbers: dict[str, tuple[int, bool]] = {}  # see rulebook.Numbers
        self.over = False  # closed or being closed, by us
        self._accepted = accepted
        self._traffic = traffic
        self._gone = gone
        self._rules: tuple[Applied, ...] = ()
        self._sides: tuple[Side, Side] | None = None  # the client's, the upstream's
        self._timers: dict[Applied, asyncio.TimerHandle] | None = None
        self._changed: asyncio.Event | None = None

    async def join(self, upstream: socket.socket) -> None:
        """From now on both sockets are one connection, and theirs to close. Raises OSError if one is gone already."""
        loop = asyncio.get_running_loop()
        sides = (Side(self, self._accepted), Side(self, upstream))
        sides[0].other, sides[1].other = sides[1], sides[0]
        self._sides = sides
        self._lanes()
        # Both are begun before anything is read from either: what one side says first has somewhere to go.
        await asyncio.gather(*(loop.connect_accepted_socket(side.itself, side.sock) for side in sides))

    def follow(self, rules: tuple[Applied, ...]) -> None:
        """From now on these rules."""
        if self.over or (rules == self._rules):
            return
        before, self._rules = self._rules, rules
        known = {applied.rule.name for applied in before}
        for applied in rules:
            if applied.rule.name not in known:
                applied.counter.connections += 1
        if self._at_once(before) or self._broken():
            return
        self._set_timers()
        self._lanes()
        self._wake()

    async def let_through(self) -> None:
        """Returns when the rules have let the packets through that open a connection, or when it is over."""
        while not self.over and (pause := self._opening() - (monotonic() - self.since)) > 0:
            self._changed = asyncio.Event()
            try:
                async with asyncio.timeout(pause if pause < math.inf else None):
                    await self._changed.wait()
            except TimeoutError:
                return

    def _opening(self) -> float:
        """Seconds that the rules hold these packets: one each way. A silence holds them for ever."""
        if any(
            isinstance(applied.rule.act, Silence) and not applied.rule.act.swallow
            for applied in self._that_go(Direction.EGRESS)
        ):
            return math.inf
        ways = (Direction.EGRESS, Direction.INGRESS) if self._rules else ()
        return sum(Lane(way, self.number).opening(found) for way in ways if (found := self._that_go(way)))

    def close(self) -> None:
        """Both ways, in order."""
        self._end()
        if self._sides is None:
            self._accepted.close()
        else:
            for side in self._sides:
                side.close()

    def reset(self) -> None:
        """Both sides get an RST."""
        self._end()
        if self._sides is None:
            reset_socket(self._accepted)
        else:
            for side in self._sides:
                side.reset()

    def reset_by_rule(self) -> None:
        self._traffic.reset += 1
        self.reset()

    def check_gone(self) -> None:
        """Called when a side is lost."""
        assert self._sides is not None
        if all(side.lost for side in self._sides):
            if not self.over:
                self.close()
            self._traffic.bytes_egress += self._sides[0].bytes
            self._traffic.bytes_ingress += self._sides[1].bytes
            self._gone(self)

    def moved(self) -> tuple[int, int]:
        """Bytes that came from the client and from the upstream."""
        return (self._sides[0].bytes, self._sides[1].bytes) if self._sides else (0, 0)

    def _end(self) -> None:
        self.over = True
        for timer in (self._timers or {}).values():
            timer.cancel()
        self._timers = None
        self._wake()

    def _wake(self) -> None:
        """Who waits to be let through looks at the rules again."""
        if self._changed is not None:
            self._changed.set()
            self._changed = None

    def _at_once(self, before: Iterable[Applied]) -> bool:
        """Do what is done to a connection as a whole; whether it is over by that."""
        for applied in self._rules:
            if applied in before:
                continue
            match applied.rule.act:
                case Reset(after_bytes=0, after_us=0):
                    applied.count(0)
                    self.reset_by_rule()
                    return True
                case Silence() if self._sides is None:
                    applied.count(0)
                case _:
                    pass
        return False

    def _broken(self) -> bool:
        """Reset a connection that lost bytes to a silence that is over now."""
        for side, way in self._ways():
            if side.lane is None or not side.lane.lacks:
                continue
            if not any(isinstance(applied.rule.act, Silence) for applied in self._that_go(way)):
                self.reset_by_rule()
                return True
        return False

    def _set_timers(self) -> None:
        timers = self._timers or {}
        for applied in [applied for applied in timers if applied not in self._rules]:
            timers.pop(applied).cancel()
        for applied in self._rules:
            match applied.rule.act:
                case Reset(after_us=after) if after:
                    pass
                case Silence(close_after_us=after) if after:
                    pass
                case _:
                    continue
            if applied not in timers:
                due = max(applied.since, self.since) + after / 1e6
                wait = max(0.0, due - monotonic())
                timers[applied] = asyncio.get_running_loop().call_later(wait, self._time_is_up, applied)
        self._timers = timers or None

    def _time_is_up(self, applied: Applied) -> None:
        if isinstance(applied.rule.act, Reset):
            applied.count(0)
            self.reset_by_rule()
        else:
            self.close()

    def _that_go(self, way: Direction) -> tuple[Applied, ...]:
        return tuple(applied for applied in self._rules if applied.shapes and applied.rule.goes(way))

    def _ways(self) -> Iterable[tuple[Side, Direction]]:
        return zip(self._sides or (), (Direction.EGRESS, Direction.INGRESS), strict=False)

    def _lanes(self) -> None:
        for side, way in self._ways():
            if self.over:
                return
            side.follow(self._that_go(way), way, self.number)
