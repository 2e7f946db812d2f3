"""The sample system `guarded`: what its clerk makes of the guard's answers, and of none."""

from __future__ import annotations

import contextlib
import importlib
from types import ModuleType

import pytest

from cluster import Json, RefusedError

LIMIT = 100
DENIED = RefusedError(403, 'admission webhook "orders.guard.example.com" denied the request: too large')
UNASKED = RefusedError(500, "failed calling webhook: context deadline exceeded")


class Orders:
    """The API server, as far as a clerk knows it."""

    def __init__(self, *answers: Exception | None) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, int]] = []  # name and size of each order
        self.there: list[Json] = []

    def ask(self, method: str, path: str, body: Json | None = None) -> Json:
        if method == "GET":
            return {"items": self.there}
        if method == "DELETE":
            return {}
        assert body is not None
        self.asked.append((body["metadata"]["name"], int(body["data"]["size"])))
        if (answer := self.answers.pop(0)) is not None:
            raise answer
        return body


class Over(Exception):  # noqa: N818
    """The test has seen enough."""


def clerk_of(monkeypatch: pytest.MonkeyPatch, orders: Orders, flaw: str = "", turns: int = 0) -> ModuleType:
    left = [turns]

    def pause(_: float) -> None:
        left[0] -= 1
        if left[0] <= 0:
            raise Over

    monkeypatch.setenv("LIMIT", str(LIMIT))
    monkeypatch.setenv("FLAW", flaw)
    module = importlib.reload(importlib.import_module("clerk"))
    monkeypatch.setattr(module, "ask", orders.ask)
    monkeypatch.setattr(module, "own_namespace", lambda: "shop")
    monkeypatch.setattr(module.time, "sleep", pause)
    return module


def placed(monkeypatch: pytest.MonkeyPatch, flaw: str, *answers: Exception | None) -> tuple[Orders, dict[str, int]]:
    orders = Orders(*answers)
    module = clerk_of(monkeypatch, orders, flaw, turns=len(answers))
    clerk = module.Clerk()
    clerk._number = 0
    with contextlib.suppress(Over):
        clerk.place_orders()
    return orders, dict(clerk.counts)


def test_an_order_about_which_nobody_could_be_asked_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    orders, counts = placed(monkeypatch, "", None, DENIED, UNASKED, OSError("cut"), RefusedError(409, "exists"), DENIED)
    names = [name for name, _ in orders.asked]
    assert names == ["order-0", "order-1", "order-2", "order-2", "order-2", "order-3"]
    assert (counts["placed"], counts["refused"], counts["unasked"]) == (2, 2, 2)


def test_the_fragile_clerk_ends_with_the_first_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    orders, counts = placed(monkeypatch, "fragile", UNASKED, None, DENIED, UNASKED, None)
    assert len(orders.asked) == 4, "the guard may be late at the start"
    assert counts["unasked"] == 2


@pytest.mark.parametrize(("flaw", "caught", "overdrawn"), [("", 1, 0), ("trusting", 0, 1)])
def test_an_order_that_is_too_large_is_carried_out_by_the_trusting_clerk_alone(
    monkeypatch: pytest.MonkeyPatch, flaw: str, caught: int, overdrawn: int
) -> None:
    orders = Orders()
    orders.there = [{"metadata": {"name": f"order-{size}"}, "data": {"size": str(size)}} for size in (1, LIMIT * 10)]
    clerk = clerk_of(monkeypatch, orders, flaw, turns=1).Clerk()
    with pytest.raises(Over):
        clerk.carry_out_orders()
    assert (clerk.counts["caught"], clerk.counts["overdrawn"]) == (caught, overdrawn)
