"""Faults that want the same packets at the same time."""

from __future__ import annotations

from typing import Any

import pytest

from bounceback.api.experiment import FaultEntry
from bounceback.engine.overlap import overlapping
from bounceback.engine.planning import Chosen
from bounceback.types.outcome import VehicleKind
from bounceback.types.plan import Flow, Rung
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
