"""What is said to nft and tc: text from values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bounceback.drivers import Site, nft, queues, slots
from bounceback.drivers.leftovers import Found, unaccounted
from bounceback.drivers.netns import Netns
from bounceback.types.plan import Act, Direction, Drop, Feature, Flow, Netem, Order


def order(
    act: Act | None = None,
    *flows: Flow,
    injection: str = "inj",
    uid: str = "uid",
    direction: Direction = Direction.BOTH,
) -> Order:
    return Order(injection, "fault", "ns", "pod", uid, act or Drop(), direction, flows, 0, 0, 0, 0)


# nft


@given(st.text(min_size=1, max_size=300))
def test_a_tables_name_is_one_word_that_nft_takes(injection: str) -> None:
    name = nft.table(injection)
    assert name.startswith("bb-")
    assert len(name) < 256
    assert all(letter.isascii() and (letter.isalnum() or letter in "-_.") for letter in name)


def test_what_is_spared_comes_before_what_is_lost() -> None:
    text = nft.creation(order(Drop(), Flow("10.0.0.0/8")), ("10.1.1.1/32",), ("inet",), owner=True)
    for side in ("out", "in"):
        rules = [line for line in text.splitlines() if line.startswith(f"add rule inet bb-inj {side} ")]
        assert '"lo" accept' in rules[0]
        assert "nd-neighbor-solicit" in rules[1]
        assert "@exempt4 accept" in rules[2]
        assert rules[3].endswith("goto lost")
        assert len(rules) == 4


def test_one_set_serves_all_peers_of_the_same_ports() -> None:
    flows = tuple(Flow(f"10.0.0.{n}/32", "TCP", (80,)) for n in range(1, 200))
    text = nft.creation(order(Drop(), *flows), (), ("inet",), owner=True)
    assert len(text.splitlines()) < 15


def test_each_family_gets_the_addresses_that_it_understands() -> None:
    text = nft.creation(order(Drop(), Flow("10.0.0.1/32"), Flow("fd00::1/128")), (), ("ip", "ip6"), owner=False)
    four = [line for line in text.splitlines() if " ip bb-inj" in line]
    six = [line for line in text.splitlines() if " ip6 bb-inj" in line]
    assert "fd00" not in "".join(four)
    assert "10.0.0.1" not in "".join(six)
    assert "owner" not in text


def test_no_flows_are_everybody() -> None:
    assert "add rule inet bb-inj out goto lost" in nft.creation(order(), (), ("inet",), owner=True)


@pytest.mark.parametrize(
    ("act", "guarded", "needed"),
    [
        (Drop(), False, {Feature.NFT_OWNER}),
        (Drop(), True, set()),
        (Drop(reject=True, probability=0.5), True, {Feature.NFT_REJECT, Feature.NFT_NUMGEN}),
    ],
)
def test_only_what_an_order_uses_is_needed(act: Drop, guarded: bool, needed: set[Feature]) -> None:
    assert set(nft.needs(act, guarded)) == needed


def test_a_kernel_without_owned_tables_needs_a_guard() -> None:
    assert nft.needs_guard(frozenset({Feature.NFT_INET}))
    assert not nft.needs_guard(frozenset({Feature.NFT_INET, Feature.NFT_OWNER}))


# tc


def test_numbers_lead_back_to_their_slot() -> None:
    handles = [queues.handle(slot) for slot in range(queues.SLOTS)]
    prefs = [pref for slot in range(queues.SLOTS) for generation in (0, 1) for pref in queues.prefs(slot, generation)]
    assert [queues.slot_of_handle(number) for number in handles] == list(range(queues.SLOTS))
    assert [queues.slot_of_pref(pref) for pref in prefs] == [s for s in range(queues.SLOTS) for _ in range(4)]
    assert len(set(prefs)) == len(prefs)
    assert not set(prefs) & {*queues.EXEMPT_PREFS, queues.INGRESS_PREF}
    assert queues.slot_of_handle(queues.ROOT) is None
    assert queues.slot_of_handle(0x8001_0000) is None


def test_every_word_of_netem_is_said() -> None:
    full = Netem(100_000, 10_000, 25.0, "normal", 10.0, 30.0, 5000)
    assert queues.netem("eth0", 0, full) == (
        "qdisc add dev eth0 parent bb00:4 handle bb04: netem limit 5000 delay 100000us 10000us 25% "
        "distribution normal loss random 10% 30%"
    )
    assert queues.netem("eth0", 12, Netem(loss_percent=0.0001)) == (
        "qdisc add dev eth0 parent bb00:10 handle bb10: netem limit 100000 loss random 0.0001% 0%"
    )


def test_a_flow_is_a_filter_each_protocol_and_port() -> None:
    lines = queues.filters("eth0", 0, 0, (Flow("10.0.0.1/32", "", (53, 54)),), arriving=False)
    assert len(lines) == 4
    assert lines[0] == (
        "filter add dev eth0 parent bb00: protocol ip pref 100 u32 match ip dst 10.0.0.1/32 "
        "match ip protocol 6 0xff match ip dport 53 0xffff flowid bb00:4"
    )
    (arriving,) = queues.filters("bb-ifb2", 1, 1, (Flow("fd00::/8", "UDP"),), arriving=True)
    assert arriving == (
        "filter add dev bb-ifb2 parent bb00: protocol ipv6 pref 107 u32 match ip6 src fd00::/8 "
        "match ip6 protocol 17 0xff flowid bb00:5"
    )


def test_slots_count_the_netem_orders_of_each_pod() -> None:
    orders = [
        order(Netem(), injection="a", uid="1"),
        order(Drop(), injection="b", uid="1"),
        order(Netem(), injection="c", uid="1"),
        order(Netem(), injection="d", uid="2"),
    ]
    assert slots(orders) == {"a": 0, "c": 1, "d": 0}


# What is left


def test_only_what_belongs_to_an_order_in_force_is_not_left_over() -> None:
    found = [
        Found("nft table inet bb-mine", table="bb-mine"),
        Found("nft table inet bb-other", table="bb-other"),
        Found("qdisc eth0 bb00: prio"),
        Found("qdisc eth0 bb04: netem", slot=0),
        Found("qdisc eth0 bb05: netem", slot=1),
    ]
    drop = (order(Drop(), injection="mine"), Site(Netns()))
    delay = (order(Netem(), injection="slow"), Site(Netns(), slot=1))
    assert unaccounted(found, []) == found
    assert unaccounted(found, [drop, delay]) == [found[1], found[3]]
    assert unaccounted(found, [drop]) == found[1:]
