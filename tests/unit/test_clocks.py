"""Clocks that are stepped, and clocks of several machines: what is measured does not move with them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bounceback.api.status import FaultExperimentStatus, Moment
from bounceback.engine.advance import advance
from bounceback.engine.evidence import fold, fold_end, on_our_clock
from bounceback.engine.model import AgentEnd, AgentFate
from bounceback.engine.reading import first_holding
from bounceback.engine.samples import MOST_GAPS, History, Sample
from bounceback.engine.state import Seen, State
from bounceback.engine.timeline import figure, first_symptom, has_gap, recovered
from bounceback.types.instants import WALL_CLOCKS_AGREE, Instant, Interval, Span
from bounceback.types.outcome import InjectionState, Phase
from bounceback.types.told import Line, Told
from tests.unit.engine_values import at, experiment, injection

HOUR = 3600.0


def stepped(seconds: float, by: float = HOUR) -> Instant:
    """Our clocks then, after the wall clock was stepped."""
    return replace(at(seconds), utc=at(seconds).utc + by)


def on(boot: str, seconds: float, wrong: float = 0.0) -> Instant:
    """Another machine's clocks then: it has been up for much longer, and its wall clock may be wrong."""
    return Instant(boot, at(seconds).nanos + 77_000_000_000_000, at(seconds).utc + wrong)


@pytest.mark.parametrize("wrong", [0.0, 0.9, -0.9], ids=["right", "ahead", "behind"])
def test_what_two_machines_measured_is_as_wide_as_their_clocks_are_unsure(wrong: float) -> None:
    span = Span.between(Interval.at(at(1)), Interval.at(on("other", 5, wrong)))
    assert span.least <= 4 <= span.most
    assert span.most - span.least == pytest.approx(2 * WALL_CLOCKS_AGREE)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 100)), min_size=4, max_size=4), st.integers(-4000, 4000))
def test_no_figure_is_negative_however_wrong_another_machines_clock_is(
    moments: list[tuple[bool, int]], wrong: int
) -> None:
    """The first is the other's predecessor: what it saw was before."""
    read = [on("other", 200 + s, wrong) if moved else at(s) for moved, s in sorted(moments)]
    span = Span.between(Interval(read[0], read[1]), Interval(read[2], read[3]))
    assert 0 <= span.least <= span.most
    told = figure(span)
    assert told.milliseconds >= 0 and told.plus_minus_milliseconds >= 0


@pytest.mark.parametrize("by", [HOUR, -HOUR])
def test_a_moment_on_another_node_stays_where_it_was_when_our_wall_clock_is_stepped(by: float) -> None:
    before = injection(
        state=InjectionState.PLANNED,
        in_force_at=None,
        cleared_at=None,
        clock_offset_milliseconds=None,
        clock_against=at(0).boot,
        planned_utc=at(0).utc,
    )
    told = fold(before, Line(Told.IN_FORCE, on("node", 1, 5.0), before.name), at(1.2))
    calm = on_our_clock(told, told.in_force_at, at(2))
    assert calm is not None and calm.earliest.since(at(1)) <= 0 <= calm.latest.since(at(1))
    told = fold(told, Line(Told.CLEARED, on("node", 11, 5.0), before.name), stepped(11.1, by))
    for now in (at(12), stepped(12, by)):
        active = on_our_clock(told, told.in_force_at, now)
        cleared = on_our_clock(told, told.cleared_at, now)
        assert active is not None and cleared is not None
        assert active.earliest.since(at(1)) <= 0 <= active.latest.since(at(1))
        assert Span.between(active, cleared).most < 12, "and no wider than the way of a line"


def test_the_end_of_an_agent_that_was_lost_keeps_what_was_measured_of_its_nodes_clock() -> None:
    skewed: dict[str, Any] = {
        "clock_offset_milliseconds": 5000,
        "in_force_at": Moment.of(on("node", 1, 5.0)),
        "cleared_at": None,
    }
    lost = injection(state=InjectionState.ACTIVE, **skewed)
    ended = fold_end(lost, AgentEnd(AgentFate.KILLED), at(20))
    began = on_our_clock(ended, ended.in_force_at, at(21))
    assert began is not None and began.earliest.since(at(1)) <= 0 <= began.latest.since(at(1))
    assert on_our_clock(ended, ended.cleared_at, at(21)) == Interval.at(at(20))


@pytest.mark.parametrize("wrong", [0.0, HOUR, -0.9], ids=["right", "ahead", "behind"])
def test_an_operator_that_goes_on_elsewhere_leaves_a_gap_and_goes_on_looking(wrong: float) -> None:
    history = History(0.5, 1.0)
    for n in range(10):
        history.add(Sample(at(n * 0.5), at(n * 0.5 + 0.1), n < 8))
    history = History.from_json(history.to_json())
    for n in range(20, 60):
        history.add(Sample(on("other", n * 0.5, wrong), on("other", n * 0.5 + 0.1, wrong), True))
    assert [run.healthy for run in history.runs] == [True, False, True]
    assert history.runs[-1].after_gap and history.runs[-1].count == 40
    assert first_symptom(history, at(1)) == Interval(at(3.5), at(4.1))
    found = recovered(history, at(1), 5.0, on("other", 30, wrong))
    assert found == Interval(at(4.5), on("other", 10.1, wrong))


def test_gaps_keep_their_order_when_the_wall_clock_is_stepped() -> None:
    history = History(0.1, 0.1)
    for n in range(2 * MOST_GAPS):
        for now in (stepped(n * 10, -HOUR * n), stepped(n * 10 + 0.1, HOUR * n)):
            history.add(Sample(now, now.plus(0.01), True))
    gaps = history.gaps
    assert len(gaps) <= MOST_GAPS
    assert all(gap.width > 0 for gap in gaps)
    assert all(has_gap(history, Interval(at(n * 10 + 3), at(n * 10 + 4))) for n in range(2 * MOST_GAPS - 1))


def test_a_run_does_not_end_because_the_wall_clock_is_stepped() -> None:
    spec = experiment()
    state = State(FaultExperimentStatus(run_uid="run", started_at=Moment.of(at(0)), phase_since=Moment.of(at(0)),
                                        phase=Phase.STEADY, deadline_at=at(spec.deadline_seconds).utc))  # fmt: skip
    later = advance(spec, state, Seen(), stepped(10, 10 * HOUR))
    assert later.state.status.ending is None
    over = advance(spec, state, Seen(), stepped(spec.deadline_seconds + 1, -10 * HOUR))
    assert over.state.status.ending is not None and over.state.status.ending.reason == "DeadlineExceeded"


def test_a_signal_that_nobody_asked_before_the_fault_may_have_held_from_then_on() -> None:
    history = History(1.0, 1.0)
    history.add(Sample(at(5), at(5.2), True))
    assert first_holding(history, at(3)) == Interval(at(3), at(5.2))
    assert first_holding(history, at(5.1)) is None, "it held when the fault came, or before"
