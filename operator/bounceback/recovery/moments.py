"""What happens and is over, an event or a line, told as states: the moment of each, or the quiet after it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bounceback.engine.samples import History, Sample
from bounceback.recovery.judging import Said, Values, in_short
from bounceback.types.instants import Instant


class Moments:
    """Adds to a history what each reading found.

    Without `absent_seconds` the history holds for the moment of each find, and at no other time: so the first one after
    a fault counts, whatever came before. With it, it holds while nothing was found for so long.
    """

    def __init__(
        self, history: History, absent_seconds: int | None, nothing: str, said: Said, changed: Callable[[], None]
    ) -> None:
        self._history = history
        self._absent_seconds = absent_seconds
        self._nothing = nothing
        self._said = said
        self._changed = changed
        self._newest: tuple[Instant, str] | None = None  # until when the newest find can have come, and what it said

    def record(self, start: Instant, end: Instant, found: Sequence[Values]) -> None:
        """What came after `start`, as it was known at `end`."""
        for values in found:
            self._said(values)
        if self._absent_seconds is None:
            self._moment(start, end, bool(found))
        else:
            self._quiet(start, end, found, self._absent_seconds)

    def missing(self, start: Instant, end: Instant, message: str) -> None:
        """There is nobody who could have said anything."""
        self._add(start, end, message)

    def _moment(self, start: Instant, end: Instant, found: bool) -> None:
        if not found:
            self._add(start, end, self._nothing)
            return
        self._add(start, end, None)
        self._add(end, end, self._nothing)

    def _quiet(self, start: Instant, end: Instant, found: Sequence[Values], seconds: int) -> None:
        if found:
            self._newest = end, in_short(found[-1])
        newest = self._newest
        loud = newest is not None and end.since(newest[0]) < seconds
        self._add(start, end, newest[1] if loud and newest else None)

    def _add(self, start: Instant, end: Instant, message: str | None) -> None:
        if self._history.add(Sample(start, end, message is None, message or "")):
            self._changed()
