"""The rules in force, and which of them hit a request. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from bounceback.types.api_request import ApiRequest
from bounceback.types.api_rule import OF_WATCHES, Answer, ApiRule, Crash, Cut, RateLimit
from bounceback.types.choice import Chooser, drawn, stream

MOST_REMEMBERED: Final = 4096
"""Requests whose rules are remembered: the same few come again and again."""
ENDING: Final = (Answer, Cut, RateLimit)
"""Acts after which a request goes no further, so that no later rule sees it. A rate limit may let it go on."""


@dataclass(slots=True)
class Count:
    """What a rule has done; it outlives the rule."""

    seen: int = 0  # requests (events) that it was about
    hits: int = 0


@dataclass(slots=True)
class Applied:
    """A rule in force."""

    rule: ApiRule
    count: Count = field(default_factory=Count)
    chooser: Chooser = field(init=False)
    held: dict[Hashable, Callable[[], None]] = field(default_factory=dict)  # called when the rule is lifted
    _stream: int = field(init=False)

    def __post_init__(self) -> None:
        drawn_by = self.rule.draws or self.rule.name
        self.chooser = Chooser(self.rule.choice, drawn_by)
        self._stream = stream(self.rule.choice.seed, f"{drawn_by}/length")

    def take(self) -> bool:
        """Whether the next request (event, watch) that it is about is hit."""
        self.count.seen += 1
        if self.count.seen <= self.rule.after or not self.chooser.next():
            return False
        self.count.hits += not isinstance(self.rule.act, Crash)  # that is a hit once somebody has been killed
        return True

    def has_killed(self, killed: bool) -> None:
        """Whether the client of what was hit last has been killed."""
        self.count.hits += killed
        self.chooser.hits -= not killed

    def spared(self) -> None:
        """What was hit could not be carried out on this one, so it was not hit: firstN is for others."""
        self.count.hits -= 1
        self.chooser.hits -= 1

    def draw(self) -> float:
        """A number from 0 to 1 for the hit that was taken last: the same seed draws the same ones."""
        return drawn(self._stream, self.count.hits)


class Rulebook:
    """Rules by name, in the order in which they are asked."""

    def __init__(self) -> None:
        self._applied: dict[str, Applied] = {}
        self._past: dict[str, Count] = {}
        self._known: dict[ApiRequest, tuple[Applied, ...]] = {}

    @property
    def applied(self) -> tuple[Applied, ...]:
        return tuple(self._applied.values())

    def counts(self) -> Mapping[str, Count]:
        """By rule, those that are gone included."""
        return self._past | {name: applied.count for name, applied in self._applied.items()}

    def change(self, rules: Iterable[ApiRule]) -> bool:
        """Exactly these from now on; whether that is a change. What stays under its name goes on counting.

        What a rule that is gone held is let go. Raises ValueError for a name that is there twice.
        """
        listed = tuple(rules)
        wanted = {rule.name: rule for rule in listed}
        if len(wanted) != len(listed):
            raise ValueError("each rule must have a name of its own")
        if listed == tuple(applied.rule for applied in self._applied.values()):
            return False
        before = self._applied
        self._applied = {name: self._changed(before.get(name), rule) for name, rule in wanted.items()}
        self._known = {}
        for name, applied in before.items():
            if name not in wanted or type(wanted[name].act) is not type(applied.rule.act):
                self._past[name] = applied.count
                for let_go in tuple(applied.held.values()):
                    let_go()
        return True

    def forget(self, names: Iterable[str]) -> None:
        """What rules of these names did that are gone: should one of them come again, it counts from nothing."""
        for name in names:
            self._past.pop(name, None)

    def _changed(self, old: Applied | None, rule: ApiRule) -> Applied:
        if old is not None and old.rule == rule:
            return old
        if old is None or type(old.rule.act) is not type(rule.act):
            count = self._past.get(rule.name)
            return Applied(rule, count) if count is not None else Applied(rule)
        new = Applied(rule, old.count, old.held)
        new.chooser.seen, new.chooser.hits = old.chooser.seen, old.chooser.hits
        return new

    def concerned(self, request: ApiRequest) -> tuple[Applied, ...]:
        """The rules that such a request is for if the right user makes it: mostly none, and nobody asks who it is."""
        if (found := self._known.get(request)) is None:
            if len(self._known) >= MOST_REMEMBERED:
                self._known.clear()
            found = tuple(applied for applied in self._applied.values() if applied.rule.match(request))
            self._known[request] = found
        return found

    def about(self, request: ApiRequest, user: str) -> tuple[Applied, ...]:
        """The rules that such a request of that user is for, those on watches included, whatever their choice says."""
        return tuple(
            applied for applied in self.concerned(request) if not applied.rule.users or user in applied.rule.users
        )

    def hits(self, request: ApiRequest, user: str) -> list[Applied]:
        """Those that hit this request, in order, up to the one that ends it; watches ask for theirs."""
        hit = []
        for applied in self.about(request, user):
            act = applied.rule.act
            if not isinstance(act, OF_WATCHES) and applied.take():
                hit.append(applied)
                if isinstance(act, ENDING) and not isinstance(act, RateLimit):
                    break
        return hit
