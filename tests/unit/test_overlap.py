"""Faults that want the same packets at the same time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bounceback.api.experiment import FaultEntry, FaultExperimentSpec
from bounceback.cli.foresight import foresee_sums
from bounceback.cli.outlook import Foreseen, Outlook
from bounceback.engine.overlap import BY_THE_RELAY, adding_up, delays_that_meet, overlapping
from bounceback.engine.planning import Chosen
from bounceback.types.outcome import VehicleKind
from bounceback.types.plan import Flow, Rung
from tests.spec_case import EXPERIMENT
from tests.unit.engine_values import pod

DELAY = {"networkDelay": {"delayMilliseconds": 100}}
RATE = {"networkBandwidth": {"kilobitsPerSecond": 100}}
CUT: dict[str, Any] = {"networkPartition": {}}


def chosen(fault: dict[str, Any], rung: Rung = Rung.NETEM, *flows: Flow, on: str = "web-1", **timing: Any) -> Chosen:
    entry = FaultEntry.model_validate({"name": "it", "target": "web", **fault, **timing})
    return Chosen(entry, pod(on), VehicleKind.SIDECAR, "", rung, flows)


STORE, CACHE, ALL = Flow("10.1.0.1/32"), Flow("10.2.0.1/32"), Flow("10.0.0.0/8")
WEB, DB = Flow("10.1.0.1/32", "TCP", (80,)), Flow("10.1.0.1/32", "TCP", (5432,))
UDP = Flow("10.1.0.1/32", "UDP", (80,))
INGRESS = {"networkDelay": {"delayMilliseconds": 100, "direction": "Ingress"}}
BOTH = {"networkDelay": {"delayMilliseconds": 100, "direction": "Both"}}


@pytest.mark.parametrize(
    ("one", "other", "meet"),
    [
        (chosen(DELAY), chosen(DELAY), True),
        (chosen(DELAY, Rung.NETEM, STORE), chosen(RATE, Rung.TBF, STORE), True),
        (chosen(DELAY, Rung.NETEM, STORE), chosen(RATE, Rung.TBF), True),
        (chosen(DELAY, Rung.NETEM, STORE), chosen(RATE, Rung.TBF, ALL), True),
        (chosen(DELAY, Rung.NETEM, STORE), chosen(RATE, Rung.TBF, CACHE), False),
        (chosen(DELAY, Rung.NETEM, STORE), chosen(DELAY, Rung.NETEM, Flow("fd00::1/128")), False),
        (chosen(DELAY, Rung.NETEM, WEB), chosen(DELAY, Rung.NETEM, DB), False),
        (chosen(DELAY, Rung.NETEM, WEB), chosen(DELAY, Rung.NETEM, UDP), False),
        (chosen(DELAY, Rung.NETEM, WEB), chosen(DELAY, Rung.NETEM, STORE), True),
        (chosen(DELAY), chosen(INGRESS), False),
        (chosen(DELAY), chosen(BOTH), True),
        (chosen(DELAY), chosen(DELAY, on="web-2"), False),
        (chosen(DELAY, durationSeconds=10), chosen(DELAY, startAfterSeconds=10), False),
        (chosen(DELAY, durationSeconds=11), chosen(DELAY, startAfterSeconds=10), True),
        (chosen(DELAY), chosen(CUT, Rung.NFT), False),
        (chosen(DELAY, Rung.RELAY), chosen(DELAY, Rung.RELAY), False),
    ],
)
def test_only_qdiscs_with_the_same_packets_at_the_same_time_cannot_be_together(
    one: Chosen, other: Chosen, meet: bool
) -> None:
    assert (overlapping([one, other]) is not None) is meet
    assert (overlapping([other, one]) is not None) is meet


SLOWER = {"networkDelay": {"delayMilliseconds": 200}}


@pytest.mark.parametrize(
    ("one", "other", "told"),
    [
        (chosen(DELAY, Rung.RELAY, STORE), chosen(SLOWER, Rung.RELAY), True),
        (chosen(DELAY, Rung.NETEM, STORE), chosen(SLOWER, Rung.RELAY, ALL), True),
        (chosen(DELAY, Rung.RELAY, STORE), chosen(SLOWER, Rung.RELAY, CACHE), False),
        (chosen(DELAY, Rung.RELAY), chosen(INGRESS, Rung.RELAY), False),
        (chosen(DELAY, Rung.RELAY), chosen(SLOWER, Rung.RELAY, on="web-2"), False),
        (chosen(DELAY, Rung.RELAY), chosen(CUT, Rung.NFT), False),
        (chosen(DELAY, Rung.RELAY, durationSeconds=10), chosen(SLOWER, Rung.RELAY, startAfterSeconds=10), False),
    ],
)
def test_delays_that_a_packet_gets_one_after_the_other_are_told(one: Chosen, other: Chosen, told: bool) -> None:
    other = replace(other, fault=other.fault.model_copy(update={"name": "more"}))
    words = "it and more delay the same packets of web-1: 100 ms and 200 ms add up to 300 ms"
    assert list(adding_up([one, other])) == [words] * told


CIDR, PART, ELSEWHERE = ({"cidr": cidr} for cidr in ("10.0.0.0/8", "10.1.0.0/16", "192.168.0.0/16"))
SERVICE, SQL = {"service": {"name": "store"}}, {"ports": [{"port": 5432}]}


@pytest.mark.parametrize(
    ("peers", "others", "meet"),
    [
        ([], [SERVICE], True),
        ([CIDR], [PART], True),
        ([CIDR], [ELSEWHERE], False),
        ([SERVICE], [ELSEWHERE, SERVICE], True),
        ([SERVICE | SQL], [SERVICE], True),
        ([SERVICE | SQL], [SERVICE | {"ports": [{"port": 80}]}], False),
        ([SERVICE], [{"service": {"name": "cache"}}], False),
    ],
)
def test_a_plan_says_of_a_spec_which_delays_add_up(peers: list[Any], others: list[Any], meet: bool) -> None:
    faults = [
        {"name": name, "target": "web", "networkDelay": {"delayMilliseconds": time, "peers": each}}
        for name, time, each in (("slow", 100, peers), ("slower", 200, others))
    ]
    spec = FaultExperimentSpec.model_validate({**EXPERIMENT, "faults": faults})
    words = "slow and slower delay the same packets of web-1: 100 ms and 200 ms add up to 300 ms"
    for rung, noted, refused in ((Rung.RELAY, words, ""), (Rung.NETEM, "", f"spec.faults[1]: {words}")):
        seen = [Foreseen("web-1", "node-1", "Sidecar", "", rung)]
        outlook = Outlook("shop", "slow", faults={"slow": seen, "slower": seen})
        foresee_sums(outlook, spec)
        assert outlook.notes == ([f"{noted} {BY_THE_RELAY}"] if meet and noted else [])
        assert outlook.refusals == ([f"{refused} {BY_THE_RELAY}"] if meet and refused else [])


def test_delays_that_another_fault_keeps_apart_do_not_add_up() -> None:
    """The second one begins when a fault that is no delay is over, and that one when the first is."""
    first = chosen(DELAY, Rung.NETEM)
    cut = chosen({**CUT, "name": "cut"}, Rung.NFT, startWhen={"cleared": "it"})
    last = chosen({**SLOWER, "name": "last"}, Rung.NETEM, startWhen={"cleared": "cut"})
    assert overlapping([first, cut, last]) is None
    assert list(adding_up([first, cut, last])) == []
    entries = [each.fault for each in (first, cut, last)]
    assert list(delays_that_meet(entries)) == []
    together = chosen({**SLOWER, "name": "last"}, Rung.NETEM, startWhen={"inForce": "cut"})
    assert list(delays_that_meet([first.fault, chosen({**CUT, "name": "cut"}).fault, together.fault]))


def test_what_delays_come_to_is_told_whole_however_many_pods_there_are() -> None:
    names = [f"web-{'x' * 40}-{number}" for number in range(100)]
    slower = {**SLOWER, "name": "more"}
    all_of_them = [chosen(each, Rung.RELAY, on=name) for name in names for each in (DELAY, slower)]
    assert list(adding_up(all_of_them)) == [
        "it and more delay the same packets of 100 pods: 100 ms and 200 ms add up to 300 ms"
    ]
