"""Moments and figures, read off histories that are easy to follow."""

from __future__ import annotations

from typing import ClassVar

import pytest

from bounceback.api.status import Figure
from bounceback.engine.samples import History, Sample
from bounceback.engine.timeline import (
    failing_for,
    figure,
    figures,
    first_symptom,
    gaps_within,
    has_gap,
    healthy_for,
    judge_budget,
    merged_recovery,
    merged_symptom,
    recovered,
    stalled,
)
from bounceback.types.instants import Instant, Interval, Span
from bounceback.types.outcome import Judgement, Mark
from tests.unit.test_samples import at, history, sample


def between(start: float, end: float) -> Interval:
    return Interval(at(start), at(end))


class TestFirstSymptom:
    def test_lies_between_the_last_healthy_start_and_the_first_failing_end(self) -> None:
        assert first_symptom(history("HHHFFF"), at(0)) == between(200, 310)

    def test_there_is_none_while_all_is_well(self) -> None:
        assert first_symptom(history("HHHHHH"), at(0)) is None

    def test_only_what_came_after_counts(self) -> None:
        assert first_symptom(history("HFHHHFH"), at(300)) == between(400, 510)

    def test_what_may_have_come_before_or_after_counts(self) -> None:
        assert first_symptom(history("HHHFFF"), at(305)) == between(200, 310)

    def test_a_failure_that_was_there_before_is_none(self) -> None:
        assert first_symptom(history("HHFFFF"), at(400)) is None

    def test_fewer_failures_than_the_threshold_are_none(self) -> None:
        assert first_symptom(history("HHFFHHFFFH"), at(0), threshold=3) == between(500, 610)
        assert first_symptom(history("HHFFHH"), at(0), threshold=3) is None

    def test_failures_that_may_yet_be_enough_are_none_yet(self) -> None:
        assert first_symptom(history("HHFF"), at(0), threshold=3) is None

    def test_a_quick_failure_bounds_a_slow_one_before_it(self) -> None:
        told = history("HH")
        told.add(sample(300, 310, False))
        told.add(sample(200, 1200, False))
        assert first_symptom(told, at(0)) == between(100, 310)

    def test_a_gap_over_it_widens_the_interval(self) -> None:
        told = history("HHH" + "-" * 13 + "FFF")
        interval = first_symptom(told, at(0))
        assert interval == between(200, 1610)
        assert has_gap(told, interval)

    def test_nobody_looked_before_it(self) -> None:
        assert first_symptom(history("---FFF"), at(100)) == between(100, 310)

    def test_it_is_known_only_when_no_older_look_is_under_way(self) -> None:
        told = History(0.1, 1.0)
        for start in (0, 100, 200, 300):
            told.begin(at(start))
        for start, healthy in ((0, True), (200, True), (300, False)):
            told.add(sample(start, start + 10, healthy))
        assert first_symptom(told, at(0)) is None
        told.add(sample(100, 1100, False))
        assert first_symptom(told, at(0)) == between(0, 1100)

    def test_an_outage_shorter_than_the_answers_around_it_is_uncertain_by_the_slower_one(self) -> None:
        told = History(0.1, 1.0)
        told.add(sample(0, 500, True))
        told.add(sample(100, 110, False))
        told.add(sample(200, 700, True))
        assert first_symptom(told, at(0)) == between(-490, 110)

    def test_a_watch_tells_in_order_and_needs_no_allowance(self) -> None:
        told = History(1, 1, ordered=True)
        told.add(sample(0, 500, True))
        told.add(sample(0, 510, False))
        told.add(sample(0, 520, True))
        assert first_symptom(told, at(0)) == between(0, 510)


