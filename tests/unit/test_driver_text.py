"""What is said to nft and tc, and what the dice of the kernel do: text and numbers from values."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bounceback.drivers import KernelError, Refused, Site, bands, dice, netem, nft, queues, rate, slots, spread
from bounceback.drivers.leftovers import Found, unaccounted
from bounceback.drivers.netns import Netns
from bounceback.drivers.nft_text import table
from bounceback.types.choice import Choice
from bounceback.types.plan import Act, Direction, Drop, Feature, Flow, Netem, Order, Rate


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
    name = table(injection)
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
        assert rules[3].endswith("goto chosen")
        assert len(rules) == 4


def test_one_set_serves_all_peers_of_the_same_ports() -> None:
    flows = tuple(Flow(f"10.0.0.{n}/32", "TCP", (80,)) for n in range(1, 200))
    text = nft.creation(order(Drop(), *flows), (), ("inet",), owner=True)
    assert len(text.splitlines()) < 17


def test_each_family_gets_the_addresses_that_it_understands() -> None:
    text = nft.creation(order(Drop(), Flow("10.0.0.1/32"), Flow("fd00::1/128")), (), ("ip", "ip6"), owner=False)
    four = [line for line in text.splitlines() if " ip bb-inj" in line]
    six = [line for line in text.splitlines() if " ip6 bb-inj" in line]
    assert "fd00" not in "".join(four)
    assert "10.0.0.1" not in "".join(six)
    assert "owner" not in text


def test_no_flows_are_everybody() -> None:
    assert "add rule inet bb-inj out goto chosen" in nft.creation(order(), (), ("inet",), owner=True)


@pytest.mark.parametrize(
    ("act", "guarded", "needed"),
    [
        (Drop(), False, {Feature.NFT_OWNER}),
        (Drop(), True, set()),
        (Drop(reject=True, choice=Choice(0.5)), True, {Feature.NFT_REJECT, Feature.NFT_NUMGEN}),
    ],
)
def test_only_what_an_order_uses_is_needed(act: Drop, guarded: bool, needed: set[Feature]) -> None:
    assert set(nft.needs(act, guarded)) == needed


@pytest.mark.parametrize(
    ("count", "unit"), [(1, "week"), (10_000, "week"), (100_000, "day"), (1_000_000, "hour"), (10**9, "second")]
)
def test_a_limit_to_the_first_packets_fits_in_the_kernels_numbers(count: int, unit: str) -> None:
    text = nft.creation(order(Drop(choice=Choice(first_n=count))), (), ("inet",), owner=True)
    assert f"add limit inet bb-inj first {{ rate 1/{unit} burst {count} packets }}" in text


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
    made = netem.leaf(
        Netem(
            100_000, 10_000, delay_correlation=25.0, loss_percent=10.0, reorder_percent=5.0, reorder_gap=3, limit=5000
        )
    )
    assert made.words == (
        "netem limit 5000 delay 100000us 10000us 25% distribution bounceback loss random 10% 0% "
        "duplicate 0% 0% corrupt 0% 0% reorder 5% 0% gap 3"
    )
    assert len(made.tables["bounceback"].split()) == spread.SIZE
    bursts = netem.leaf(Netem(burst_begins_percent=0.5, burst_ends_percent=12.5, burst_loss_percent=100.0))
    assert " loss gemodel 0.5% 12.5% 100% 0% " in bursts.words
    assert not bursts.tables


def test_an_act_of_nothing_says_so_of_everything_that_an_earlier_one_may_have_set() -> None:
    words = netem.leaf(Netem()).words
    assert words == "netem limit 100000 loss random 0% 0% duplicate 0% 0% corrupt 0% 0% reorder 0% 0%"


def test_a_rate_is_said_with_the_queue_that_its_latency_allows() -> None:
    assert rate.words(Rate(125_000, 10_000, 200_000)) == "tbf rate 125000bps burst 10000b limit 35000b"


def test_without_prio_the_same_places_are_classes_of_htb() -> None:
    lines = queues.root("eth0", ("10.0.0.1/32",), False, "htb")
    assert lines[0] == "qdisc add dev eth0 root handle bb00: htb default 2"
    assert not any("bb01:" in line or "bb03:" in line for line in lines)
    (place,) = queues.place("eth0", 0, "htb")
    assert place.startswith("class replace dev eth0 parent bb00: classid bb00:4 htb rate ")
    assert queues.place("eth0", 0, "prio") == []


# Delays and dice


def moments(act: Netem) -> tuple[float, float]:
    """Mean and standard deviation in milliseconds of what the kernel would make of the table."""
    made = spread.of(act)
    delays = [(made.mu + made.sigma * entry / spread.SCALE) / 1e6 for entry in made.entries]
    mean = sum(delays) / len(delays)
    return mean, (sum((delay - mean) ** 2 for delay in delays) / len(delays)) ** 0.5


@pytest.mark.parametrize(
    ("act", "mean", "deviation"),
    [
        (Netem(100_000, 30_000), 100, 30 / 3**0.5),
        (Netem(100_000, 10_000, distribution="normal"), 100, 10),
        (Netem(100_000, 10_000, distribution="pareto"), 99.77, 7.37),  # cut off at four deviations, as iproute2's
        (Netem(60_000_000, 8_000_000), 60_000, 8000 / 3**0.5),
        (Netem(100_000, delayed_percent=50.0), 50, 50),
        (Netem(100_000, spike_percent=10.0, spike_factor=5.0), 140, 120),
        (Netem(100_000, delayed_percent=50.0, spike_percent=20.0, spike_factor=3.0), 70, 90),
    ],
)
def test_a_table_has_the_mean_and_the_deviation_that_were_asked_for(act: Netem, mean: float, deviation: float) -> None:
    made = moments(act)
    assert made[0] == pytest.approx(mean, rel=0.002)
    assert made[1] == pytest.approx(deviation, rel=0.02)


def test_a_plain_delay_has_no_table() -> None:
    assert spread.of(Netem(100_000)) == spread.Spread(100_000_000)


def test_a_table_fits_what_the_kernel_takes() -> None:
    for act in (Netem(1, 1), Netem(1000, delayed_percent=1.0), Netem(100_000, 90_000, distribution="paretonormal")):
        made = spread.of(act)
        assert made.mu >= 1000
        assert 1 <= made.sigma <= spread.WIDEST_NS
        assert all(-32_768 <= entry <= 32_767 for entry in made.entries)
    with pytest.raises(ValueError, match=r"17\.1 s apart"):
        spread.of(Netem(20_000_000, delayed_percent=50.0))


@pytest.mark.parametrize(("percent", "correlation"), [(1, 10), (10, 25), (10, 50), (5, 75), (30, 80), (10, 90)])
def test_a_share_is_what_was_asked_for_though_the_dice_are_correlated(percent: float, correlation: float) -> None:
    """The kernel's own way to throw them, played."""
    depends, source = correlation / 100, random.Random(1)
    limit = dice.asked(percent, correlation) / 100
    thrown, hit, count = source.random(), 0, 200_000
    for _ in range(count):
        thrown = (1 - depends) * source.random() + depends * thrown
        hit += thrown <= limit
    memory = ((1 + depends) / (1 - depends)) ** 0.5  # throws that follow each other tell less
    share = percent / 100
    assert abs(hit / count - share) < 4 * memory * (share * (1 - share) / count) ** 0.5
    assert percent >= 50 or limit > percent / 100


