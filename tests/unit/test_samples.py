"""What is kept of a probe's samples: runs, gaps, counters; bounded, and able to go on after a restart."""

from __future__ import annotations

import json
import random
import sys

import pytest

from bounceback.engine.samples import MOST_GAPS, MOST_RUNS, History, Sample, condensed
from bounceback.types.instants import Instant, Interval

BASE = Instant("boot", 10**15, 1.7e9)


def at(milliseconds: float) -> Instant:
    return Instant("boot", BASE.nanos + round(milliseconds * 1_000_000), BASE.utc + milliseconds / 1000)


def sample(start: float, end: float, healthy: bool, message: str = "down") -> Sample:
    return Sample(at(start), at(end), healthy, "" if healthy else message)


def history(states: str, *, period: int = 100, timeout: int = 1000, latency: int = 10) -> History:
    """One sample a period: H healthy, F failing, - nobody looks."""
    told = History(period / 1000, timeout / 1000)
    for number, state in enumerate(states):
        if state != "-":
            told.add(sample(number * period, number * period + latency, state == "H"))
    return told


def shape(told: History) -> str:
    return " ".join(f"{'|' if run.after_gap else ''}{run.count}{'H' if run.healthy else 'F'}" for run in told.runs)


def test_samples_of_equal_state_are_one_run() -> None:
    told = history("HHHFFHH")
    assert shape(told) == "3H 2F 2H"
    assert (told.samples, told.healthy_samples) == (7, 5)
    assert told.runs[1].first.start == at(300)
    assert told.runs[1].last.end == at(410)


def test_a_late_answer_belongs_where_it_started() -> None:
    told = History(0.1, 1.0)
    for start in range(0, 1000, 100):
        told.begin(at(start))
    for start in (0, 100, 200, 400, 500, 600, 700, 800, 900):
        told.add(sample(start, start + 10, True))
    assert told.oldest_under_way == at(300)
    assert told.add(sample(300, 1300, False))
    assert shape(told) == "3H 1F 6H"
    assert told.oldest_under_way is None


def test_a_run_knows_its_earliest_end() -> None:
    told = History(0.1, 1.0)
    told.add(sample(100, 110, False))
    told.add(sample(0, 1000, False))
    assert told.runs[0].first.start == at(0)
    assert told.runs[0].soonest == at(110)


def test_adding_tells_whether_the_state_changed() -> None:
    told = History(0.1, 1.0)
    assert [told.add(sample(n * 100, n * 100 + 1, state)) for n, state in enumerate([True, True, False, False])] == [
        True,
        False,
        True,
        False,
    ]


def test_sampling_that_stalls_is_a_gap_and_ends_the_run() -> None:
    told = history("HHH" + "-" * 13 + "HH")
    assert shape(told) == "3H |2H"
    assert told.gaps == (Interval(at(200), at(1600)),)


def test_one_look_between_two_gaps_stands_alone() -> None:
    told = history("HHH" + "-" * 13 + "H" + "-" * 13 + "HH")
    assert shape(told) == "3H |1H |2H"
    assert len(told.gaps) == 2


def test_a_pause_of_up_to_two_periods_and_a_timeout_is_none() -> None:
    told = history("HHH" + "-" * 11 + "HH")
    assert shape(told) == "5H"
    assert told.gaps == ()


def test_a_late_answer_within_what_seemed_a_gap_takes_it_back() -> None:
    told = history("HHH" + "-" * 13 + "HH")
    told.add(sample(900, 1700, True))
    assert told.gaps == ()
    assert shape(told) == "6H"


def test_a_sample_that_was_never_carried_out_leaves_nothing() -> None:
    told = history("HH")
    told.begin(at(200))
    told.abandon(at(200))
    assert told.oldest_under_way is None
    assert told.samples == 2


def test_a_look_that_we_lost_ourselves_is_a_gap() -> None:
    told = history("HH")
    told.begin(at(200))
    told.begin(at(300))
    told.lose(at(200), at(1300))
    told.lose(at(300), at(1400))
    told.add(sample(1500, 1510, True))
    assert told.gaps == (Interval(at(200), at(1400)),)
    assert shape(told) == "2H |1H"


def test_the_first_failure_messages_are_kept_each_once() -> None:
    told = History(0.1, 1.0)
    for number in range(20):
        told.add(sample(number * 100, number * 100 + 1, False, f"reason {number // 2} " + "x" * 500))
    assert [message[:8] for message in told.messages] == [f"reason {n}" for n in range(5)]
    assert told.latest_failure.startswith("reason 9")
    assert max(map(len, told.messages)) == 200


