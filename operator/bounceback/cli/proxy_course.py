"""The faults of `bounceback proxy` as time goes on: which rules are in force at a moment, and when that changes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from bounceback.cli.proxy_file import ProxyFault
from bounceback.types.pattern import steps
from bounceback.types.relay import Rule


class Source(StrEnum):
    FILE = "file"
    API = "api"


@dataclass(frozen=True, slots=True)
class Taken:
    """A fault since it was taken up. Times are seconds of one monotonic clock."""

    fault: ProxyFault
    source: Source
    since: float

    def now(self, now: float) -> tuple[tuple[Rule, ...], float]:
        """Its rules at that moment, and when they change next (`math.inf`: never)."""
        fault = self.fault
        age = now - self.since - fault.start_after_seconds
        duration = float(fault.duration_seconds or math.inf)
        if age < 0:
            return (), self.since + fault.start_after_seconds
        if age >= duration:
            return (), math.inf
        share, until = 1.0, duration
        if fault.pattern is not None:
            for step in steps(fault.pattern.planned(), duration):
                if step.at > age:
                    until = step.at
                    break
                share, until = step.share, duration
        rules = (
            fault.relay_rules
            if share >= 1
            else tuple(rule.scaled(share) for rule in fault.relay_rules)
            if share
            else ()
        )
        return rules, self.since + fault.start_after_seconds + until


class Faults:
    """All of them, by name. Those of the file are changed by the file, those of the API by the API."""

    def __init__(self) -> None:
        self._taken: dict[str, Taken] = {}

    @property
    def taken(self) -> Mapping[str, Taken]:
        return self._taken

    def replace_file(self, faults: Iterable[ProxyFault], now: float) -> None:
        """These are the file's from now on. What has not changed goes on where it is."""
        before = self._taken
        kept = {name: taken for name, taken in before.items() if taken.source is Source.API}
        self._taken = {fault.name: self._renewed(before, fault, Source.FILE, now) for fault in faults} | kept

    def put(self, fault: ProxyFault, now: float) -> None:
        """Add or change one by the API."""
        self._taken[fault.name] = self._renewed(self._taken, fault, Source.API, now)

    def remove(self, name: str) -> None:
        del self._taken[name]

    def rules(self, now: float) -> tuple[tuple[Rule, ...], float]:
        """What is in force, and when that changes."""
        found = [taken.now(now) for taken in self._taken.values()]
        return tuple(rule for rules, _ in found for rule in rules), min((at for _, at in found), default=math.inf)

    @staticmethod
    def _renewed(before: Mapping[str, Taken], fault: ProxyFault, source: Source, now: float) -> Taken:
        old = before.get(fault.name)
        return old if old is not None and (old.fault, old.source) == (fault, source) else Taken(fault, source, now)
