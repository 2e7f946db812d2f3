"""The rules in force, and which of them hit a connection. No I/O, no clock: `now` is given."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bounceback.proxy.counters import Counter
from bounceback.proxy.lane import Applied
from bounceback.types.relay import Connections, Drawn, Rule

Numbers = dict[str, tuple[int, bool]]
"""Of one connection: for each rule that saw it, as which one, and whether it was chosen."""


class Rulebook:
    """Rules by name, in order."""

    def __init__(self) -> None:
        self._applied: dict[str, Applied] = {}
        self._past: dict[str, Counter] = {}
        self._rechosen: set[str] = set()

    def __bool__(self) -> bool:
        return bool(self._applied)

    @property
    def rules(self) -> tuple[Rule, ...]:
        return tuple(applied.rule for applied in self._applied.values())

    @property
    def applied(self) -> tuple[Applied, ...]:
        return tuple(self._applied.values())

    def counters(self) -> Mapping[str, Counter]:
        """Those of rules that are gone, too."""
        return self._past | {name: applied.counter for name, applied in self._applied.items()}

    def change(self, rules: Iterable[Rule], now: float, first_new: int) -> bool:
        """Exactly these from now on; whether that is a change. What stays under its name goes on counting.

        `first_new` is the number of the next connection. Raises ValueError for a name that is there twice.
        """
        listed = tuple(rules)
        wanted = {rule.name: rule for rule in listed}
        if len(wanted) != len(listed):
            raise ValueError("each rule must have a name of its own")
        if listed == self.rules:
            return False
        before, self._rechosen = self._applied, set()
        self._applied = {name: self._changed(before.get(name), rule, now, first_new) for name, rule in wanted.items()}
        self._past |= {name: applied.counter for name, applied in before.items() if name not in wanted}
        return True

    def _changed(self, old: Applied | None, rule: Rule, now: float, first_new: int) -> Applied:
        if old is None:
            new = Applied(rule, now, first_new)
            new.counter = self._past.pop(rule.name, new.counter)
            return new
        if old.rule == rule:
            return old
        new = Applied(rule, old.since, old.first_new)
        new.counter = old.counter
        if old.rule.choice == rule.choice and old.rule.drawn is rule.drawn:
            new.chooser = old.chooser
        else:
            new.chooser.seen = old.chooser.seen
            self._rechosen.add(rule.name)
        return new

    def chosen(self, listener: str, number: int, numbers: Numbers, *, live: bool) -> tuple[Applied, ...]:
        """Those that hit this connection, whose `numbers` are kept with it; `live`: it was there before the change.

        Live connections are asked once after each change, in the order in which they came.
        """
        return tuple(
            applied
            for name, applied in self._applied.items()
            if applied.rule.listener in ("", listener)
            and _in_time(applied, number)
            and self._hits(name, applied, numbers, live)
        )

    def _hits(self, name: str, applied: Applied, numbers: Numbers, live: bool) -> bool:
        if applied.rule.drawn is Drawn.SEGMENT or applied.rule.choice.everything:
            return True
        chooser = applied.chooser
        if name not in numbers:
            numbers[name] = (chooser.seen + 1, chooser.next())
        elif live and name in self._rechosen:
            total, number = chooser.seen, numbers[name][0]
            chooser.seen = number - 1
            numbers[name] = (number, chooser.next())
            chooser.seen = max(total, number)
        return numbers[name][1]


def _in_time(applied: Applied, number: int) -> bool:
    match applied.rule.connections:
        case Connections.NEW:
            return number >= applied.first_new
        case Connections.EXISTING:
            return number < applied.first_new
        case Connections.ALL:
            return True
