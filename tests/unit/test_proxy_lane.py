"""One way of a connection under rules, without a socket and by a clock that the test turns."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bounceback.proxy.datagrams import Course
from bounceback.proxy.lane import Applied, End, Lane, Piece
from bounceback.proxy.rulebook import Rulebook
from bounceback.types.choice import Choice
from bounceback.types.plan import Direction
from bounceback.types.relay import (
    Act,
    Connections,
    Drawn,
    Duplicate,
    Hold,
    LimitData,
    Lose,
    Reset,
    Rule,
    Silence,
    Slice,
    SlowClose,
    Throttle,
)

WAY = Direction.EGRESS


def applied(act: Act, name: str = "rule", choice: Choice | None = None, per: Drawn | None = None) -> Applied:
    return Applied(Rule(name, act, choice=choice or Choice(), per=per), 0.0, 1)


def lane(*acts: Act) -> Lane:
    made = Lane(WAY, 1)
    made.follow(tuple(applied(act, f"r{n}") for n, act in enumerate(acts)), 0.0)
    return made


def out(at: Lane, now: float) -> list[Piece]:
    return at.take(now)


def whole(found: list[Piece]) -> bytes:
    return b"".join(piece for piece in found if isinstance(piece, bytes))


def test_a_held_segment_comes_out_when_its_time_has_come() -> None:
    at = lane(Hold(100_000))
    at.put(b"x", 1.0)
    assert at.held == 1
    assert at.wake() == pytest.approx(1.1)
    assert out(at, 1.09) == []
    assert out(at, 1.0999) == [b"x"]
    assert (at.held, at.wake()) == (0, math.inf)


def test_the_end_comes_behind_all_that_was_sent() -> None:
    at = lane(Hold(100_000), SlowClose(500_000))
    at.put(b"x", 1.0)
    at.end(End.FIN, 1.0)
    assert out(at, 1.2) == [b"x"]
    assert out(at, 1.6) == [End.FIN]


def test_a_slow_close_is_not_for_resets() -> None:
    at = lane(SlowClose(500_000))
    at.end(End.RESET, 1.0)
    assert out(at, 1.0) == [End.RESET]


@given(st.lists(st.tuples(st.integers(1, 2000), st.floats(0, 0.01)), min_size=1, max_size=60), st.integers(0, 2**31))
def test_whatever_the_rules_nothing_is_lost_or_changes_place(sent: list[tuple[int, float]], seed: int) -> None:
    rules = (
        applied(Hold(5000, 5000), "a", Choice(seed=seed)),
        applied(Throttle(100_000, 3000), "b"),
        applied(Slice(100, 50), "c", Choice(seed=seed)),
        applied(Lose(0.2), "d", Choice(seed=seed)),
    )
    at, now, expected, got = Lane(WAY, 1), 0.0, b"", b""
    at.follow(rules, 0.0)
    for n, (size, pause) in enumerate(sent):
        data = bytes([n % 256]) * size
        expected += data
        at.put(data, now)
        got += whole(out(at, now))
        now += pause
        if n == len(sent) // 2:
            at.follow(rules[:2], now)
    at.end(End.FIN, now)
    for _ in range(100_000):
        found = out(at, now)
        got += whole(found)
        if End.FIN in found:
            break
        assert at.wake() > now
        now = at.wake()
    assert got == expected
    assert at.held == 0


def test_a_rate_is_exact_however_late_it_is_asked() -> None:
    at = lane(Throttle(100_000, 1000))
    at.put(bytes(101_000), 0.0)
    passed, now = 0, 0.0
    while at.held:
        now += 0.037
        passed += len(whole(out(at, now)))
        assert passed <= 1000 + 100_000 * now + 1000
    assert now == pytest.approx(1.0, abs=0.04)


def test_what_waits_gets_the_time_that_new_rules_give_it() -> None:
    at = lane(Hold(60_000_000))
    at.put(b"x", 1.0)
    at.follow((applied(Hold(2_000_000)),), 1.5)
    assert at.wake() == pytest.approx(3.0)
    at.follow((), 1.6)
    assert out(at, 1.6) == [b"x"]
    assert at.idle


def test_a_silence_keeps_all_back_and_a_swallowing_one_says_that_something_lacks() -> None:
    at = lane(Silence())
    at.put(b"kept", 1.0)
    at.end(End.FIN, 2.0)
    assert (at.wake(), at.lacks) == (math.inf, False)
    at.follow((), 3.0)
    assert out(at, 3.0) == [b"kept", End.FIN]
    at = lane(Silence(swallow=True))
    at.put(b"gone", 1.0)
    assert (at.held, at.lacks) == (0, True)


@pytest.mark.parametrize("act", [LimitData(10), LimitData(10, reset=True), Reset(after_bytes=10)])
def test_exactly_so_many_bytes_pass_over_rule_changes_too(act: Act) -> None:
    limit = applied(act, "limit")
    at = Lane(WAY, 1)
    at.follow((limit,), 0.0)
    at.put(b"012345", 0.0)
    assert out(at, 0.0) == [b"012345"]
    at.follow((limit, applied(Hold(0), "other")), 0.1)
    at.put(b"6789abc", 0.1)
    assert out(at, 0.1) == [b"6789", End.CLOSE if act == LimitData(10) else End.RESET]
    assert limit.counter.hits == 1


def test_the_tighter_of_two_limits_ends_it() -> None:
    at = lane(LimitData(100, reset=True), LimitData(10))
    at.put(bytes(200), 0.0)
    assert out(at, 0.0) == [bytes(10), End.CLOSE]


def test_single_segments_are_held_where_they_are_what_is_chosen() -> None:
    at = Lane(WAY, 1)
    at.follow((applied(Hold(1_000_000), choice=Choice(nth=2), per=Drawn.SEGMENT),), 0.0)
    at.put(b"1", 0.0)
    at.put(b"2", 0.0)
    assert out(at, 0.0) == [b"1"]
    assert out(at, 1.0) == [b"2"]


def test_one_choice_counts_the_segments_of_all_connections() -> None:
    rule = applied(Lose(1.0), choice=Choice(nth=3))
    courses = [Course((rule,), WAY, number) for number in range(3)]
    assert [len(course.of(b"x", 0.0)) for course in courses * 2] == [1, 1, 0, 1, 1, 0]


def test_datagrams_wait_no_longer_than_a_queue_lasts() -> None:
    course = Course((applied(Throttle(10_000, 1000)),), WAY, 1)
    found = [course.of(bytes(100), 0.0) for _ in range(100)]
    assert sum(map(len, found)) == pytest.approx(10 + 40, abs=2)
    assert max(due for made in found for due, _ in made) == pytest.approx(0.4, abs=0.02)


def test_both_copies_of_a_datagram_are_held() -> None:
    course = Course((applied(Hold(1000), "a"), applied(Duplicate(1.0), "b")), WAY, 1)
    assert [(round(due, 6), data) for due, data in course.of(b"x", 1.0)] == [(1.001, b"x")] * 2


# The rulebook


def chosen(book: Rulebook, numbers: list[dict[str, tuple[int, bool]]], *, live: bool = True) -> list[list[str]]:
    return [[a.rule.name for a in book.chosen("l", n, known, live=live)] for n, known in enumerate(numbers, start=1)]


def test_a_connection_is_chosen_once_and_more_are_with_a_larger_probability() -> None:
    book, numbers = Rulebook(), [dict[str, tuple[int, bool]]() for _ in range(200)]
    book.change([Rule("r", Hold(1), choice=Choice(0.2, seed=4))], 0.0, 1)
    few = chosen(book, numbers)
    assert 20 < sum(map(bool, few)) < 60
    assert book.change([Rule("r", Hold(2), choice=Choice(0.2, seed=4))], 1.0, 201)
    assert chosen(book, numbers) == few
    book.change([Rule("r", Hold(2), choice=Choice(0.6, seed=4))], 2.0, 201)
    many = chosen(book, numbers)
    assert all(more for more, less in zip(many, few, strict=True) if less)
    assert 90 < sum(map(bool, many)) < 150
    assert chosen(book, numbers) == many


def test_rules_are_for_connections_from_before_and_after_they_came() -> None:
    book = Rulebook()
    book.change([Rule(which, Hold(1), connections=which) for which in Connections], 0.0, 2)
    numbers: list[dict[str, tuple[int, bool]]] = [{}, {}]
    assert chosen(book, numbers) == [["All", "Existing"], ["All", "New"]]


def test_the_same_rules_are_no_change_and_a_gone_rules_counter_stays() -> None:
    book = Rulebook()
    rules = [Rule("a", Hold(1)), Rule("b", Hold(1))]
    assert book.change(rules, 0.0, 1)
    assert not book.change(rules, 1.0, 1)
    book.applied[0].count(5)
    assert book.change([], 2.0, 1)
    assert book.counters()["a"].bytes == 5
    book.change(rules, 3.0, 1)
    book.applied[0].count(5)
    assert book.counters()["a"].bytes == 10
