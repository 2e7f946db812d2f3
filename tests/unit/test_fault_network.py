"""Faults on packets: which rungs can do what is asked for, and what the agent is told there."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from bounceback.drivers import netem, rate, spread
from bounceback.faults.base import NetworkFault, first_possible
from bounceback.faults.connection_reset import ConnectionReset
from bounceback.faults.connection_timeout import ConnectionTimeout
from bounceback.faults.network_bandwidth import NetworkBandwidth
from bounceback.faults.network_corrupt import NetworkCorrupt
from bounceback.faults.network_delay import Distribution, NetworkDelay
from bounceback.faults.network_duplicate import NetworkDuplicate
from bounceback.faults.network_loss import NetworkLoss
from bounceback.faults.network_partition import NetworkPartition
from bounceback.faults.network_reorder import NetworkReorder
from bounceback.types.choice import ALWAYS, Choice
from bounceback.types.plan import Direction, Drop, Feature, Netem, Packets, Rate, Reset, Rung

COUNTED = Choice(nth=3)
BY_DICE = Choice(probability=0.5)
BURSTS = {"calmPackets": 200, "burstPackets": 8}


def made(kind: type[NetworkFault], **fields: Any) -> NetworkFault:
    return kind.model_validate(fields)


DELAY = made(NetworkDelay, delayMilliseconds=200)
LOSS = made(NetworkLoss, lossPercent=10)
SLOW = made(NetworkBandwidth, kilobitsPerSecond=1000)
CUT = made(NetworkPartition)


@pytest.mark.parametrize(
    ("fault", "choice", "rungs"),
    [
        (DELAY, ALWAYS, "Netem Relay"),
        (DELAY, BY_DICE, "Netem Relay"),
        (DELAY, COUNTED, "Relay"),
        (made(NetworkDelay, delayMilliseconds=20, jitterMilliseconds=5, correlationPercent=50), ALWAYS, "Relay"),
        (made(NetworkDelay, delayMilliseconds=20_000), ALWAYS, "Netem Relay"),
        (made(NetworkDelay, delayMilliseconds=20_000), BY_DICE, "Relay"),
        (LOSS, ALWAYS, "Netem Nft Relay"),
        (LOSS, COUNTED, "Nft Relay"),
        (made(NetworkLoss, lossPercent=10, correlationPercent=5), ALWAYS, "Netem Relay"),
        (made(NetworkLoss, gilbertElliott=BURSTS), ALWAYS, "Netem Relay"),
        (made(NetworkLoss, gilbertElliott=BURSTS), Choice(first_n=5), "Relay"),
        (made(NetworkDuplicate, duplicatePercent=1), ALWAYS, "Netem"),
        (made(NetworkDuplicate, duplicatePercent=1), COUNTED, ""),
        (made(NetworkCorrupt, corruptPercent=1), COUNTED, "Relay"),
        (made(NetworkReorder, reorderPercent=25), ALWAYS, "Netem"),
        (SLOW, ALWAYS, "Tbf Relay"),
        (SLOW, BY_DICE, "Relay"),
        (CUT, COUNTED, "Nft Relay"),
        (made(ConnectionTimeout), ALWAYS, "Nft Relay"),
        (made(ConnectionTimeout, connections="New"), ALWAYS, "Nft Relay"),
        (made(ConnectionTimeout, discard=True), ALWAYS, "Relay"),
        (made(ConnectionTimeout), BY_DICE, "Relay"),
        (made(ConnectionReset), ALWAYS, "Sockets Nft"),
        (made(ConnectionReset), BY_DICE, "Sockets"),
        (made(ConnectionReset, refuseNew=True), ALWAYS, "Sockets"),
        (made(ConnectionReset, afterBytes=100), ALWAYS, "Relay"),
    ],
)
def test_a_rung_that_cannot_do_it_is_not_among_those_to_choose_from(
    fault: NetworkFault, choice: Choice, rungs: str
) -> None:
    assert fault.rungs(choice) == tuple(Rung(name) for name in rungs.split())


@pytest.mark.parametrize(
    ("fault", "rung", "choice", "act"),
    [
        (DELAY, Rung.NETEM, BY_DICE, Netem(200_000, delayed_percent=50.0)),
        (
            made(NetworkDelay, delayMilliseconds=50, spike={"probabilityPercent": 5, "multiplier": 10}),
            Rung.NETEM,
            ALWAYS,
            Netem(50_000, spike_percent=5.0, spike_factor=10.0),
        ),
        (LOSS, Rung.NETEM, BY_DICE, Netem(loss_percent=5.0)),
        (LOSS, Rung.NFT, Choice(0.5, first_n=9), Drop(choice=Choice(0.05, first_n=9))),
        (
            made(NetworkLoss, gilbertElliott={**BURSTS, "burstLossPercent": 80, "calmLossPercent": 2}),
            Rung.NETEM,
            BY_DICE,
            Netem(burst_begins_percent=0.5, burst_ends_percent=12.5, burst_loss_percent=40.0, calm_loss_percent=1.0),
        ),
        (made(NetworkDuplicate, duplicatePercent=10), Rung.NETEM, BY_DICE, Netem(duplicate_percent=5.0)),
        (made(NetworkCorrupt, corruptPercent=10), Rung.NETEM, ALWAYS, Netem(corrupt_percent=10.0)),
        (
            made(NetworkReorder, reorderPercent=25, gap=4),
            Rung.NETEM,
            ALWAYS,
            Netem(10_000, reorder_percent=25.0, reorder_gap=4),
        ),
        (SLOW, Rung.TBF, ALWAYS, Rate(125_000, 32_000, 400_000)),
        (CUT, Rung.NFT, COUNTED, Drop(choice=COUNTED)),
        (made(ConnectionTimeout, connections="New"), Rung.NFT, ALWAYS, Drop(packets=Packets.OPENING)),
        (made(ConnectionReset), Rung.SOCKETS, BY_DICE, Reset(False, BY_DICE)),
        (made(ConnectionReset), Rung.NFT, ALWAYS, Drop(reject=True, packets=Packets.OPEN)),
    ],
)
def test_an_agent_is_told_what_the_user_asked_for(fault: NetworkFault, rung: Rung, choice: Choice, act: object) -> None:
    assert fault.act(rung, choice) == act


def test_a_high_rate_has_a_burst_that_a_busy_machines_timer_can_fill() -> None:
    for asked, burst in (({}, 10_000_000), ({"burstKilobytes": 16}, 1_000_000), ({"burstKilobytes": 2000}, 2_000_000)):
        act = made(NetworkBandwidth, kilobitsPerSecond=8_000_000, **asked).act(Rung.TBF)
        assert isinstance(act, Rate)
        assert act.burst_bytes == burst
        assert rate.words(act).startswith(f"tbf rate 1000000000bps burst {burst}b ")


PRIO, HTB = {Feature.PRIO}, {Feature.HTB}


@pytest.mark.parametrize(
    ("fault", "choice", "has", "rung"),
    [
        (LOSS, ALWAYS, {Feature.NETEM, Feature.U32} | PRIO, Rung.NETEM),
        (LOSS, ALWAYS, {Feature.NETEM, Feature.U32} | HTB, Rung.NETEM),
        (LOSS, ALWAYS, {Feature.NETEM, Feature.U32, Feature.NFT_IP, Feature.NFT_NUMGEN}, Rung.NFT),
        (LOSS, COUNTED, {Feature.NETEM, Feature.U32, Feature.PRIO}, None),
        (LOSS, ALWAYS, {Feature.NFT_INET, Feature.NFT_NUMGEN}, Rung.NFT),
        (made(NetworkLoss, lossPercent=100), ALWAYS, {Feature.NFT_INET}, Rung.NFT),
        (LOSS, ALWAYS, {Feature.NFT_NUMGEN}, None),
        (CUT, ALWAYS, {Feature.NFT_INET}, Rung.NFT),
        (CUT, COUNTED, {Feature.NFT_INET}, None),
        (CUT, Choice(first_n=1), {Feature.NFT_INET, Feature.NFT_LIMIT}, Rung.NFT),
        (CUT, COUNTED, {Feature.NFT_INET, Feature.NFT_REDIRECT}, Rung.RELAY),
        (SLOW, ALWAYS, {Feature.TBF, Feature.U32, Feature.HTB}, Rung.TBF),
        (SLOW, ALWAYS, {Feature.TBF, Feature.U32}, None),
        (DELAY, ALWAYS, {Feature.NFT_INET, Feature.NFT_REDIRECT}, Rung.RELAY),
        (made(ConnectionReset), ALWAYS, {Feature.SOCK_DESTROY}, Rung.SOCKETS),
        (made(ConnectionReset, refuseNew=True), ALWAYS, {Feature.SOCK_DESTROY}, None),
        (made(ConnectionReset), ALWAYS, {Feature.NFT_IP, Feature.NFT_REJECT}, Rung.NFT),
    ],
)
def test_the_best_rung_that_the_node_has_is_taken(
    fault: NetworkFault, choice: Choice, has: set[Feature], rung: Rung | None
) -> None:
    found, lacking = first_possible(fault, has, fault.rungs(choice), choice)
    assert found is rung
    assert bool(lacking) == (rung is None)


def test_incoming_packets_take_more_of_the_kernel() -> None:
    egress, both = (
        made(NetworkBandwidth, kilobitsPerSecond=8, direction=way).needs(Rung.TBF)
        for way in (Direction.EGRESS, Direction.BOTH)
    )
    assert both - egress == {Feature.IFB, Feature.INGRESS, Feature.MIRRED}


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        (NetworkLoss, {}, "exactly one of lossPercent, gilbertElliott must be given"),
        (NetworkLoss, {"lossPercent": 1, "gilbertElliott": BURSTS}, "found lossPercent and gilbertElliott"),
        (NetworkLoss, {"gilbertElliott": BURSTS, "correlationPercent": 1}, "must be 0 with gilbertElliott"),
        (NetworkLoss, {"gilbertElliott": {**BURSTS, "burstLossPercent": 5, "calmLossPercent": 5}}, "must be below"),
        (NetworkDelay, {"delayMilliseconds": 10, "correlationPercent": 5}, "must be 0 without a jitter"),
        (
            NetworkDelay,
            {"delayMilliseconds": 9000, "jitterMilliseconds": 2001, "distribution": "Normal"},
            "must be at most 2000",
        ),
        (
            NetworkDelay,
            {"delayMilliseconds": 9000, "spike": {"probabilityPercent": 1, "multiplier": 2}},
            "multiplier must be such that the longest delay",
        ),
        (NetworkReorder, {"reorderPercent": 100}, "reorderPercent must be below 100"),
        (NetworkBandwidth, {"kilobitsPerSecond": 0}, "greater than or equal to 1"),
    ],
)
def test_what_cannot_be_is_refused_with_the_way_out(
    kind: type[NetworkFault], fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        kind.model_validate(fields)


@given(
    st.integers(1, 60_000),
    st.integers(0, 8_000),
    st.sampled_from(list(Distribution)),
    st.none() | st.tuples(st.integers(1, 100), st.integers(2, 1000)),
    st.integers(0, 100),
)
def test_every_delay_that_may_be_asked_of_netem_has_its_table(
    delay: int, jitter: int, distribution: Distribution, spike: tuple[int, int] | None, percent: int
) -> None:
    fields: dict[str, Any] = {"delayMilliseconds": delay, "jitterMilliseconds": jitter, "distribution": distribution}
    if spike:
        fields["spike"] = {"probabilityPercent": spike[0], "multiplier": spike[1]}
    try:
        fault = NetworkDelay.model_validate(fields)
    except ValidationError:
        return
    choice = Choice(percent / 100)
    if Rung.NETEM not in fault.rungs(choice):
        return
    act = fault.act(Rung.NETEM, choice)
    assert isinstance(act, Netem)
    assert spread.of(act).mu >= 1000 or not percent
    assert netem.leaf(act.scaled(0.1)).words