class TestRecovered:
    def test_lies_between_the_last_failing_start_and_the_first_healthy_end(self) -> None:
        assert recovered(history("HHFFHHHHHH"), at(0), 0.3, at(1000)) == between(300, 410)

    def test_a_system_that_never_failed_recovered_at_once(self) -> None:
        assert recovered(history("HHHHHHHHH"), at(250), 0.3, at(900)) == between(250, 250)

    def test_a_failure_that_was_over_before_does_not_count(self) -> None:
        assert recovered(history("HFHHHHHHH"), at(400), 0.3, at(900)) == between(400, 400)

    def test_not_while_it_fails(self) -> None:
        assert recovered(history("HHFFHHHHFF"), at(0), 0.3, at(1000)) is None

    def test_not_before_it_is_stable(self) -> None:
        told = history("HHFFHHH")
        assert recovered(told, at(0), 0.3, at(10_000)) is None, "time that nobody looked at does not count"
        told.add(sample(800, 810, True))
        assert recovered(told, at(0), 0.3, at(810)) == between(300, 410)

    def test_the_last_of_several_recoveries_counts(self) -> None:
        assert recovered(history("HFFHHHHHFFHHHHH"), at(0), 0.3, at(1500)) == between(900, 1010)

    def test_failures_below_the_threshold_do_not_disturb(self) -> None:
        told = history("HFFFHHFHHHHH")
        told.threshold = 2
        assert recovered(told, at(0), 0.5, at(1200)) == between(300, 410)

    def test_not_while_an_older_look_is_under_way(self) -> None:
        told = history("HF")
        for start in range(200, 900, 100):
            told.begin(at(start))
        for start in range(300, 900, 100):
            told.add(sample(start, start + 10, True))
        assert recovered(told, at(0), 0.3, at(900)) is None
        told.add(sample(200, 1000, True))
        assert recovered(told, at(0), 0.3, at(1000)) is not None

    def test_a_gap_before_it_was_stable_widens_the_interval(self) -> None:
        told = history("HFFHH" + "-" * 13 + "HHHHHH")
        interval = recovered(told, at(0), 0.3, at(2400))
        assert interval == between(200, 1810)
        assert has_gap(told, interval)

    def test_a_gap_after_it_was_stable_changes_nothing(self) -> None:
        assert recovered(history("HFFHHHHHH" + "-" * 13 + "H"), at(0), 0.3, at(2300)) == between(200, 310)

    def test_nobody_looked_at_the_time(self) -> None:
        assert recovered(history("----HHHHHH"), at(100), 0.3, at(1000)) == between(100, 410)

    def test_a_silent_failure_that_overlaps_healthy_answers_is_uncertain_by_its_timeout(self) -> None:
        told = history("HH")
        told.add(sample(200, 1200, False))
        for start in range(300, 1500, 100):
            told.add(sample(start, start + 10, True))
        assert recovered(told, at(0), 0.3, at(1500)) == between(200, 310 + 990)


class TestNow:
    def test_healthy_for_is_what_was_seen(self) -> None:
        assert healthy_for(history("FFHHHHH"), at(700)) == pytest.approx(0.39)
        assert healthy_for(history("HHHF"), at(400)) == 0
        assert healthy_for(History(0.1, 1), at(400)) == 0

    def test_healthy_for_begins_anew_after_a_gap(self) -> None:
        assert healthy_for(history("HHHHH" + "-" * 13 + "HHH"), at(2100)) == pytest.approx(0.19)

    def test_nobody_knows_when_nobody_looks(self) -> None:
        told = history("HHHHH")
        assert healthy_for(told, at(1600)) > 0
        assert healthy_for(told, at(1601)) == 0
        assert stalled(told, at(1601))

    def test_failing_for_counts_up_to_now(self) -> None:
        told = history("HHFFF")
        assert failing_for(told, at(1000)) == pytest.approx(0.79)
        assert failing_for(history("FFFH"), at(1000)) == 0

    def test_after_a_restart_nothing_is_known_until_somebody_looks(self) -> None:
        told = History.from_json(history("HHHHHHHH").to_json())
        assert healthy_for(told, at(750)) == 0
        assert has_gap(told, between(600, 800))
        assert not has_gap(told, between(100, 600))


class TestGaps:
    def test_only_those_within_the_time_count(self) -> None:
        told = history("HHH" + "-" * 13 + "HH")
        assert gaps_within(told, between(0, 1700)) == [between(200, 1600)]
        assert has_gap(told, between(500, 500))
        assert not has_gap(told, between(0, 200))
        assert not has_gap(told, between(1600, 1700))

    def test_the_time_before_the_first_look_and_after_the_last_is_one(self) -> None:
        told = history("-" * 20 + "HHH")
        assert gaps_within(told, between(0, 2200)) == [between(0, 2000)]
        assert gaps_within(told, between(2000, 9000)) == [between(2200, 9000)]
        assert has_gap(History(0.1, 1), between(0, 1))


