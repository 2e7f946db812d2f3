"""How the pod's clients behave, for each experiment that watches them: from when it came, and only as long as it is
there. A proxy that nobody asks looks at nothing."""

from __future__ import annotations

from typing import Any, Final

from bounceback.proxy.api.behavior import Behavior
from bounceback.types.api_request import ApiRequest

Json = dict[str, Any]
MOST_KINDS: Final = 16
"""Verbs with resources that are told, those with the most requests."""


class Observers:
    """One for all of them; see `proxy.api.gate.Observer`."""

    def __init__(self) -> None:
        self._all: tuple[Behavior, ...] = ()

    def add(self) -> Behavior:
        made = Behavior()
        self._all = (*self._all, made)
        return made

    def remove(self, behavior: Behavior) -> None:
        self._all = tuple(each for each in self._all if each is not behavior)

    def asked(self, request: ApiRequest, fingerprint: int, now: float) -> None:
        for each in self._all:
            each.asked(request, fingerprint, now)

    def answered(
        self,
        request: ApiRequest,
        fingerprint: int,
        code: int,
        now: float,
        retry_after: float | None,
        by_us: bool,
        lost: bool,
    ) -> None:
        for each in self._all:
            each.answered(request, fingerprint, code, now, retry_after, by_us, lost)

    def watch_ended(self, request: ApiRequest, now: float, clean: bool) -> None:
        for each in self._all:
            each.watch_ended(request, now, clean)

    def waits(self, now: float) -> bool:
        return any(each.waits(now) for each in self._all)

    def late(self, seconds: float) -> None:
        for each in self._all:
            each.late(seconds)

    def report(self, now: float) -> Json:
        """Nobody's: each has its own."""
        return {}


def compact(report: Json) -> Json:
    """Without what is zero or empty; of the kinds of requests the most frequent."""
    found: Json = _without_nothing({**report, "kinds": report["kinds"][:MOST_KINDS]})
    return found


def _without_nothing(value: Any) -> Any:
    if isinstance(value, dict):
        parts = {key: _without_nothing(each) for key, each in value.items()}
        return {key: each for key, each in parts.items() if each not in (0, "", None, {}, [])}
    if isinstance(value, list):
        return [_without_nothing(each) for each in value]
    return value
