"""The faults of `bounceback proxy` as time goes on: which rules are in force at a moment, and when that changes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from enum import StrEnum

from bounceback.cli.proxy_file import ProxyFault
from bounceback.cli.proxy_names import NameRule
from bounceback.types.api_rule import ApiRule
from bounceback.types.pattern import Step, steps
from bounceback.types.relay import Rule

AnyRule = Rule | NameRule | ApiRule


class Source(StrEnum):
    FILE = "file"
    API = "api"


class Taken:
    """A fault since it was taken up. Times are seconds of one monotonic clock, and it is asked in their order."""

    def __init__(self, fault: ProxyFault, source: Source, since: float) -> None:
        self.fault = fault
        self.source = source
        self._begins = since + fault.start_after_seconds
        self._lasts = float(fault.duration_seconds or math.inf)
        whole = iter((Step(0.0, 1.0),))
        self._steps = steps(fault.pattern.planned(), self._lasts) if fault.pattern is not None else whole
        self._step = next(self._steps)
        self._next = next(self._steps, None)

    def now(self, now: float) -> tuple[tuple[AnyRule, ...], float]:
        """Its rules at that moment, and when they change next (`math.inf`: never)."""
        age = now - self._begins
        if age < 0:
            return (), self._begins
        if age >= self._lasts:
            return (), math.inf
        while self._next is not None and self._next.at <= age:
            self._step, self._next = self._next, next(self._steps, None)
        until = self._begins + (self._next.at if self._next is not None else self._lasts)
        share, rules = self._step.share, self.fault.all_rules
        if share >= 1:
            return rules, until
        return tuple(rule.scaled(share) for rule in rules) if share else (), until


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

    def rules(self, now: float) -> tuple[tuple[AnyRule, ...], float]:
        """What is in force, and when that changes."""
        found = [taken.now(now) for taken in self._taken.values()]
        return tuple(rule for rules, _ in found for rule in rules), min((at for _, at in found), default=math.inf)

    @staticmethod
    def _renewed(before: Mapping[str, Taken], fault: ProxyFault, source: Source, now: float) -> Taken:
        old = before.get(fault.name)
        return old if old is not None and (old.fault, old.source) == (fault, source) else Taken(fault, source, now)
