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
        self._newest: tuple[Instant, str] | None = None  # until when finds can have come, and what the first one said

    def record(self, since: Instant, start: Instant, end: Instant, found: Sequence[Values]) -> None:
        """A reading from `start` to `end` of what came after `since`, when the one before it began."""
        for values in found:
            self._said(values)
        if self._absent_seconds is None:
            if found:
                self._add(since, end, None)
            self._add(start, end, self._nothing)  # after each find, or two in a row would be one
        else:
            if found:
                self._newest = end, in_short(found[0])  # what came after it may only follow from it
            loud = self._newest is not None and end.since(self._newest[0]) < self._absent_seconds
            self._add(since if found else start, end, self._newest[1] if loud and self._newest else None)

    def missing(self, start: Instant, end: Instant, message: str) -> None:
        """There is nobody who could have said anything."""
        self._add(start, end, message)

    def _add(self, start: Instant, end: Instant, message: str | None) -> None:
        if self._history.add(Sample(start, end, message is None, message or "")):
            self._changed()
