"""Rules about names: which are in force, what each chose among those that it is about, and its counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Generic, Protocol, TypeVar

from bounceback.types.choice import Chooser
from bounceback.types.names import DnsRule, TlsRule, matcher

Rule = TypeVar("Rule", DnsRule, TlsRule)


class Counts(Protocol):
    seen: int
    hits: int


Count = TypeVar("Count", bound=Counts)


class Applied(Generic[Rule, Count]):
    """A rule with its choice and its counts, which outlive it: it may come back."""

    __slots__ = ("_chooser", "_name", "count", "fits", "rule")

    def __init__(self, name: str, rule: Rule, count: Count) -> None:
        self._name = name
        self.count = count
        self._set(rule)

    def _set(self, rule: Rule) -> None:
        self.rule: Rule = rule
        self.fits = matcher(rule.names)
        self._chooser = Chooser(rule.choice, self._name)

    def change(self, rule: Rule) -> None:
        """It goes on counting where it was: a fault that grows has its `first_n` once, and not once a step."""
        if rule != self.rule:
            before = self._chooser
            self._set(rule)
            self._chooser.seen, self._chooser.hits = before.seen, before.hits

    def hits_next(self) -> bool:
        """Whether the next one that it is about is hit."""
        hit = self._chooser.next()
        self.count.seen += 1
        self.count.hits += hit
        return hit


Shelf = dict[str, Applied[Rule, Count]]
"""Every rule that there ever was, by name."""


class Book(Generic[Rule, Count]):
    """All rules that there ever were, and those in force here. On one shelf, books count and choose together."""

    def __init__(self, new_count: Callable[[], Count], shelf: Shelf[Rule, Count] | None = None) -> None:
        self._new_count = new_count
        self._known: Shelf[Rule, Count] = shelf if shelf is not None else {}
        self.active: list[Applied[Rule, Count]] = []

    def put(self, rules: Mapping[str, Rule]) -> None:
        """These from now on, in this order. One that was there under the same name goes on counting where it was."""
        for name, rule in rules.items():
            if name in self._known:
                self._known[name].change(rule)
            else:
                self._known[name] = Applied(name, rule, self._new_count())
        self.active = [self._known[name] for name in rules]

    def counts(self) -> dict[str, Count]:
        """Of all rules that there ever were."""
        return {name: applied.count for name, applied in self._known.items()}
