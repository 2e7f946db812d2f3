"""Watches that stall, end, lose events or get them twice, late or in another order: and are left alone otherwise."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bounceback.proxy.api import frames
from bounceback.proxy.api.frames import framing
from bounceback.proxy.api.rulebook import Applied
from bounceback.proxy.api.watching import MOST_HELD, MOST_REPLAYED, End, Step, Watch, Write
from bounceback.types.api_rule import Act, ApiRule, CutWatch, Ending, ErrorEvent, Event, Events, Stall, Where
from bounceback.types.choice import Choice

JSON = "application/json"
NOW = 1000.0
A, B, C, D = (f'{{"type":"ADDED","object":{{"metadata":{{"name":"{name}"}}}}}}\n'.encode() for name in "abcd")
MARK = b'{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"9"}}}\n'
CLOSED, RESET, SILENT = End(Ending.CLOSE), End(Ending.RESET), End(Ending.SILENCE)
TORN = End(Ending.CLOSE, torn=True)
AT_ONCE = CutWatch()


def rule(act: Act, choice: Choice | None = None, name: str = "r", after: int = 0) -> Applied:
    return Applied(ApiRule(name, act, choice=choice or Choice(), after=after))


def watch(*applied: Applied, content_type: str = JSON, now: float = NOW) -> Watch:
    return Watch(framing(content_type), applied, now)


def written(steps: Sequence[Step]) -> bytes:
    return b"".join(step.data for step in steps if isinstance(step, Write))


def end(steps: Sequence[Step]) -> End | None:
    """The end among these steps, which can only be the last."""
    assert not any(isinstance(step, End) for step in steps[:-1])
    return steps[-1] if steps and isinstance(steps[-1], End) else None


# Nothing to do


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


# Cut


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


# Error events


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


# Stall


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


# Events


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


# Whatever comes

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
