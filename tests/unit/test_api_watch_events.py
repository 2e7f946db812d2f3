"""Events of watches that are lost, repeated, late, in another order or seen again."""

from __future__ import annotations

import math

import pytest

from bounceback.proxy.api import frames
from bounceback.proxy.api.watching import MOST_HELD, MOST_REPLAYED, Write
from bounceback.types.api_rule import CutWatch, Event, Events
from bounceback.types.choice import Choice
from tests.unit.watches import (
    CLOSED,
    MARK,
    NOW,
    A,
    B,
    C,
    D,
    rule,
    watch,
    written,
)


def test_events_are_dropped() -> None:
    assert watch(rule(Events(Event.DROP), Choice(nth=2))).feed(A + B + C + D, NOW) == [Write(A + C)]


def test_events_are_repeated() -> None:
    assert written(watch(rule(Events(Event.REPEAT))).feed(A + B, NOW)) == A + A + B + B


def test_bookmarks_are_left_alone_unless_they_are_asked_for() -> None:
    assert written(watch(rule(Events(Event.DROP))).feed(A + MARK, NOW)) == MARK
    assert written(watch(rule(Events(Event.DROP, types=("BOOKMARK",)))).feed(A + MARK, NOW)) == A


def test_only_events_that_fit_are_numbered() -> None:
    drop = rule(Events(Event.DROP, names=("a", "c")), Choice(nth=2))
    assert written(watch(drop).feed(A + B + C + D, NOW)) == A + B + D
    assert (drop.count.seen, drop.count.hits) == (2, 1)


def test_of_several_rules_the_first_that_hits_decides() -> None:
    drop, repeat = rule(Events(Event.DROP, names=("a",)), name="x"), rule(Events(Event.REPEAT), name="y")
    assert written(watch(drop, repeat).feed(A + B, NOW)) == B + B
    assert repeat.count.seen == 1


def test_a_delayed_event_holds_those_after_it() -> None:
    delayed = watch(rule(Events(Event.DELAY, names=("a",), delay_us=3_000_000)))
    assert delayed.feed(A + B, NOW) == []
    assert delayed.next_at == NOW + 3
    assert delayed.feed(C, NOW + 1) == [] and delayed.holds == len(A + B + C)
    assert delayed.due(NOW + 2.9) == [] and delayed.next_at == NOW + 3
    assert delayed.due(NOW + 3) == [Write(A + B + C)]
    assert delayed.next_at == math.inf
    assert delayed.feed(D, NOW + 3) == [Write(D)]


def test_a_delay_that_is_lifted_lets_go() -> None:
    delayed = watch(rule(Events(Event.DELAY, delay_us=60_000_000)))
    delayed.feed(A, NOW)
    assert delayed.follow((rule(Events(Event.DELAY, delay_us=1_000_000)),), NOW + 1) == [Write(A)]
    delayed.feed(B, NOW + 1)
    assert delayed.follow((), NOW + 1) == [Write(B)]


def test_what_is_held_goes_before_the_end() -> None:
    delayed = watch(rule(Events(Event.DELAY, names=("a",), delay_us=60_000_000)))
    delayed.feed(A + B, NOW)
    assert delayed.ended(NOW) == [Write(A + B), CLOSED]
    swapped = watch(rule(Events(Event.REORDER)))
    swapped.feed(A, NOW)
    assert swapped.ended(NOW) == [Write(A), CLOSED]


def test_a_reordered_event_comes_after_the_next() -> None:
    reordered = watch(rule(Events(Event.REORDER)))
    assert reordered.feed(A, NOW) == [] and reordered.holds == len(A)
    assert reordered.feed(B + C + D, NOW) == [Write(B + A + D + C)]


def test_a_reordered_event_that_none_follows_comes_in_its_time() -> None:
    reordered = watch(rule(Events(Event.REORDER, delay_us=2_000_000)))
    assert reordered.feed(A, NOW) == []
    assert reordered.next_at == NOW + 2
    assert reordered.due(NOW + 2) == [Write(A)]
    assert reordered.next_at == math.inf


def test_a_reordered_event_that_the_rule_lets_go_comes() -> None:
    reordered = watch(rule(Events(Event.REORDER)))
    reordered.feed(A, NOW)
    assert reordered.follow((), NOW) == [Write(A)]


def test_a_large_reordered_event_does_not_stop_the_one_it_waits_for() -> None:
    reordered = watch(rule(Events(Event.REORDER)))
    large = A[:-3] + b',"x":"' + b"x" * MOST_HELD + b'"}}\n'
    assert reordered.feed(large, NOW) == [] and not reordered.full


def test_a_replay_shows_the_past_again() -> None:
    replay = rule(Events(Event.REPLAY, names=("c",)))
    assert written(watch(replay).feed(A + MARK + B + C + D, NOW)) == A + MARK + B + A + B + C + D
    assert replay.count.hits == 1


def test_a_replay_has_no_past_from_before_its_rule() -> None:
    replay, other = rule(Events(Event.REPLAY)), rule(Events(Event.DROP, names=("x",)), name="other")
    replaying = watch(replay, other)
    assert written(replaying.feed(A, NOW)) == A
    replaying.follow((other,), NOW)
    replaying.follow((replay, other), NOW)
    assert written(replaying.feed(B + C, NOW)) == B + B + C


def test_a_replay_without_a_past_waits_for_one() -> None:
    replay = rule(Events(Event.REPLAY), Choice(first_n=1))
    assert written(watch(replay).feed(A + B + C, NOW)) == A + A + B + C


def test_a_replay_remembers_so_many_events() -> None:
    replaying = watch(rule(Events(Event.REPLAY, names=("d",))))
    replaying.feed(A * 500, NOW)
    assert written(replaying.feed(D, NOW)) == A * MOST_REPLAYED + D


def test_no_event_comes_in_the_middle_of_one_that_is_too_large_to_wait_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "LARGEST", len(B))
    large = b"x" * 300
    reordered = watch(rule(Events(Event.REORDER, types=("ADDED",), delay_us=1_000_000)))
    assert reordered.feed(A, NOW) == []
    assert reordered.feed(large, NOW) == [Write(large)]
    assert reordered.due(NOW + 1) == [] and reordered.next_at == math.inf
    assert reordered.feed(b"x\n", NOW + 1) == [Write(b"x\n" + A)]


def test_a_cut_counts_what_the_client_gets() -> None:
    both = watch(rule(Events(Event.DROP, names=("a",)), name="x"), rule(CutWatch(after_events=1), name="y"))
    assert both.feed(A + B + C, NOW) == [Write(B), CLOSED]


def test_events_of_a_watch_that_is_left_hold_nothing_up() -> None:
    delayed = watch(rule(Events(Event.DELAY, delay_us=60_000_000)))
    delayed.feed(A, NOW)
    delayed.left()
    assert delayed.next_at == math.inf and delayed.feed(B, NOW) == [] and delayed.due(NOW + 99) == []
