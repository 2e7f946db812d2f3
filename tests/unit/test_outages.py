"""Outages that nobody ordered: from samples to a record in which every millisecond is accounted for."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest

from bounceback.api.check import RecoveryCheckSpec
from bounceback.api.check_status import ContinuousStatus, Watched
from bounceback.engine.outages import Injected, begun, follow, probe_digests, taken_up
from bounceback.engine.reading import Seen
from bounceback.engine.samples import History, Sample
from bounceback.engine.telling import happenings, news_of
from bounceback.types.outcome import Judgement, Mark
from tests.unit.engine_values import at

STABLE = 3


def spec(*names: str, signals: Sequence[str] = (), **more: Any) -> RecoveryCheckSpec:
    def probe(name: str) -> dict[str, Any]:
        return {"name": name, "http": {"url": f"http://{name}/"}, "periodMilliseconds": 1000}

    return RecoveryCheckSpec.model_validate(
        {
            "mode": "Continuous",
            "probes": [probe(name) for name in names or ("home",)],
            "detection": [probe(name) for name in signals],
            "recovered": {"stableSeconds": STABLE},
            **more,
        }
    )


class System:
    """Probes that are sampled once a second and answered at once: H healthy, F failing, anything else: nobody looks."""

    def __init__(self, asked: RecoveryCheckSpec) -> None:
        self.spec = asked
        names = [probe.name for _, _, probe in asked.sections()]
        self.histories = {name: History(1.0, 1.0) for name in names}
        self.record: ContinuousStatus | None = None
        self.problems: list[str] = []
        self.injected: list[Injected] = []
        self.second = 0
        self.told: list[str] = []

    def seen(self) -> Seen:
        probes = {probe.name: self.histories[probe.name] for probe in self.spec.probes}
        return Seen("web", self.spec, probes, {s.name: self.histories[s.name] for s in self.spec.detection}, {})

    def lives(self, *looks: str, every: int = 1) -> ContinuousStatus:
        """One string for each probe, and then for each signal; the record is read every so many seconds."""
        for states in zip(*looks, strict=True):
            for name, state in zip(self.histories, states, strict=True):
                if state in "HF":
                    start = at(self.second)
                    self.histories[name].add(Sample(start, start.plus(0.1), state == "H", "refused"))
            self.second += 1
            if self.second % every == 0:
                self.look()
        assert self.record is not None
        return self.record

    def look(self) -> None:
        now = at(self.second - 0.5)
        record = self.record or begun(self.spec, self.seen(), now if self.problems else None)
        if record is not None:
            after = follow(self.spec, record, self.seen(), self.problems, self.injected, now)
            self.told += [each.reason for each in happenings(self.record, after)]
            self.record = after

    def restarts(self, asleep: int, asked: RecoveryCheckSpec | None = None) -> None:
        """What was written down is all that is left."""
        assert self.record is not None
        stored = {f"web/probes/{name}": history.to_json() for name, history in self.histories.items()}
        written = self.record.model_copy(update={"histories": stored})
        written = ContinuousStatus.model_validate(written.to_json())
        self.second += asleep
        self.spec = asked or self.spec
        self.record = taken_up(self.spec, written, at(self.second))
        names = [probe.name for _, _, probe in self.spec.sections()]
        kept = self.record.histories
        self.histories = {
            name: History.from_json(kept[key]) if (key := f"web/probes/{name}") in kept else History(1.0, 1.0)
            for name in names
        }


def marks(record: ContinuousStatus, number: int = 0) -> dict[Mark, tuple[float, float]]:
    """In seconds."""
    zero = at(0)
    return {
        m.mark: (round(m.interval().earliest.since(zero), 1), round(m.interval().latest.since(zero), 1))
        for m in record.outages[number].marks
    }


def test_an_outage_lies_between_samples_and_is_counted_once_it_is_over() -> None:
    system = System(spec())
    record = system.lives("HHHHHFFFFFHHHHHH")
    assert marks(record) == {Mark.FIRST_SYMPTOM: (4, 5.1), Mark.RECOVERED: (9, 10.1)}
    (outage,) = record.outages
    assert outage.lasted is not None
    assert (outage.lasted.milliseconds, outage.lasted.plus_minus_milliseconds) == (5000, 1100)
    assert (record.state, record.outage) == (Watched.UP, None)
    assert (record.totals.outages, record.totals.ended, record.totals.by_experiments) == (1, 1, 0)
    assert system.told == ["OutageBegan", "OutageEnded"]


def test_what_lasts_is_down_and_goes_on_counting() -> None:
    record = System(spec()).lives("HHHHHFFFFF")
    assert record.state is Watched.DOWN
    assert record.outage is not None
    assert record.outage.symptom == "home: refused"
    assert record.message.startswith("outage 1 since ")
    assert record.message.endswith(": home: refused; failing now: home")
    assert record.totals.outages == 1
    assert record.window is not None
    assert record.window.down_milliseconds == 4400  # from 5.1 to 9.5
    assert (record.window.up_milliseconds, record.window.uncertain_milliseconds) == (4000, 1100)
    assert record.window.availability_percent == "47.895 ±5.79"


def test_flapping_is_one_outage_until_it_is_stable() -> None:
    record = System(spec()).lives("HHHHFHHFHFHHFFHHHHHH")
    assert record.totals.outages == 1
    assert marks(record) == {Mark.FIRST_SYMPTOM: (3, 4.1), Mark.RECOVERED: (13, 14.1)}


def test_two_that_are_apart_are_two_however_rarely_the_record_is_read() -> None:
    states = "HHHHFFHHHHHHFFFHHHHHHH"
    often = System(spec()).lives(states)
    assert often.totals.outages == 2
    assert [outage.number for outage in often.outages] == [2, 1]
    assert often.totals.longest_number == 2


def test_the_bound_drops_outages_and_no_total() -> None:
    system = System(spec(continuous={"outagesKept": 5}))
    record = system.lives("HHHHFFHHHH" * 12 + "H")
    assert [outage.number for outage in record.outages] == [12, 11, 10, 9, 8]
    assert (record.totals.outages, record.totals.ended) == (12, 12)
    assert record.totals.lasted_milliseconds == sum(o.lasted.milliseconds for o in record.outages if o.lasted) / 5 * 12


def test_a_system_that_was_never_healthy_is_unknown_and_not_down() -> None:
    system = System(spec())
    record = system.lives("FFFFFFFF")
    assert (record.state, record.reason, record.totals.outages) == (Watched.UNKNOWN, "NeverHealthy", 0)
    assert record.window is not None
    assert (record.window.known, record.window.unknown_milliseconds) == (0, 7500)
    assert record.availability is None
    record = system.lives("HHHHFFHHHH")
    assert record.totals.outages == 1
    assert record.totals.unknown_milliseconds == 8000


def test_a_watch_that_first_saw_it_failing_and_healthy_at_the_next_event_saw_no_outage() -> None:
    """Of objects: what an event tells may have come at any time since the read before."""
    asked = spec()
    history = History(5.0, 10.0, ordered=True)
    for start, end, healthy in ((0, 0.005, False), (0, 0.6, True), (1, 1.1, True), (2, 2.1, True), (8, 8.1, True)):
        history.add(Sample(at(start), at(end), healthy, "not yet"))
    seen = Seen("web", asked, {"home": history}, {}, {})
    first = begun(asked, seen, None)
    assert first is not None
    record = follow(asked, first, seen, [], [], at(8.5))
    assert (record.totals.outages, record.state) == (0, Watched.UP)


def test_a_probe_that_was_never_healthy_hides_no_outage_of_another() -> None:
    system = System(spec("home", "wrong"))
    assert system.lives("HHHH", "FFFF").reason == "NeverHealthy"
    record = system.lives("FFFF", "FFFF")
    assert (record.state, record.totals.outages) == (Watched.DOWN, 1)
    assert system.lives("HHHHH", "FFFFF").totals.ended == 1


def test_a_probe_that_cannot_look_is_unknown_and_not_down() -> None:
    system = System(spec())
    system.lives("HHHHH")
    system.problems = ["RecoveryCheck web: spec.probes[0].kubernetes: the service account may not list pods"]
    record = system.lives("......")
    assert (record.state, record.reason, record.totals.outages) == (Watched.UNKNOWN, "CannotLook", 0)
    assert "spec.probes[0].kubernetes" in record.message
    system.problems = []
    record = system.lives("HHHHH")
    assert (record.state, record.totals.outages) == (Watched.UP, 0)
    assert record.window is not None
    assert record.window.unknown_milliseconds == 7000  # from the last answer to the first one after
    assert record.window.down_milliseconds == 0
    assert record.availability == "100%"


def test_a_probe_that_never_could_look_is_unknown() -> None:
    system = System(spec())
    system.problems = ["RecoveryCheck web: spec.probes[0].kubernetes: the service account may not list pods"]
    record = system.lives("...")
    system.problems = []
    system.look()
    assert system.record is not None
    assert (record.reason, system.record.state, system.record.reason) == ("CannotLook", "Unknown", "NobodyLooks")


def test_silence_is_unknown_too() -> None:
    system = System(spec())
    record = system.lives("HHHHH......")
    assert (record.state, record.reason) == (Watched.UNKNOWN, "NobodyLooks")


def test_one_probe_that_fails_is_enough_though_another_cannot_look() -> None:
    record = System(spec("home", "store")).lives("HHHHHFFFFFFFF", "HHHHH........")
    assert record.state is Watched.DOWN
    assert record.window is not None
    assert record.window.down_milliseconds > 6000


def test_it_says_what_fails_now_whatever_was_first() -> None:
    system = System(spec("home", "store", "cache"))
    system.lives("HHHHHFFFFF", "HHHHHHHFFF", "HHHHHHHHHH")
    assert system.record is not None
    assert system.record.message.endswith(": home: refused; failing now: home, store")
    system.lives("HHHHH", "FFFFF", "HHHHH")
    assert system.record.message.endswith(": home: refused; failing now: store")
    system.lives("H", "H", "H")
    assert system.record.state is Watched.DOWN
    assert system.record.message.endswith("; failing now: nothing")


def test_the_outage_of_several_probes_ends_with_the_last_of_them() -> None:
    record = System(spec("home", "store")).lives("HHHHFFFHHHHHHHH", "HHHHHFFFFFHHHHH")
    assert marks(record) == {Mark.FIRST_SYMPTOM: (3, 4.1), Mark.RECOVERED: (9, 10.1)}


def test_a_restart_widens_and_loses_no_outage_that_was_written() -> None:
    system = System(spec())
    system.lives("HHHHHFFFHHHHHHFFF")
    system.restarts(asleep=10)
    record = system.lives("HHHHH")
    assert record.totals.outages == 2
    assert marks(record) == {Mark.FIRST_SYMPTOM: (13, 14.1), Mark.RECOVERED: (16, 27.1)}
    assert record.outages[0].unknown_milliseconds == 10_900  # from the end of the last answer
    assert record.outages[1].lasted is not None


def test_what_went_down_while_nobody_looked_began_in_the_gap() -> None:
    system = System(spec())
    system.lives("HHHHHH")
    system.restarts(asleep=10)
    record = system.lives("FFFHHHHH")
    assert marks(record)[Mark.FIRST_SYMPTOM] == (5, 16.1)


def test_a_restart_in_good_times_is_unknown_and_no_outage() -> None:
    system = System(spec())
    system.lives("HHHHHH")
    system.restarts(asleep=10)
    system.look()
    assert system.record is not None
    assert system.record.reason == "NobodyLooks"
    record = system.lives("HHHHHHHH")
    assert (record.state, record.totals.outages) == (Watched.UP, 0)
    assert record.window is not None
    assert record.window.unknown_milliseconds == 11_000


def test_an_outage_goes_on_over_a_change_of_the_probe_that_failed() -> None:
    system = System(spec("home"))
    system.lives("HHHHHFFF")
    other = spec("home", probes=[{"name": "home", "tcp": {"host": "web", "port": 80}, "periodMilliseconds": 1000}])
    assert probe_digests(other) != probe_digests(spec("home"))
    system.restarts(asleep=2, asked=other)
    assert system.record is not None
    assert system.record.histories == {}
    record = system.lives("FFF")
    assert record.outage is not None
    assert record.totals.outages == 1
    assert record.outage.check_changed
    record = system.lives("HHHHH")
    assert (record.totals.outages, record.totals.ended, record.state) == (1, 1, Watched.UP)
    assert marks(record)[Mark.RECOVERED] == (12, 13.1)  # the last failure that the new probe saw


def test_the_end_of_an_outage_whose_probe_was_taken_away_lies_before_the_first_look_of_the_others() -> None:
    system = System(spec("home", "store"))
    system.lives("HHHHHFFF", "HHHHHHHH")
    system.restarts(asleep=2, asked=spec("store"))
    record = system.lives("HHHHH")
    assert marks(record)[Mark.RECOVERED] == (7, 10.1)
    assert record.outages[0].check_changed


def test_a_change_beside_the_probes_is_no_change() -> None:
    system = System(spec())
    system.lives("HHHHHFF")
    system.restarts(asleep=0, asked=spec(budgets={"outageSeconds": 60}))
    record = system.lives("FHHHHH")
    assert not record.outages[0].check_changed
    assert record.outages[0].budgets is Judgement.PASSED


def test_the_systems_own_signal_is_detection() -> None:
    record = System(spec("home", signals=["alert"])).lives("HHHHFFFFFHHHHH", "FFFFFFHHHHFFFF")
    assert marks(record)[Mark.DETECTED] == (5, 6.1)
    assert record.outages[0].detection is not None
    assert record.outages[0].detection.milliseconds == 2000
    assert (record.totals.detected, record.totals.detection_milliseconds) == (1, 2000)


def test_a_signal_that_held_long_before_says_nothing() -> None:
    record = System(spec("home", signals=["alert"])).lives("H" * 20 + "FFFHHHHH", "FH" + "H" * 26)
    assert record.outages[0].detection is None
    assert record.totals.detected == 0


@pytest.mark.parametrize(
    ("seconds", "judgement"), [(20, Judgement.PASSED), (5, Judgement.INCONCLUSIVE), (2, Judgement.FAILED)]
)
def test_budgets_are_held_against_the_interval(seconds: int, judgement: Judgement) -> None:
    record = System(spec(budgets={"outageSeconds": seconds})).lives("HHHHHFFFFFHHHHHH")
    assert record.outages[0].budgets is judgement


def test_what_nobody_noticed_in_time_is_beyond_the_budget() -> None:
    asked = spec("home", signals=["alert"], budgets={"detectSeconds": 2})
    record = System(asked).lives("HHHHFFFFFFHHHHHH", "FFFFFFFFFFFFFFFF")
    assert record.outages[0].budgets is Judgement.FAILED


@pytest.mark.parametrize(
    ("since", "until", "names"),
    [
        (2, None, ["web-slow"]),
        (2, 4.5, ["web-slow"]),
        (4.9, None, ["web-slow"]),  # it may have begun after that
        (5.5, None, []),  # it had begun by then
        (1, 3.5, []),
    ],
)
def test_an_experiment_that_was_under_way_as_it_began_is_named(
    since: float, until: float | None, names: list[str]
) -> None:
    system = System(spec())
    system.injected = [Injected("web-slow", at(since).utc, None if until is None else at(until).utc)]
    record = system.lives("HHHHHFFFHHHHH")
    assert record.outages[0].experiments == names
    assert record.totals.by_experiments == len(names)


def test_every_millisecond_is_accounted_for_whatever_happens() -> None:
    dice = random.Random(7)
    for _ in range(12):
        system = System(spec("home", "store"))
        for _ in range(4):
            looks = ["".join(dice.choice("HF.") * dice.randint(1, 12) for _ in range(4)) for _ in range(2)]
            least = min(map(len, looks))
            if system.record is not None and dice.random() < 0.3:
                system.restarts(asleep=dice.randint(0, 20))
            system.lives(*(look[:least] for look in looks), every=dice.randint(1, 3)) if least > 3 else None
            if system.record is None:
                continue
            record = system.record
            counted = record.until.instant().since(record.since.instant()) * 1000
            assert abs(record.totals.whole - counted) <= 1
            assert sum(each.whole for each in record.slices) == record.totals.whole
            assert record.totals.outages == record.totals.ended + (record.outage is not None)
            assert all(o.lasted is not None and o.lasted.milliseconds >= 0 for o in record.outages)
            assert record.window is not None
            assert abs(record.window.whole - at(system.second - 0.5).since(record.since.instant()) * 1000) <= 3000


def test_the_window_moves_on_and_totals_stay() -> None:
    system = System(spec(continuous={"windowHours": 1}))
    system.lives("HHHHFFFHHHHHH")
    record = system.lives("H" * 3900, every=60)
    assert record.window is not None
    assert (record.window.outages, record.window.down_milliseconds, record.availability) == (0, 0, "100%")
    assert record.totals.outages == 1
    assert record.totals.down_milliseconds > 0
    assert len(record.slices) <= 25


def test_a_history_that_is_forgotten_tells_the_same_of_what_comes() -> None:
    kept, forgetful = System(spec()), System(spec())
    for states in ("HHHHFFHHHHHHHH", "HHH....HHHHHHHHH", "HHFFFHHHHHH", "HFHHHHHH"):
        told, same = kept.lives(states), forgetful.lives(states)
        assert told == same
        if same.outage is None:
            forgetful.histories["home"].forget(same.until.instant())
    assert len(forgetful.histories["home"].runs) < len(kept.histories["home"].runs)
    assert not forgetful.histories["home"].gaps


def test_quiet_times_are_no_news() -> None:
    system = System(spec())
    before = system.lives("HHHH")
    after = system.lives("HHHH")
    assert before != after
    assert news_of(before) == news_of(after)
    assert news_of(system.lives("F")) != news_of(after)


def test_the_record_is_the_same_once_it_was_written_down() -> None:
    system = System(spec("home", signals=["alert"]))
    record = system.lives("HHHHFFFFHHHHHHFF", "FFFFFHHHHHFFFFFF")
    assert ContinuousStatus.model_validate(record.to_json()) == record