class TestSeveralProbes:
    def test_the_first_symptom_is_the_least(self) -> None:
        assert merged_symptom([between(100, 500), None, between(200, 300)]) == between(100, 300)
        assert merged_symptom([None, None]) is None

    def test_the_recovery_is_the_last(self) -> None:
        assert merged_recovery([between(100, 500), between(200, 300)]) == between(200, 500)

    def test_who_has_not_recovered_holds_all_back(self) -> None:
        assert merged_recovery([between(100, 500), None]) is None
        assert merged_recovery([]) is None


@pytest.mark.parametrize(
    ("span", "milliseconds", "plus_minus"),
    [
        (Span(1.0, 2.0), 1500, 500),
        (Span(1.0, 1.0), 1000, 0),
        (Span(0.0001, 0.0002), 0, 1),
        (Span(1.0, 1.0011), 1001, 1),
    ],
)
def test_a_figure_contains_its_span(span: Span, milliseconds: int, plus_minus: int) -> None:
    shown = figure(span)
    assert shown == Figure(milliseconds=milliseconds, plus_minus_milliseconds=plus_minus)
    assert milliseconds - plus_minus <= span.least * 1000 + 1e-6
    assert milliseconds + plus_minus >= span.most * 1000 - 1e-6


def test_a_budget_that_the_span_straddles_is_inconclusive() -> None:
    assert judge_budget(Span(1, 2), 2) is Judgement.PASSED
    assert judge_budget(Span(1, 2), 1.5) is Judgement.INCONCLUSIVE
    assert judge_budget(Span(1, 2), 1) is Judgement.INCONCLUSIVE
    assert judge_budget(Span(1.001, 2), 1) is Judgement.FAILED


class TestFigures:
    MARKS: ClassVar[dict[Mark, Interval]] = {
        Mark.PLANNED: between(0, 0),
        Mark.ACTIVE: between(900, 1000),
        Mark.FIRST_SYMPTOM: between(1100, 1300),
        Mark.CLEARED: between(5000, 5000),
        Mark.RECOVERED: between(6000, 6400),
    }

    def test_each_is_the_time_between_two_marks(self) -> None:
        told = figures(self.MARKS)
        assert told.activation == Figure(milliseconds=950, plus_minus_milliseconds=50)
        assert told.detection == Figure(milliseconds=250, plus_minus_milliseconds=150)
        assert told.detected_by == "Probe"
        assert told.outage == Figure(milliseconds=5000, plus_minus_milliseconds=300)
        assert told.recovery == Figure(milliseconds=1200, plus_minus_milliseconds=200)
        assert not told.recovered_under_fault

    def test_the_systems_own_signal_is_its_detection(self) -> None:
        told = figures({**self.MARKS, Mark.DETECTED: between(2000, 2000)})
        assert told.detected_by == "System"
        assert told.detection == Figure(milliseconds=1050, plus_minus_milliseconds=50)

    def test_without_both_marks_there_is_none(self) -> None:
        told = figures({Mark.ACTIVE: between(0, 0)})
        assert (told.detection, told.detected_by, told.outage, told.recovery) == (None, None, None, None)

    def test_recovery_under_the_fault_is_one_that_came_surely_before_it_was_cleared(self) -> None:
        assert figures({**self.MARKS, Mark.RECOVERED: between(2000, 2100)}).recovered_under_fault
        assert not figures({**self.MARKS, Mark.RECOVERED: between(4900, 5100)}).recovered_under_fault

    def test_who_never_failed_did_not_recover_under_the_fault(self) -> None:
        marks: dict[Mark, Interval] = {k: v for k, v in self.MARKS.items() if k is not Mark.FIRST_SYMPTOM}
        assert not figures({**marks, Mark.RECOVERED: between(1000, 1000)}).recovered_under_fault


def test_histories_of_two_boots_are_compared_by_utc() -> None:
    told = History.from_json(history("HHHHH").to_json())
    elsewhere = Instant("other", 7, at(900).utc)
    for n in range(5):
        start = elsewhere.plus(n / 10)
        told.add(Sample(start, start.plus(0.01), n > 0, "down"))
    interval = first_symptom(told, at(0))
    assert interval is not None
    assert interval.width == pytest.approx(0.51, abs=0.001)
    assert has_gap(told, interval)
