"""What the probes say together: the system's own signals, and an error state that must hold meanwhile."""

from __future__ import annotations

import pytest

from bounceback.api.check import RecoveryCheckSpec
from bounceback.engine.reading import Seen, first_holding, held_once_reached, read
from bounceback.engine.samples import History, Sample
from bounceback.types.instants import Interval
from tests.unit.engine_values import at


def history(*states: bool) -> History:
    """One sample a second from 0 on, each answered at once."""
    made = History(1.0, 1.0, ordered=True)
    for second, healthy in enumerate(states):
        made.add(Sample(at(second), at(second + 0.1), healthy))
    return made


def test_a_signal_counts_from_when_it_began_to_hold() -> None:
    assert first_holding(history(False, False, True, True), at(1)) == Interval(at(1), at(2.1))


def test_a_signal_that_held_before_the_fault_says_nothing() -> None:
    assert first_holding(history(True, True, True), at(2)) is None


@pytest.mark.parametrize(
    ("states", "held"),
    [
        ((False, False, True, True, True), True),
        ((False, False, True, False, True), False),
        ((False, False, False, False, False), False),
    ],
    ids=["reached and held", "reached and left", "never reached"],
)
def test_the_error_state_is_reached_and_held(states: tuple[bool, ...], held: bool) -> None:
    assert held_once_reached(history(*states), at(1), None) is held


def test_it_may_end_once_the_first_target_is_free_again() -> None:
    left = history(False, False, True, True, False)
    assert held_once_reached(left, at(1), at(3.5))
    assert not held_once_reached(left, at(1), at(4.5))


def test_time_in_which_nobody_watched_the_error_state_is_told() -> None:
    broken = history(False, False, True, True)
    broken.add(Sample(at(20), at(20.1), True))
    spec = RecoveryCheckSpec.model_validate({"probes": [{"name": "home", "http": {"url": "http://web/"}}]})
    seen = Seen("web", spec, {}, {}, {"safe": broken})
    told = read([seen], (), at(1), Interval.at(at(21)), Interval.at(at(22)), at(25))
    assert told.error_state
    assert next((gap.earliest, gap.latest) for gap in told.error_state_gaps) == (at(3), at(20))


def strategies(signals: History, home: str = "Strategy") -> Seen:
    """A check with one signal of a strategy."""
    signal = {"name": "open", "tells": home, "http": {"url": "http://web/circuit"}}
    spec = {"probes": [{"name": "home", "http": {"url": "http://web/"}}], "detection": [signal]}
    return Seen("web", RecoveryCheckSpec.model_validate(spec), {}, {"open": signals}, {})


def test_a_strategy_that_shows_is_no_detection_and_nothing_is_missed() -> None:
    told = read([strategies(history(False, False, True, False))], (), at(1), None, None, at(4))
    assert (told.strategy_missed, told.strategy_unseen, told.detected) == ((), (), None)
    assert read([strategies(history(False, False, True), "Trouble")], (), at(1), None, None, at(3)).detected is not None


@pytest.mark.parametrize("states", [(False,) * 4, (True,) * 4], ids=["never", "all along"])
def test_a_strategy_that_does_not_come_to_show_is_missed(states: tuple[bool, ...]) -> None:
    told = read([strategies(history(*states))], (), at(1), None, None, at(4))
    assert len(told.strategy_missed) == 1 and told.strategy_missed[0].startswith("web/open: ")
    assert ("before the fault already" in told.strategy_missed[0]) is states[0]
    assert not told.strategy_unseen


def test_a_strategy_that_nobody_could_see_is_unknown_and_not_missed() -> None:
    broken = history(False, False, False)
    broken.add(Sample(at(20), at(20.1), False))
    for signals in (broken, history()):
        told = read([strategies(signals)], (), at(1), None, None, at(21))
        assert not told.strategy_missed and len(told.strategy_unseen) == 1


def test_before_the_fault_no_strategy_is_asked_for() -> None:
    told = read([strategies(history(False, False))], (), None, None, None, at(2))
    assert not told.strategy_missed and not told.strategy_unseen