def test_memory_is_bounded_however_often_the_state_changes() -> None:
    told = History(0.05, 1.0)
    dice = random.Random(1)
    for number in range(20_000):
        told.add(sample(number * 50, number * 50 + 1, dice.random() < 0.5))
    assert len(told.runs) < MOST_RUNS + 50
    assert told.runs[0].first.start == at(0)
    assert told.runs[-1].last.start == at(19_999 * 50)
    assert told.samples == 20_000
    assert told.gaps == ()


def test_gaps_are_bounded_and_never_shrink() -> None:
    told = History(0.05, 0.1)
    lost = 0.0
    for number in range(100):
        told.add(sample(number * 1000, number * 1000 + 1, True))
        told.add(sample(number * 1000 + 50, number * 1000 + 51, True))
        lost += 0.95 if number else 0
    assert len(told.gaps) == MOST_GAPS
    assert sum(gap.width for gap in told.gaps) >= lost - 0.001


def test_condensing_keeps_both_ends_and_counts_what_flaps_as_failing() -> None:
    runs, lost = condensed(history("HFHFHFHFHFHFHFHH").runs, 8)
    assert len(runs) <= 8
    assert [run.healthy for run in runs] == [True, False] * 3 + [True]
    assert lost == []
    assert sum(run.count for run in runs if not run.healthy) == 7


def test_a_restarted_operator_goes_on_with_a_gap_between() -> None:
    told = history("HHHFFHH")
    again = History.from_json(json.loads(json.dumps(told.to_json())))
    assert shape(again) == "3H 2F 2H"
    assert (again.samples, again.healthy_samples, again.messages) == (7, 5, ["down"])
    assert again.resumed_from == at(600)
    again.add(sample(800, 810, True))
    assert again.resumed_from is None
    assert shape(again) == "3H 2F 2H |1H"
    assert again.gaps == (Interval(at(600), at(800)),)


def test_a_restart_gives_up_what_was_under_way() -> None:
    told = history("HHH")
    told.begin(at(300))
    told.begin(at(400))
    told.add(sample(400, 410, True))
    assert History.from_json(told.to_json()).resumed_from == at(300)


def test_stored_times_are_never_narrower_than_the_true_ones() -> None:
    told = History(0.1, 1.0)
    told.add(Sample(Instant("boot", 1_000_000_999, 5.0), Instant("boot", 1_000_900_001, 5.0009), True))
    told.add(Sample(Instant("boot", 1_100_000_999, 5.1), Instant("boot", 1_100_900_001, 5.1009), True))
    run = History.from_json(told.to_json()).runs[0]
    assert run.last.start.nanos <= 1_100_000_999
    assert run.last.end.nanos >= 1_100_900_001
    assert run.last.latency == pytest.approx(0.0009, abs=3e-6)


def test_what_another_boot_saw_is_kept_with_its_clock() -> None:
    told = history("HHH")
    again = History.from_json(told.to_json())
    elsewhere = Instant("other", 5_000_000_000, BASE.utc + 2)
    again.add(Sample(elsewhere, elsewhere.plus(0.01), False, "down"))
    third = History.from_json(again.to_json())
    assert [run.first.start.boot for run in third.runs] == ["boot", "other"]
    assert third.gaps[0].width == pytest.approx(1.8, abs=0.001)


def test_what_another_version_stored_is_refused() -> None:
    with pytest.raises(ValueError, match="version 7"):
        History.from_json({**history("HH").to_json(), "version": 7})


def test_a_stored_history_is_small() -> None:
    dice = random.Random(1)
    flapping = history("".join(dice.choice("HF") for _ in range(2000)))
    assert len(json.dumps(history("HHHFFFHHH").to_json())) < 600
    assert len(json.dumps(flapping.to_json())) < 1200
    assert len(json.dumps(flapping.to_json(4, 0))) < 700


def test_hours_of_sampling_take_little_memory() -> None:
    told = History(0.05, 2.0)
    for number in range(72_000):  # an hour
        told.begin(at(number * 50))
        told.add(sample(number * 50, number * 50 + 3, True))
    kept = len(told._recent) + len(told._settled) + len(told._under_way)
    assert kept < 100
    assert sys.getsizeof(told.runs) < 1000
