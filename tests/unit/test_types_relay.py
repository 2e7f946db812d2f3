"""Rules of the relay: there and back as JSON, and made from faults."""

from __future__ import annotations

from typing import Any

import pytest

from bounceback.api.problems import parse
from bounceback.faults import KINDS
from bounceback.faults.base import NetworkFault
from bounceback.faults.relayed import CONNECTION_KINDS, can_be_relayed, rules
from bounceback.types import relay
from bounceback.types.choice import Choice
from bounceback.types.plan import Direction, Rung
from bounceback.types.relay import ACTS, Act, Connections, Drawn, Rule

EXAMPLES: dict[str, Act] = {
    "Hold": relay.Hold(1000, 10, 25.0, "normal", 0.1, 3.0),
    "Throttle": relay.Throttle(1000, 10, True, 5000),
    "Lose": relay.Lose(0.1, 5.0, 0.1, 0.2, 0.9, 0.1, 1000),
    "Duplicate": relay.Duplicate(0.1, 1.0),
    "Corrupt": relay.Corrupt(0.1, 1.0),
    "Reorder": relay.Reorder(0.1, 1.0, 500),
    "Silence": relay.Silence(True, 5),
    "Reset": relay.Reset(5, 6),
    "Refuse": relay.Refuse(),
    "SlowClose": relay.SlowClose(5),
    "Slice": relay.Slice(5, 2, 1),
    "LimitData": relay.LimitData(5, True),
}


@pytest.mark.parametrize("kind", ACTS)
def test_a_rule_survives_json(kind: str) -> None:
    rule = Rule("r", EXAMPLES[kind], Direction.EGRESS, Choice(0.5, 2, 3, 4), Drawn.SEGMENT, Connections.NEW, "db")
    plain = Rule("s", EXAMPLES[kind])
    assert relay.from_json(relay.to_json([rule, plain])) == (rule, plain)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"version": 9, "rules": []}', '{"version": 1, "rules": [{"name": "x"}]}']
)
def test_what_is_no_rule_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        relay.from_json(text)


@pytest.mark.parametrize("kind", ACTS)
def test_a_part_of_the_strength_is_less(kind: str) -> None:
    rule = Rule("r", EXAMPLES[kind])
    assert rule.scaled(1.0) == rule
    assert rule.scaled(0.5) != rule


def fault(kind: type[NetworkFault], **fields: Any) -> NetworkFault:
    found, problems = parse(kind, fields, ())
    assert found is not None, problems
    return found


def kind_of(name: str) -> type[NetworkFault]:
    return next(k for k in (*CONNECTION_KINDS, *KINDS) if k.kind == name and issubclass(k, NetworkFault))


@pytest.mark.parametrize(
    ("name", "fields", "acts"),
    [
        ("networkDelay", {"delayMilliseconds": 5}, [relay.Hold(5000)]),
        (
            "networkDelay",
            {"delayMilliseconds": 5, "jitterMilliseconds": 2, "distribution": "Normal"},
            [relay.Hold(5000, 2000, 0.0, "normal")],
        ),
        ("networkLoss", {"lossPercent": 10}, [relay.Lose(0.1)]),
        (
            "networkBandwidth",
            {"kilobitsPerSecond": 8000, "burstKilobytes": 10},
            [relay.Throttle(1_000_000, 10_000, True)],
        ),
        ("networkPartition", {}, [relay.Silence()]),
        ("networkPartition", {"action": "Reject"}, [relay.Reset(), relay.Refuse()]),
        ("connectionTimeout", {}, [relay.Silence()]),
        ("connectionTimeout", {"closeAfterMilliseconds": 5, "discard": True}, [relay.Silence(True, 5000)]),
        ("connectionReset", {}, [relay.Reset()]),
        ("connectionReset", {"afterBytes": 5, "refuseNew": True}, [relay.Reset(5), relay.Refuse()]),
        ("connectionRefusal", {}, [relay.Reset(), relay.Refuse()]),
        ("connectionRefusal", {"existingConnections": "Keep"}, [relay.Refuse()]),
        ("connectionSlowClose", {"delayMilliseconds": 5}, [relay.SlowClose(5000)]),
        ("connectionSlicing", {"sizeBytes": 5, "pauseMicroseconds": 7}, [relay.Slice(5, 0, 7)]),
        ("connectionDataLimit", {"limitBytes": 5, "end": "Reset"}, [relay.LimitData(5, True)]),
    ],
)
def test_a_fault_becomes_rules(name: str, fields: dict[str, Any], acts: list[Act]) -> None:
    made = rules(fault(kind_of(name), **fields), "f", Choice(seed=3), "db")
    assert [rule.act for rule in made] == acts
    assert [rule.name for rule in made] == ["f", "f.2"][: len(acts)]
    assert {rule.listener for rule in made} == {"db"}


@pytest.mark.parametrize("kind", KINDS)
def test_every_fault_says_whether_a_relay_can_do_it(kind: type[NetworkFault]) -> None:
    assert can_be_relayed(kind) in (True, False)


def test_a_rate_is_one_of_all_unless_connections_are_meant() -> None:
    limit = fault(kind_of("networkBandwidth"), kilobitsPerSecond=8000)
    shared = [rules(limit, "f", per=per)[0].act for per in (None, Drawn.SEGMENT, Drawn.CONNECTION)]
    assert [act.shared for act in shared if isinstance(act, relay.Throttle)] == [True, True, False]


def test_live_connections_are_reset_once_and_others_when_they_have_come_so_far() -> None:
    reset = kind_of("connectionReset")
    assert rules(fault(reset), "f")[0].connections is Connections.EXISTING
    assert rules(fault(reset, afterMilliseconds=5), "f")[0].connections is Connections.ALL


def test_the_kernel_times_out_only_what_it_can() -> None:
    timeout = kind_of("connectionTimeout")
    assert fault(timeout).rungs() == (Rung.NFT, Rung.RELAY)
    for fields in ({"closeAfterMilliseconds": 5}, {"discard": True}):
        assert fault(timeout, **fields).rungs() == (Rung.RELAY,)
    with pytest.raises(ValueError):
        fault(timeout).act(Rung.RELAY)


def test_a_variation_below_the_size_is_required() -> None:
    _, problems = parse(kind_of("connectionSlicing"), {"sizeBytes": 5, "variationBytes": 5}, ())
    assert [str(problem) for problem in problems] == ["variationBytes: variationBytes must be below sizeBytes"]
