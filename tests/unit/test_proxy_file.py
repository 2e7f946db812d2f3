"""What `bounceback proxy` takes from its file, and when which rule of it is in force."""

from __future__ import annotations

import math
import time
from typing import Any

import pytest

from bounceback.cli.proxy_course import Faults, Source
from bounceback.cli.proxy_file import OFFERED, Protocol, ProxyFault, address, fault_of, file_of
from bounceback.cli.proxy_names import NameRule
from bounceback.faults import API_KINDS, KINDS
from bounceback.faults.base import NetworkFault
from bounceback.types.choice import Choice
from bounceback.types.relay import Drawn, Hold, Rule

DELAY = {"networkDelay": {"delayMilliseconds": 100}}
TCP = {"db": Protocol.TCP}
FILES = {"certificateFile": "ca.pem", "keyFile": "ca.key"}


def fault(**fields: Any) -> ProxyFault:
    found, problems = fault_of({"name": "f", **(fields or DELAY)}, {})
    assert found is not None, problems
    return found


@pytest.mark.parametrize(
    ("text", "found"),
    [("127.0.0.1:80", ("127.0.0.1", 80)), ("[::1]:80", ("::1", 80)), ("db.shop.svc:5432", ("db.shop.svc", 5432))],
)
def test_an_address_is_a_host_and_a_port(text: str, found: tuple[str, int]) -> None:
    assert address(text) == found


@pytest.mark.parametrize("text", ["", "80", ":80", "host", "host:", "::1:80", "host:x", "host:99999", "host:0", "h:-1"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must"):
        address(text)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"faults": [{"name": "f"}]}, "faults[0]: exactly one of"),
        ({"faults": [{"name": "f", **DELAY, "connectionReset": {}}]}, "found networkDelay and connectionReset"),
        (
            {"faults": [{"name": "f", "networkDelay": {"delayMilliseconds": 0}}]},
            "faults[0].networkDelay.delayMilliseconds: must be a whole number from 1 to 60000; found 0",
        ),
        (
            {"faults": [{"name": "f", **DELAY, "probability": 101}]},
            "faults[0].probability: must be a whole number from 0",
        ),
        ({"faults": [{"name": "f", **DELAY, "target": "web"}]}, "faults[0].target: there is no such field"),
        ({"faults": [{"name": "f", **DELAY, "listener": "x"}]}, "faults[0].listener: must be one of the listeners: db"),
        ({"faults": [{"name": "f", **DELAY}, {"name": "f", **DELAY}]}, "faults: names must be unique"),
        (
            {"faults": [{"name": "f", "networkDelay": {"delayMilliseconds": 1, "peers": [{"host": "x"}]}}]},
            "faults[0].networkDelay.peers: must be unset here",
        ),
        (
            {"faults": [{"name": "f", **DELAY, "pattern": {"ramp": {"fromPercent": 1, "toPercent": 9, "steps": 2}}}]},
            "faults[0].durationSeconds: durationSeconds must be given with pattern.ramp",
        ),
        (
            {"faults": [{"name": "f", "connectionReset": {}, "per": "Segment"}]},
            "faults[0].per: must be Connection, or unset, for connectionReset",
        ),
        (
            {"faults": [{"name": "f", "networkDuplicate": {"duplicatePercent": 5}}]},
            "faults[0].networkDuplicate: must be for a listener with protocol UDP; db is not",
        ),
        (
            {
                "listeners": [{"name": "u", "listen": "127.0.0.1:1", "upstream": "h:1", "protocol": "UDP"}],
                "faults": [{"name": "f", "listener": "u", "connectionReset": {}}],
            },
            "faults[0].connectionReset: must be for a listener with protocol TCP; u is not",
        ),
        (
            {"faults": [{"name": "f", "dnsFault": {"answer": "NxDomain"}}]},
            "faults[0].dnsFault: must be for a listener with protocol DNS; db is not",
        ),
        (
            {
                "listeners": [{"name": "d", "listen": "127.0.0.1:1", "upstream": "h:53", "protocol": "DNS"}],
                "faults": [{"name": "f", "listener": "d", **DELAY}],
            },
            "faults[0].networkDelay: must be for a listener with protocol TCP or UDP; d is not",
        ),
        (
            {
                "listeners": [{"name": "d", "listen": "127.0.0.1:1", "upstream": "h:53", "protocol": "DNS"}],
                "faults": [{"name": "f", "listener": "d", "tlsFault": {"answer": "Expired"}}],
            },
            "faults[0].tlsFault: must be for a listener with protocol TCP; d is not",
        ),
        (
            {"faults": [{"name": "f", "tlsFault": {"answer": "Expired"}, "per": "Connection"}]},
            "faults[0].per: must be unset for tlsFault",
        ),
        (
            {"faults": [{"name": "f", "tlsFault": {"answer": "Expired", "peers": [{"host": "x"}]}}]},
            "faults[0].tlsFault.peers: must be unset here",
        ),
        (
            {"faults": [{"name": "f", "tlsFault": {"answer": "PlainText", "authority": FILES}}]},
            "faults[0].tlsFault.authority: authority must be unset with any answer but Expired",
        ),
        (
            {"faults": [{"name": "f", "tlsFault": {"answer": "Expired", "authority": {"secretName": "ca"}}}]},
            "faults[0].tlsFault.authority.certificateFile: must be given",
        ),
        ({"listeners": [{"name": "u", "listen": "x", "upstream": "h:1"}]}, "listeners[0].listen: must be HOST:PORT"),
        ({"listener": []}, "listener: there is no such field; did you mean listeners?"),
    ],
)
def test_what_is_wrong_is_named_with_what_must_be(data: dict[str, Any], message: str) -> None:
    found, problems = file_of(data, TCP)
    assert found is None
    assert message in "\n".join(map(str, problems))


