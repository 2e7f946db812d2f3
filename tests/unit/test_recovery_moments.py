"""Events and lines as states: a moment each, or the quiet after them; and what is new in a log by its stamps."""

from __future__ import annotations

import pytest

from bounceback.api.check import RecoveryCheckSpec
from bounceback.engine.reading import Seen, first_holding, read
from bounceback.engine.samples import History, Sample
from bounceback.recovery.judging import nothing_said
from bounceback.recovery.log import Place, newer, next_second, sortable
from bounceback.recovery.moments import Moments
from bounceback.types.instants import Interval
from tests.unit.engine_values import at

LINE = {"line": "panic: gone"}


def moments(absent_seconds: int | None) -> tuple[Moments, History]:
    history = History(5.0, 1.0, ordered=True)
    return Moments(history, absent_seconds, "no such line", nothing_said, lambda: None), history


def test_each_find_is_a_moment_of_its_own() -> None:
    told, history = moments(None)
    told.record(at(0), at(0), at(0.1), [])
    told.record(at(0), at(1), at(1.1), [LINE])
    told.record(at(1), at(2), at(2.1), [])
    told.record(at(2), at(3), at(3.1), [LINE, LINE])
    assert [run.healthy for run in history.runs] == [False, True, False, True, False]
    assert first_holding(history, at(0)) == Interval(at(0), at(1.1))
    assert first_holding(history, at(2)) == Interval(at(2), at(3.1))


def test_a_find_before_the_fault_does_not_hide_the_one_after_it() -> None:
    told, history = moments(None)
    told.record(at(0), at(1), at(1.1), [LINE])
    told.record(at(1), at(2), at(2.1), [LINE])
    assert first_holding(history, at(1.5)) == Interval(at(1), at(2.1))


def test_quiet_is_healthy_and_a_find_is_not_for_as_long_as_asked() -> None:
    told, history = moments(3)
    for second in range(8):
        told.record(at(max(0, second - 1)), at(second), at(second + 0.1), [LINE] if second == 2 else [])
    assert [(run.healthy, run.count) for run in history.runs] == [(True, 2), (False, 3), (True, 3)]
    assert history.messages == ["panic: gone"]


def test_nobody_who_could_say_anything_is_no_quiet() -> None:
    told, history = moments(3)
    told.missing(at(0), at(0.1), "pods app=web: there is none")
    assert history.latest_failure == "pods app=web: there is none"


@pytest.mark.parametrize(
    ("newest", "new"),
    [
        ("", ["one", "two", "three"]),
        ("2026-01-01T00:00:00.1Z", ["two", "three"]),
        ("2026-01-01T00:00:00.100000001Z", ["three"]),
        ("2026-01-01T00:00:01Z", []),
    ],
)
def test_stamps_say_what_is_new(newest: str, new: list[str]) -> None:
    text = (
        "2026-01-01T00:00:00.1Z one\n2026-01-01T00:00:00.100000001Z two\n2026-01-01T00:00:01Z three\n"
        "2026-01-01T00:00:01.5Z cut off by the lim"
    )
    place = Place(0, newest)
    assert newer(text, place, previous=False) == new
    assert place.newest == (newest if not new else "2026-01-01T00:00:01Z")


def log(*seconds: int) -> str:
    return "".join(f"2026-01-01T00:00:{second:02}.5Z {second}\n" for second in seconds)


def test_a_container_that_died_is_read_to_its_end_though_the_one_after_it_was_read_first() -> None:
    place = Place(0)
    assert newer(log(1, 2), place, previous=False) == ["1", "2"]
    assert newer(log(2, 3), place, previous=False) == ["3"]
    assert newer(log(6, 7), place, previous=False) == ["6", "7"], "another container, of which the status knows nothing"
    assert newer(log(7, 8), place, previous=False) == ["8"]
    assert place.since.startswith("2026-01-01T00:00:03.5Z")
    assert newer(log(3, 4, 5), place, previous=True) == ["4", "5"]
    place.known = place.first
    assert newer(log(8, 9), place, previous=False) == ["9"]
    assert place.since.startswith("2026-01-01T00:00:09.5Z"), "all before was read"


def test_stamps_are_compared_by_all_nine_digits_wherever_the_node_is() -> None:
    assert sortable("2026-01-01T00:00:00.09Z") < sortable("2026-01-01T00:00:00.1Z")
    assert sortable("2026-01-01T00:00:00+02:00") < sortable("2026-01-01T00:00:00.000000001+02:00")
    assert sortable("") < sortable("2026-01-01T00:00:00Z")
    assert next_second("2026-01-01T00:00:59.999Z") == "2026-01-01T00:01:00Z"


SIGNAL = {"name": "told", "log": {"pods": {"name": "web"}, "contains": "x"}, "category": "line == 'store'"}


@pytest.mark.parametrize(
    ("held", "said", "rightly", "wrongly"),
    [
        ([(0, False), (2, True)], [(2, True)], True, ()),
        ([(0, False), (2, True)], [(2, False)], False, ("web/told: it said disk",)),
        ([(0, False), (2, True)], [(2, False), (3, True)], True, ()),
        ([(0, False), (2, False)], [], False, ()),
        ([(0, True), (2, True)], [(0, True), (2, True)], False, ()),
    ],
    ids=["rightly", "wrongly", "rightly in the end", "never held", "held before the fault"],
)
def test_what_a_signal_says_counts_once_it_came_to_hold(
    held: list[tuple[int, bool]], said: list[tuple[int, bool]], rightly: bool, wrongly: tuple[str, ...]
) -> None:
    def history(samples: list[tuple[int, bool]]) -> History:
        made = History(5.0, 1.0, ordered=True)
        for second, healthy in samples:
            made.add(Sample(at(second), at(second + 0.1), healthy, "" if healthy else "it said disk"))
        return made

    spec = RecoveryCheckSpec.model_validate(
        {"probes": [{"name": "x", "http": {"url": "http://web/"}}], "detection": [SIGNAL]}
    )
    seen = Seen("web", spec, {}, {"told": history(held)}, {}, {"told": history(said)})
    health = read([seen], (), at(1), None, None, at(5))
    assert health.named_rightly is rightly
    assert health.named_wrongly == wrongly
    undeclared = read([Seen("web", spec, {}, {"told": history(held)}, {})], (), at(1), None, None, at(5))
    assert undeclared.named_rightly is None
