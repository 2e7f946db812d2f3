"""UDP on the relay rung: for whom it is possible, and what is said of those for whom it is not."""

from __future__ import annotations

from typing import Any

import pytest

from bounceback.api.experiment import FaultEntry
from bounceback.engine.planning import rung_for
from bounceback.types.datagrams import MOST_PAIRS, pairs
from bounceback.types.plan import Feature, Flow, Rung

TCP_ONLY = frozenset({Feature.NFT_INET, Feature.NFT_REDIRECT})
WHOLE = TCP_ONLY | {Feature.NFT_ZONE}
UDP = [{"port": 53, "protocol": "UDP"}]
DELAY = {"networkDelay": {"delayMilliseconds": 9}}


def entry(fault: dict[str, Any], *peers: dict[str, Any], **more: Any) -> Any:
    ((kind, fields),) = fault.items()
    listed = {kind: {**fields, "peers": list(peers)}}
    return FaultEntry.model_validate({"name": "it", "target": "web", "mechanism": "Relay", **listed, **more})


def one(ports: list[dict[str, Any]] | None = None, cidr: str = "192.0.2.1") -> dict[str, Any]:
    return {"cidr": cidr, "ports": ports} if ports else {"cidr": cidr}


def test_each_address_and_port_is_a_pair() -> None:
    flows = (Flow("192.0.2.9/32", "UDP", (5, 4)), Flow("fd00::1/128", "UDP", (5,)), Flow("192.0.2.0/24", "TCP", (5,)))
    assert pairs(flows) == (("192.0.2.9", 4), ("192.0.2.9", 5), ("fd00::1", 5))
    assert pairs((*flows, *flows)) == pairs(flows)
    assert pairs([Flow("192.0.2.1/32")]) == ()


@pytest.mark.parametrize(
    ("fault", "peers"),
    [
        (DELAY, [one(UDP)]),
        (DELAY, [one(UDP), one([{"port": 80}], "192.0.2.0/24")]),
        (DELAY, [{"service": {"name": "names"}, "ports": UDP}]),
        ({"networkPartition": {}}, [one(UDP)]),
        ({"connectionTimeout": {}}, [one(UDP)]),
        ({"connectionReset": {"afterBytes": 9}}, [one([{"port": 80}, *UDP])]),
        ({"dnsFault": {"answer": "NxDomain", "names": ["*"]}}, [one(UDP, "192.0.2.0/24")]),
    ],
    ids=[
        "UDP",
        "UDP, and TCP with many",
        "a service",
        "partition",
        "timeout",
        "what is for TCP only, and TCP",
        "names",
    ],
)
def test_a_relay_carries_it(fault: dict[str, Any], peers: list[dict[str, Any]]) -> None:
    assert rung_for(entry(fault, *peers), WHOLE) == (Rung.RELAY, "")


@pytest.mark.parametrize(
    ("fault", "peers", "why"),
    [
        (DELAY, [one(UDP, "192.0.2.0/24")], "192.0.2.0/24 has many"),
        (DELAY, [one([{"port": 80}]), one(UDP, "fd00::/64")], "fd00::/64 has many"),
        ({"networkPartition": {"action": "Reject"}}, [one(UDP)], "does not refuse UDP"),
        ({"networkPartition": {"action": "Reject"}}, [one([{"port": 80}, *UDP])], "does not refuse UDP"),
        ({"connectionReset": {"afterBytes": 9}}, [one(UDP)], "to TCP, and the peers' ports are of UDP"),
    ],
    ids=["a network", "one of two is a network", "refusal", "refusal, TCP as well", "connections"],
)
def test_no_relay_carries_it_and_that_is_known_from_the_spec(
    fault: dict[str, Any], peers: list[dict[str, Any]], why: str
) -> None:
    rung, words = rung_for(entry(fault, *peers), WHOLE)
    assert rung is None
    assert why in words


def test_more_peers_than_a_relay_can_bear_are_refused_once_they_are_known() -> None:
    asked = entry(DELAY, {"service": {"name": "names"}, "ports": UDP})
    flows = [Flow(f"10.0.{n}.1/32", "UDP", (53,)) for n in range(MOST_PAIRS + 1)]
    assert rung_for(asked, WHOLE, flows[1:]) == (Rung.RELAY, "")
    rung, words = rung_for(asked, WHOLE, flows)
    assert rung is None
    assert f"to {MOST_PAIRS} addresses and ports, and the peers have {MOST_PAIRS + 1}" in words


def test_udp_takes_zones_of_conntrack_and_tcp_does_not() -> None:
    assert rung_for(entry(DELAY, one([{"port": 80}])), TCP_ONLY)[0] is Rung.RELAY
    assert rung_for(entry(DELAY, one(UDP)), TCP_ONLY) == (None, "Relay needs nft-ct-zone")


def test_another_rung_is_taken_where_the_relay_cannot() -> None:
    cut = entry({"networkPartition": {}}, one(UDP, "192.0.2.0/24"), mechanism=None)
    assert rung_for(cut, {Feature.NFT_INET}) == (
        Rung.NFT,
        "Relay carries UDP to single addresses, and 192.0.2.0/24 has many",
    )
