"""Watches that stall and end, and are left alone otherwise, whatever rules come and go."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bounceback.proxy.api.watching import MOST_HELD, End, Write
from bounceback.types.api_rule import Act, CutWatch, Ending, ErrorEvent, Event, Events, Stall, Where
from bounceback.types.choice import Choice
from tests.unit.watches import (
    AT_ONCE,
    CLOSED,
    MARK,
    NOW,
    RESET,
    SILENT,
    TORN,
    A,
    B,
    C,
    D,
    end,
    rule,
    watch,
    written,
)


def test_without_a_rule_what_comes_goes_on_untouched_and_at_once() -> None:
    left_alone = watch()
    half = A[:7]
    (step,) = left_alone.feed(half, NOW)
    assert isinstance(step, Write) and step.data is half
    assert (left_alone.holds, left_alone.next_at, left_alone.full) == (0, math.inf, False)


def test_a_rule_that_does_not_hit_this_watch_leaves_it_alone() -> None:
    cut = rule(AT_ONCE, after=1)
    spared = watch(cut)
    assert spared.due(NOW) == []
    assert spared.feed(A[:7], NOW) == [Write(A[:7])]
    assert (cut.count.seen, cut.count.hits) == (1, 0)
    assert end(watch(cut).due(NOW)) == CLOSED


def test_a_watch_that_its_server_ends_ends() -> None:
    ending = watch()
    ending.feed(A, NOW)
    assert ending.ended(NOW) == [CLOSED]
    assert ending.over
    assert ending.feed(B, NOW) == [] and ending.ended(NOW) == [] and ending.follow((), NOW) == []


def test_what_the_server_ended_is_not_torn_by_us() -> None:
    open_ = watch()
    open_.feed(A[:9], NOW)
    open_.follow((rule(Events(Event.DROP)),), NOW)
    open_.follow((), NOW)
    assert open_.feed(A[9:], NOW) == [Write(A[9:])]
    assert open_.ended(NOW) == [CLOSED]


def test_a_watch_that_its_server_ends_in_mid_event_is_passed_on_so_far() -> None:
    ending = watch(rule(Events(Event.DROP, names=("x",))))
    assert written(ending.feed(A + B[:9], NOW)) == A
    assert ending.ended(NOW) == [Write(B[:9]), CLOSED]


def test_a_cut_at_once_is_due_before_anything_comes() -> None:
    cut = watch(rule(AT_ONCE))
    assert cut.next_at == NOW
    assert cut.due(NOW) == [CLOSED]


@pytest.mark.parametrize("ending", [Ending.CLOSE, Ending.RESET])
def test_a_cut_after_events_lets_these_through_and_no_byte_more(ending: Ending) -> None:
    cut = watch(rule(CutWatch(ending=ending, after_events=2)))
    assert cut.due(NOW) == []
    assert cut.feed(A + B[:5], NOW) == [Write(A)]
    assert cut.feed(B[5:] + C + D, NOW) == [Write(B), End(ending)]


def test_a_cut_in_mid_line_leaves_an_event_that_nobody_can_read() -> None:
    cut = watch(rule(CutWatch(where=Where.MID_LINE, after_events=1)))
    steps = cut.feed(A + B, NOW)
    assert steps == [Write(A), End(Ending.CLOSE, B[: len(B) // 2], torn=True)]


def test_a_cut_in_mid_line_does_not_wait_for_the_end_of_the_line() -> None:
    cut = watch(rule(CutWatch(where=Where.MID_LINE)))
    assert cut.due(NOW) == [] and cut.next_at == math.inf
    assert cut.feed(A[:-1], NOW) == [End(Ending.CLOSE, A[: (len(A) - 1) // 2], torn=True)]


def test_a_cut_in_mid_line_of_an_open_watch_uses_the_event_that_is_begun() -> None:
    open_ = watch()
    open_.feed(A + B[:9], NOW)
    assert open_.follow((rule(CutWatch(where=Where.MID_LINE)),), NOW) == [TORN]


def test_a_cut_between_events_of_an_open_watch_waits_for_the_end_of_the_event() -> None:
    open_ = watch()
    open_.feed(A + B[:9], NOW)
    assert open_.follow((rule(AT_ONCE),), NOW) == []
    assert open_.next_at == math.inf
    assert open_.feed(B[9:20], NOW) == [Write(B[9:20])]
    assert open_.feed(B[20:] + C, NOW) == [Write(B[20:]), CLOSED]


def test_an_open_watch_between_two_events_is_cut_as_the_rule_comes() -> None:
    open_ = watch()
    open_.feed(A, NOW)
    assert open_.follow((rule(AT_ONCE),), NOW) == [CLOSED]


def test_the_rest_of_an_event_is_none_of_those_that_a_cut_counts() -> None:
    open_ = watch()
    open_.feed(A[:9], NOW)
    open_.follow((rule(CutWatch(after_events=1)),), NOW)
    assert open_.feed(A[9:] + B + C, NOW) == [Write(A[9:] + B), CLOSED]


def test_a_rule_that_is_changed_is_met_again() -> None:
    open_ = watch(rule(CutWatch(after_us=9_000_000)))
    assert open_.follow((rule(AT_ONCE),), NOW) == [CLOSED]


def test_a_cut_waits_for_its_time_and_for_its_events() -> None:
    cut = watch(rule(CutWatch(after_events=1, after_us=5_000_000)))
    assert cut.next_at == math.inf
    assert cut.feed(A, NOW) == [Write(A)]
    assert cut.next_at == NOW + 5
    assert cut.due(NOW + 4) == [] and cut.next_at == NOW + 5
    assert cut.feed(B, NOW + 4) == [Write(B)]
    assert cut.due(NOW + 5) == [CLOSED]


def test_a_cut_that_did_not_come_to_it_is_no_hit() -> None:
    cut = rule(CutWatch(after_us=1))
    lifted, ended, left = watch(cut), watch(cut), watch(cut)
    assert cut.count.hits == 3
    lifted.follow((), NOW)
    assert end(ended.ended(NOW)) == CLOSED
    left.left()
    left.left()
    assert (cut.count.seen, cut.count.hits) == (3, 0)
    assert lifted.feed(A, NOW) == [Write(A)]


def test_a_rule_that_comes_again_is_met_again_and_one_that_stays_is_not() -> None:
    cut = rule(CutWatch(after_us=9), Choice(nth=2))
    open_ = watch(cut)
    open_.follow((cut, rule(Events(Event.DROP, names=("x",)), name="other")), NOW)
    assert (cut.count.seen, cut.count.hits) == (1, 0)
    open_.follow((), NOW)
    open_.follow((cut,), NOW)
    assert (cut.count.seen, cut.count.hits) == (2, 1)
    assert open_.due(NOW + 1) == [CLOSED]


def test_silence_lasts_until_the_rule_is_lifted_and_ends_in_a_reset() -> None:
    cut = rule(CutWatch(ending=Ending.SILENCE))
    silent = watch(cut)
    assert silent.due(NOW) == [SILENT]
    assert silent.feed(A, NOW) == [] and silent.ended(NOW) == [] and not silent.over
    assert silent.follow((cut,), NOW) == []
    assert silent.follow((), NOW) == [RESET]
    assert silent.over and cut.count.hits == 1


def test_a_watch_in_an_unknown_encoding_is_cut_between_what_comes_at_a_time() -> None:
    cut = watch(rule(CutWatch(after_events=1)), content_type="application/cbor-seq")
    assert cut.feed(b"\x01\x02", NOW) == [Write(b"\x01\x02"), CLOSED]
    torn = watch(rule(CutWatch(where=Where.MID_LINE)), content_type="application/cbor-seq")
    assert torn.feed(b"\x01\x02", NOW) == [End(Ending.CLOSE, b"\x01", torn=True)]


def test_an_error_event_is_the_last_of_a_watch() -> None:
    failing = watch(rule(ErrorEvent(after_events=1)))
    steps = failing.feed(A + B, NOW)
    assert steps[-1] == End(Ending.CLOSE, error=True)
    event = written(steps).removeprefix(A)
    assert event.startswith(b'{"type":"ERROR","object":{"kind":"Status"') and b'"code":410' in event


def test_an_error_event_never_stands_within_another() -> None:
    open_ = watch()
    open_.feed(A[:9], NOW)
    assert open_.follow((rule(ErrorEvent(500, "no quorum")),), NOW) == []
    steps = open_.feed(A[9:] + B, NOW)
    assert written(steps).startswith(A[9:] + b'{"type":"ERROR"') and b"no quorum" in written(steps)
    assert end(steps) == End(Ending.CLOSE, error=True)


def test_an_error_that_cannot_be_written_does_not_count() -> None:
    error, drop = rule(ErrorEvent()), rule(Events(Event.DROP), name="drop")
    unread = watch(error, drop, content_type="application/cbor-seq")
    assert unread.feed(b"\x01", NOW) == [Write(b"\x01")]
    assert error.count.seen == drop.count.seen == 0


def test_what_came_during_a_stall_comes_when_it_is_lifted() -> None:
    stall = rule(Stall())
    stalled = watch(stall)
    assert stalled.feed(A + B[:9], NOW) == [] and stalled.feed(B[9:], NOW) == []
    assert (stalled.holds, stalled.next_at) == (len(A + B), math.inf)
    assert stalled.follow((), NOW) == [Write(A + B)]
    assert stalled.feed(C, NOW) == [Write(C)] and stalled.holds == 0
    assert stall.count.hits == 1


def test_a_stall_that_is_lifted_in_mid_event_passes_on_what_there_is_of_it() -> None:
    stalled = watch(rule(Stall()))
    stalled.feed(A + B[:9], NOW)
    assert stalled.follow((), NOW) == [Write(A + B[:9])]
    assert stalled.follow((rule(AT_ONCE),), NOW) == []
    assert stalled.feed(B[9:], NOW) == [Write(B[9:]), CLOSED]


def test_a_watch_that_stalls_in_mid_event_goes_on_there() -> None:
    open_ = watch()
    open_.feed(A[:9], NOW)
    assert open_.follow((rule(Stall()),), NOW) == []
    assert open_.feed(A[9:] + B, NOW) == []
    assert open_.follow((), NOW) == [Write(A[9:] + B)]


def test_a_stall_hides_that_the_server_ended_the_watch() -> None:
    stalled = watch(rule(Stall()))
    stalled.feed(A, NOW)
    assert stalled.ended(NOW) == [] and not stalled.over
    assert stalled.follow((), NOW) == [Write(A), CLOSED]


def test_nothing_comes_through_a_stall_not_even_an_error_or_half_an_event() -> None:
    stall = rule(Stall())
    for act in (ErrorEvent(), CutWatch(where=Where.MID_LINE)):
        cut = rule(act, name="cut")
        for data in (A, A[:9]):
            stalled = watch(stall, cut)
            assert stalled.due(NOW) == [] and stalled.feed(data, NOW) == []
            assert end(stalled.follow((cut,), NOW)) is not None


def test_a_stalled_watch_can_be_cut_between_events() -> None:
    stalled = watch(rule(Stall(), name="stall"), rule(CutWatch(after_us=1_000_000, ending=Ending.RESET)))
    assert stalled.feed(A, NOW) == [] and stalled.next_at == NOW + 1
    assert stalled.due(NOW + 1) == [RESET]


def test_a_stall_that_drops_keeps_nothing_and_ends_in_a_reset() -> None:
    stalled = watch(rule(Stall(drop=True)))
    assert stalled.feed(A, NOW) == [] and stalled.holds == 0
    assert stalled.ended(NOW) == []
    assert stalled.follow((), NOW) == [RESET]


def test_a_stall_that_holds_much_lets_the_server_wait() -> None:
    stalled = watch(rule(Stall()))
    stalled.feed(A, NOW)
    assert not stalled.full
    stalled.feed(b"x" * MOST_HELD + b"\n", NOW)
    assert stalled.full
    stalled.follow((), NOW)
    assert not stalled.full


ACTS: list[Act] = [
    Stall(),
    Events(Event.DELAY, delay_us=1_500_000),
    Events(Event.REORDER),
    Events(Event.REORDER, delay_us=500_000),
    CutWatch(after_events=10_000),
    ErrorEvent(after_events=10_000),
]


pieces = st.lists(st.integers(1, 150), max_size=30)


@given(sizes=pieces, rules=st.lists(st.sampled_from([None, *ACTS]), min_size=31, max_size=31), seed=st.integers(0, 9))
def test_rules_that_lose_nothing_lose_nothing(sizes: list[int], rules: list[Act | None], seed: int) -> None:
    """Whenever rules come and go in the stream, the client gets each event once, and each whole."""
    events = [A, B, MARK, C, D] * 4
    stream = b"".join(events)
    open_, got, now = watch(), b"", NOW
    for size, act in zip([*sizes, len(stream)], rules, strict=False):
        piece, stream = stream[:size], stream[size:]
        chosen = (rule(act, Choice(probability=0.5, seed=seed), name=str(act)),) if act else ()
        got += written(open_.follow(chosen, now))
        got += written(open_.feed(piece, now))
        now += 0.25
        got += written(open_.due(now))
    steps = open_.follow((), now)
    got += written(steps) + written(open_.ended(now))
    assert open_.over
    assert sorted(got.splitlines(keepends=True)) == sorted(events)


@given(sizes=pieces, more=pieces)
def test_the_same_rules_do_the_same_however_the_stream_was_cut(sizes: list[int], more: list[int]) -> None:
    def run(sizes: list[int]) -> bytes:
        stream = b"".join([A, B, MARK, C, D] * 9)
        seen = watch(
            rule(Events(Event.DROP), Choice(probability=0.3, seed=1), name="drop"),
            rule(Events(Event.REPEAT), Choice(probability=0.3, seed=1), name="repeat"),
            rule(Events(Event.REORDER), Choice(probability=0.3, seed=1), name="reorder"),
            rule(Events(Event.REPLAY), Choice(probability=0.1, seed=1), name="replay"),
            rule(CutWatch(after_events=40), name="cut"),
        )
        got = b""
        for size in [*sizes, len(stream)]:
            got += written(seen.feed(stream[:size], NOW))
            stream = stream[size:]
        return got

    assert run(sizes) == run(more)
