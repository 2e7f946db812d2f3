"""Faults on opens and reads: what is refused, what is asked of the kernel, and which realm a node is probed in."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest
from pydantic import ValidationError

from bounceback.api.experiment import FaultEntry, FaultTiming
from bounceback.drivers import Site
from bounceback.drivers.access import Answering
from bounceback.drivers.fanotify import OPEN, READ, Event
from bounceback.drivers.processes import Process
from bounceback.engine.planning import act_of, needs_guard, realm_of, rung_for
from bounceback.types.access import Access, Delays
from bounceback.types.choice import Choice
from bounceback.types.inside import Container, Who
from bounceback.types.plan import Direction, Feature, Order, Rung, act_from
from bounceback.types.realms import OF_FILES, Realm
from bounceback.vehicles.capabilities import cache_key
from bounceback.vehicles.node_pod import probe_pod


def entry(**fields: Any) -> FaultTiming:
    return FaultEntry.model_validate({"name": "slow", "target": "store", **fields})


DELAY = {"path": "/data", "delayMilliseconds": 200, "jitterMilliseconds": 50}
ERROR = {"path": "/data", "error": "EIO", "operations": ["Read"]}


def test_what_is_asked_for_is_what_the_agent_is_told() -> None:
    act = act_of(entry(ioDelay={**DELAY, "container": "app"}, probability=10), Rung.NODE)
    assert isinstance(act, Access)
    assert (act.delay_us, act.jitter_us, act.opens, act.reads, act.error) == (200_000, 50_000, True, True, "")
    assert (act.who, act.choice.probability, act.name) == (Who("app"), 0.1, "slow")
    act = act_of(entry(ioError=ERROR), Rung.NODE)
    assert isinstance(act, Access)
    assert (act.opens, act.reads, act.error, act.delay_us) == (False, True, "EIO", 0)
    assert act_from(asdict(act)) == act, "and survives its journey"
    assert not needs_guard(act, frozenset())


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"ioDelay": {**DELAY, "path": "data"}}, "ioDelay.path"),
        ({"ioDelay": {**DELAY, "jitterMilliseconds": 201}}, "jitterMilliseconds must not exceed delayMilliseconds"),
        ({"ioDelay": {**DELAY, "delayMilliseconds": 0}}, "ioDelay.delayMilliseconds"),
        ({"ioDelay": {**DELAY, "operations": ["Write"]}}, "ioDelay.operations"),
        ({"ioDelay": {**DELAY, "operations": []}}, "ioDelay.operations"),
        ({"ioError": {**ERROR, "error": "EACCES"}}, "ioError.error"),
        ({"ioError": {"path": "/data"}}, "ioError.error"),
        ({"ioError": ERROR, "vehicle": "Sidecar"}, "vehicle must be"),
    ],
)
def test_what_cannot_be_done_is_refused_with_its_field(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError) as refused:
        entry(**fields)
    assert told in str(refused.value)


def test_a_container_that_is_not_there_is_an_obstacle() -> None:
    fault = entry(ioDelay={**DELAY, "container": "db"}).fault
    obstacle = fault.obstacle([Container("app")])  # type: ignore[attr-defined]
    assert (obstacle.reason, obstacle.field) == ("NoContainer", ".container")


@pytest.mark.parametrize("path", ["/proc", "/sys/fs", "//proc/1/fd", "/data/../proc/self", "/sys/"])
def test_a_path_that_is_the_kernels_own_is_an_obstacle(path: str) -> None:
    obstacle = entry(ioError={**ERROR, "path": path}).fault.obstacle([Container("app")])  # type: ignore[attr-defined]
    assert (obstacle.reason, obstacle.field) == ("NotAVolume", ".path")


@pytest.mark.parametrize("path", ["/", "/process", "/data/proc", "/system/sys"])
def test_any_other_path_is_looked_at_on_the_node(path: str) -> None:
    assert entry(ioError={**ERROR, "path": path}).fault.obstacle([Container("app")]) is None  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("fields", "has", "rung"),
    [
        ({"ioDelay": DELAY}, {Feature.FANOTIFY}, Rung.NODE),
        ({"ioDelay": DELAY}, set(), None),
        ({"ioError": ERROR}, {Feature.FANOTIFY}, None),
        ({"ioError": ERROR}, OF_FILES, Rung.NODE),
        ({"ioError": {**ERROR, "error": "EPERM"}}, {Feature.FANOTIFY}, Rung.NODE),
    ],
)
def test_the_kernel_decides_what_can_be_done(fields: dict[str, Any], has: set[Feature], rung: Rung | None) -> None:
    found, missing = rung_for(entry(**fields), has)
    assert found is rung
    assert bool(missing) == (rung is None)
    assert missing in ("", "Node needs fanotify-perm", "Node needs fanotify-errno")


def test_only_who_needs_it_has_a_node_probed_and_with_one_right_only() -> None:
    delay = {"peers": [{"cidr": "10.0.0.0/8"}], "delayMilliseconds": 1}
    assert realm_of(entry(ioDelay=DELAY).fault) is Realm.FILES
    assert realm_of(entry(networkDelay=delay).fault) is Realm.NETWORK
    assert realm_of(entry(diskPressure={"path": "/data", "freeBytes": 0}).fault) is None
    pods = {realm: probe_pod("node-1", "boot", realm, "ns", "image", "Always") for realm in Realm}
    added = {r: p["spec"]["containers"][0]["securityContext"]["capabilities"]["add"] for r, p in pods.items()}
    assert added == {Realm.NETWORK: ["NET_ADMIN"], Realm.FILES: ["SYS_ADMIN"]}
    assert len({pod["metadata"]["name"] for pod in pods.values()}) == 2
    assert len({cache_key("node-1", realm) for realm in Realm}) == 2


def test_a_weaker_fault_waits_less_or_fails_more_seldom() -> None:
    weaker = Access(path="/", delay_us=1000, jitter_us=100).scaled(0.5)
    assert (weaker.delay_us, weaker.jitter_us, weaker.choice.probability) == (500, 50, 1.0)
    assert Access(path="/", error="EIO", choice=Choice(probability=0.5)).scaled(0.5).choice.probability == 0.25


def test_delays_are_spread_evenly_around_what_was_asked_and_by_the_seed() -> None:
    act = Access(path="/", delay_us=100_000, jitter_us=50_000)
    delays = Delays(7, "slow")
    found = [delays.next(act) for _ in range(2000)]
    assert min(found) >= 0.05 and max(found) <= 0.15
    assert abs(sum(found) / len(found) - 0.1) < 0.003
    again = Delays(7, "slow")
    assert [again.next(act) for _ in range(2000)] == found
    assert Delays(7, "slow").next(Access(path="/", delay_us=100_000)) == 0.1


class Asked:
    """Who waits, and in which order they are answered."""

    def __init__(self) -> None:
        self.answered: list[tuple[int, bool]] = []

    def allow(self, event: Event) -> None:
        self.answered.append((event.file, True))

    def deny(self, event: Event) -> None:
        self.answered.append((event.file, False))


def answering(act: Access, monkeypatch: pytest.MonkeyPatch) -> Answering:
    order = Order("i", "slow", "ns", "pod", "uid", act, Direction.BOTH, (), 0.0, 0.0, 0.0, 1.0)
    monkeypatch.setattr(Answering, "_is_meant", lambda self, event: event.process == 1)
    made = Answering(order, Site(None), Process(1, 1, "app", "app"), act)  # type: ignore[arg-type]
    made._most = 2
    return made


def test_others_are_let_through_and_the_oldest_goes_on_early_when_too_many_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made, group = answering(Access(path="/data", delay_us=60_000_000), monkeypatch), Asked()
    for file, process in ((10, 1), (11, 2), (12, 1), (13, 1)):
        made._decide(group, Event(file, process, OPEN))  # type: ignore[arg-type]
    assert group.answered == [(11, True), (10, True)]
    assert made._counts == {"opens": 3, "reads": 0, "early": 1}
    made._change(group, None)  # type: ignore[arg-type]
    assert group.answered[2:] == [(12, True), (13, True)], "nobody waits where nothing is in force"
    made._decide(group, Event(14, 1, READ))  # type: ignore[arg-type]
    assert group.answered[-1] == (14, True)
    assert made._counts["reads"] == 0


def test_of_what_is_denied_only_what_was_chosen_is(monkeypatch: pytest.MonkeyPatch) -> None:
    act = Access(path="/data", error="EIO", choice=Choice(nth=2, first_n=2), name="bad")
    made, group = answering(act, monkeypatch), Asked()
    for file in range(8):
        made._decide(group, Event(file, 1, READ))  # type: ignore[arg-type]
    assert [file for file, let in group.answered if not let] == [1, 3]
    assert made._counts["reads"] == 2