def test_every_fault_on_what_goes_over_the_network_is_there() -> None:
    of_network = {kind.kind for kind in KINDS if issubclass(kind, NetworkFault)}
    assert {kind.kind for kind in OFFERED} == of_network | {kind.kind for kind in API_KINDS}


def test_the_choice_is_among_packets_or_connections() -> None:
    chosen = Choice(0.5, 2, 3, 4)
    fields: dict[str, Any] = {"probability": 50, "nth": 2, "firstN": 3, "seed": 4}
    for per, drawn in ((None, Drawn.SEGMENT), ("Segment", Drawn.SEGMENT), ("Connection", Drawn.CONNECTION)):
        (rule,) = fault(**DELAY, **fields, per=per).all_rules
        assert isinstance(rule, Rule)
        assert (rule.drawn, rule.choice) == (drawn, chosen)
    (rule,) = fault(connectionReset={}, **fields).all_rules
    assert isinstance(rule, Rule)
    assert (rule.drawn, rule.choice) == (Drawn.CONNECTION, chosen)


# As time goes on


def names(faults: Faults, now: float) -> list[str]:
    return [rule.name for rule in faults.rules(now)[0]]


def test_a_fault_begins_and_ends_when_it_is_to() -> None:
    faults = Faults()
    faults.replace_file([fault(**DELAY, startAfterSeconds=10, durationSeconds=5)], 100.0)
    assert faults.rules(100.0) == ((), 110.0)
    assert names(faults, 110.0) == ["f"]
    assert faults.rules(110.0)[1] == 115.0
    assert faults.rules(115.0) == ((), math.inf)


def test_a_fault_comes_and_goes_for_as_long_as_it_is_there() -> None:
    faults = Faults()
    turns = {"onOff": {"onMilliseconds": 2000, "offMilliseconds": 3000}}
    faults.put(fault(**DELAY, pattern=turns), 0.0)
    assert [(bool(faults.rules(at)[0]), faults.rules(at)[1]) for at in (0.0, 2.0, 5.0, 1002.0)] == [
        (True, 2.0),
        (False, 5.0),
        (True, 7.0),
        (False, 1005.0),
    ]
    began = time.process_time()
    for turn in range(201, 20_000):
        assert faults.rules(turn * 5.0)[0]
    assert time.process_time() - began < 5  # what a turn costs does not grow with their number


def test_a_fault_grows() -> None:
    faults = Faults()
    ramp = {"ramp": {"fromPercent": 10, "toPercent": 100, "steps": 2}}
    faults.put(fault(**DELAY, durationSeconds=10, pattern=ramp), 0.0)
    rules = [faults.rules(at)[0][0] for at in (0.0, 5.0)]
    acts = [rule.act for rule in rules if isinstance(rule, Rule)]
    assert [act.delay_us for act in acts if isinstance(act, Hold)] == [10_000, 100_000]


def test_a_fault_of_names_grows_by_whom_it_hits() -> None:
    faults = Faults()
    ramp = {"ramp": {"fromPercent": 10, "toPercent": 100, "steps": 2}}
    faults.put(fault(dnsFault={"answer": "NxDomain"}, probability=50, durationSeconds=10, pattern=ramp), 0.0)
    rules = [faults.rules(at)[0][0] for at in (0.0, 5.0)]
    assert [rule.rule.choice.probability for rule in rules if isinstance(rule, NameRule)] == [0.05, 0.5]


def test_an_edit_leaves_alone_what_it_does_not_change() -> None:
    faults = Faults()
    lasting = fault(**DELAY, durationSeconds=5)
    faults.replace_file([lasting], 0.0)
    other, _ = fault_of({"name": "g", **DELAY}, {})
    api, _ = fault_of({"name": "h", **DELAY}, {})
    assert other is not None and api is not None
    faults.put(api, 1.0)
    faults.replace_file([other, lasting], 4.0)
    assert names(faults, 4.5) == ["g", "f", "h"]
    assert names(faults, 5.5) == ["g", "h"]
    faults.replace_file([], 6.0)
    assert [(name, taken.source) for name, taken in faults.taken.items()] == [("h", Source.API)]
