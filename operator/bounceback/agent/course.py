"""The course of an order that comes in a pattern: which part of its act is due now, and when the next one is."""

from __future__ import annotations

from bounceback.types.pattern import Step, steps
from bounceback.types.plan import Act, Order


class Course:
    """Times are seconds since the order was in force. Without a pattern it is one part: the whole act."""

    def __init__(self, order: Order) -> None:
        self._act = order.act
        self._steps = steps(order.pattern, order.duration) if order.pattern else iter((Step(0.0, 1.0),))
        self._next = next(self._steps, None)

    @property
    def next_at(self) -> float:
        """When the next part is due; infinity after the last one."""
        return self._next.at if self._next else float("inf")

    def due(self, elapsed: float) -> Step | None:
        """The last part that has become due since it was asked before; those between are skipped."""
        found = None
        while self._next is not None and self._next.at <= elapsed:
            found, self._next = self._next, next(self._steps, None)
        return found

    def act(self, step: Step) -> Act | None:
        """What is to be done in this part; None: nothing is hit."""
        if not step.share:
            return None
        return self._act if step.share == 1 else self._act.scaled(step.share)