def test_what_is_sure_is_never_more_than_what_was_hit() -> None:
    source = random.Random(2)
    for packets, percent in [(0, 50), (10, 100), (100, 1), (1000, 5), (5000, 30), (5000, 100)]:
        hit = sum(source.random() < percent / 100 for _ in range(packets))
        assert dice.sure(packets, percent) <= hit
    assert dice.sure(10, 100) == 10
    assert dice.sure(100_000, 10) > 9_000


@given(st.integers(0, 10_000), st.floats(0, 100))
def test_what_is_sure_never_falls(packets: int, percent: float) -> None:
    assert 0 <= dice.sure(packets, percent) <= dice.sure(packets + 1, percent) <= packets + 1


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_an_act_is_scaled_to_its_share(share: float) -> None:
    assert Netem(80_000, 8_000).scaled(share) == Netem(round(80_000 * share), round(8_000 * share))
    assert Netem(loss_percent=40.0).scaled(share).loss_percent == 40 * share
    assert Netem(20_000, reorder_percent=40.0).scaled(share) == Netem(20_000, reorder_percent=40 * share)
    assert Rate(1000, 2000).scaled(share) == Rate(round(1000 / share), 2000)
    assert Drop(choice=Choice(0.4, first_n=3)).scaled(share) == Drop(choice=Choice(0.4 * share, first_n=3))


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("tc: Error: Specified qdisc kind is unknown. (qdisc add dev eth0 ... netem)", "MissingFeature"),
        ("tc: Error: netem: cannot mix duplicating netems with other netems in tree.", "Conflict"),
    ],
)
def test_what_a_kernel_cannot_is_a_refusal_with_its_reason(said: str, reason: str) -> None:
    told = bands._told(KernelError(said))
    assert isinstance(told, Refused)
    assert told.reason == reason


def test_an_error_that_is_no_lack_stays_an_error() -> None:
    error = KernelError("tc: Cannot find device")
    assert bands._told(error) is error


# Filters and places


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
