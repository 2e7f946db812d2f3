"""What the rules do to real connections, and what becomes of these when the rules change."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterable

import pytest

from bounceback.types.choice import Choice
from bounceback.types.plan import Direction
from bounceback.types.relay import (
    Act,
    Connections,
    Corrupt,
    Hold,
    LimitData,
    Lose,
    Refuse,
    Reset,
    Rule,
    Silence,
    Slice,
    SlowClose,
    Throttle,
)
from tests.relay.conftest import PATIENCE, End, Way, Ways

EGRESS, INGRESS, BOTH = Direction.EGRESS, Direction.INGRESS, Direction.BOTH


async def took(client: End, server: End, *, back: bool = False) -> float:
    """Seconds for a few bytes from one end to the other."""
    first, second = (server, client) if back else (client, server)
    began = time.monotonic()
    await first.send(b"some bytes")
    await second.exactly(10)
    return time.monotonic() - began


# Time


@pytest.mark.parametrize(("direction", "there", "back"), [(EGRESS, 1, 0), (INGRESS, 0, 1), (BOTH, 1, 1)])
async def test_a_delay_is_for_its_direction(way: Way, direction: Direction, there: int, back: int) -> None:
    client, server = await way.pair()
    way.relay.follow([Rule("late", Hold(1_000_000), direction)])
    assert (await took(client, server) >= 0.999) == bool(there)
    assert (await took(client, server, back=True) >= 0.999) == bool(back)
    assert way.hits("late") == there + back


async def test_the_opening_of_a_connection_is_held_too(way: Way) -> None:
    way.relay.follow([Rule("late", Hold(200_000), BOTH)])
    began = time.monotonic()
    await way.client()
    await way.accept()
    assert time.monotonic() - began >= 0.399  # a SYN and its answer


async def test_delays_of_several_rules_add_up_and_what_was_sent_keeps_its_order(way: Way) -> None:
    client, server = await way.pair()
    way.relay.follow([Rule("a", Hold(100_000, 90_000)), Rule("b", Hold(100_000, 90_000)), Rule("c", Slice(7, 3))])
    sent = b"".join(n.to_bytes(4, "big") for n in range(5000))
    for start in range(0, len(sent), 500):
        await client.send(sent[start : start + 500])
        await asyncio.sleep(0.001)
    assert await server.exactly(len(sent)) == sent


async def test_a_rate_is_held_and_shared_where_it_is_to_be(ways: Ways) -> None:
    """Four connections, 600 kB at 100 kB/s each, or together."""
    for shared, at_least, at_most in ((False, 1.3, 5.0), (True, 5.6, 12.0)):
        way = await ways()
        pairs = [await way.pair() for _ in range(4)]
        way.relay.follow([Rule("slow", Throttle(100_000, 5_000, shared), EGRESS)])
        began = time.monotonic()
        await asyncio.gather(*(client.send(bytes(150_000)) for client, _ in pairs))
        await asyncio.gather(*(server.exactly(150_000) for _, server in pairs))
        assert at_least < time.monotonic() - began < at_most, shared


async def test_a_delay_and_a_rate_compose(way: Way) -> None:
    client, server = await way.pair()
    way.relay.follow([Rule("slow", Throttle(100_000, 2_000)), Rule("late", Hold(400_000))])
    began = time.monotonic()
    await client.send(bytes(52_000))
    await server.exactly(1)
    assert time.monotonic() - began >= 0.39
    await server.exactly(51_999)
    assert time.monotonic() - began >= 0.88


async def test_a_loss_on_a_stream_is_a_pause_and_nothing_is_missing(way: Way) -> None:
    client, server = await way.pair()
    way.relay.follow([Rule("lossy", Lose(1.0, recovery_us=60_000_000), EGRESS, Choice(nth=3))])
    assert await took(client, server) < 10
    assert await took(client, server) < 10
    await client.send(b"third")
    assert await server.is_silent(0.3)
    way.relay.follow([])
    assert await server.exactly(5) == b"third"
    assert way.relay.counters()["lossy"].hits == 1


async def test_a_corrupted_segment_differs_in_one_bit(way: Way) -> None:
    client, server = await way.pair()
    way.relay.follow([Rule("noise", Corrupt(1.0), EGRESS)])
    await client.send(bytes(1000))
    assert sum(byte.bit_count() for byte in await server.exactly(1000)) == 1


# Changes while it runs


async def test_what_waited_for_a_delay_comes_at_once_when_it_is_lifted(way: Way) -> None:
    client, server = await way.pair()
    way.relay.follow([Rule("late", Hold(600_000_000))])
    await client.send(b"was held")
    assert await server.is_silent(0.2)
    began = time.monotonic()
    way.relay.follow([])
    assert await server.exactly(8) == b"was held"
    assert time.monotonic() - began < 5


async def test_nothing_is_lost_or_changes_place_while_rules_come_and_go(way: Way) -> None:
    client, server = await way.pair()
    sent = os.urandom(1 << 20)
    choices: tuple[list[Rule], ...] = (
        [],
        [Rule("a", Hold(5_000))],
        [Rule("b", Throttle(20_000_000))],
        [Rule("c", Slice(1000, 300))],
    )

    async def change() -> None:
        for n in range(400):
            way.relay.follow([*choices[n % 4], *choices[n // 4 % 4]] if n % 4 != n // 4 % 4 else choices[n % 4])
            await asyncio.sleep(0.002)
        way.relay.follow([])

    async def send() -> None:
        for start in range(0, len(sent), 4096):
            await client.send(sent[start : start + 4096])
            await asyncio.sleep(0.002)

    *_, got = await asyncio.gather(change(), send(), server.exactly(len(sent)))
    assert got == sent
    assert way.relay.traffic()["way"].reset == 0


async def test_a_change_leaves_the_counters_of_all_rules_as_they_are(way: Way) -> None:
    client, server = await way.pair()
    way.relay.follow([Rule("a", Hold(1000)), Rule("b", Hold(1000))])
    await took(client, server)
    way.relay.follow([Rule("b", Hold(2000))])
    await took(client, server)
    assert (way.hits("a"), way.hits("b")) == (1, 2)
    way.relay.follow([Rule("a", Hold(1000))])
    await took(client, server)
    assert (way.hits("a"), way.hits("b")) == (2, 2)


# Silence


@pytest.mark.parametrize("connections", list(Connections))
async def test_what_a_silence_kept_back_arrives_afterwards(way: Way, connections: Connections) -> None:
    client, server = await way.pair()
    way.relay.follow([Rule("silent", Silence(), BOTH, connections=connections)])
    new = await way.client()
    await new.send(b"hello")
    await client.send(b"hello")
    if connections is Connections.NEW:
        assert await server.exactly(5) == b"hello"
    else:
        assert await server.is_silent(0.2)
    reached = asyncio.create_task(way.accept())
    await asyncio.wait({reached}, timeout=PATIENCE if connections is Connections.EXISTING else 0.2)
    assert reached.done() == (connections is Connections.EXISTING)
    way.relay.follow([])
    its_server = await reached
    assert await its_server.exactly(5) == b"hello"
    for one, other in ((client, server), (new, its_server)):
        await other.send(b"ok")
        assert await one.exactly(2) == b"ok"
    assert way.hits("silent") >= 1


async def test_who_is_held_while_connecting_is_let_through_when_the_rule_goes(way: Way) -> None:
    way.relay.follow([Rule("late", Hold(600_000_000))])
    await way.client()
    reached = asyncio.create_task(way.accept())
    await asyncio.wait({reached}, timeout=0.2)
    assert not reached.done()
    way.relay.follow([])
    await reached


async def test_a_silence_closes_those_who_never_got_through_too(way: Way) -> None:
    way.relay.follow([Rule("silent", Silence(close_after_us=200_000))])
    client = await way.client()
    assert await client.receive() == b""
    assert way.relay.open == 0


async def test_nobody_is_told_of_an_end_during_a_silence(way: Way) -> None:
    client, server = await way.pair()
    gone, its_server = await way.pair()
    way.relay.follow([Rule("silent", Silence())])
    client.half_close()
    gone.abort()
    assert await server.is_silent(0.2)
    assert await its_server.is_silent(0.1)
    way.relay.follow([])
    assert await server.receive() == b""
    assert await its_server.reset()


async def test_a_stream_that_lost_bytes_does_not_go_on(way: Way) -> None:
    client, server = await way.pair()
    spared, its_server = await way.pair()
    way.relay.follow([Rule("silent", Silence(swallow=True), EGRESS)])
    await client.send(b"gone")
    assert await server.is_silent(0.2)
    way.relay.follow([])
    assert await client.reset()
    assert await server.reset()
    await took(spared, its_server)


async def test_a_silence_closes_when_it_is_to(way: Way) -> None:
    client, server = await way.pair()
    began = time.monotonic()
    way.relay.follow([Rule("silent", Silence(close_after_us=300_000))])
    assert await client.receive() == b""
    assert await server.receive() == b""
    assert time.monotonic() - began >= 0.299


# Resets, refusals, ends


async def test_live_connections_are_reset_at_both_ends_and_new_ones_are_not(way: Way) -> None:
    client, server = await way.pair()
    way.relay.follow([Rule("reset", Reset(), connections=Connections.EXISTING)])
    assert await client.reset()
    assert await server.reset()
    await took(*await way.pair())
    assert way.hits("reset") == 1


async def test_a_connection_is_reset_after_exactly_so_many_bytes(way: Way) -> None:
    client, server = await way.pair()
    way.relay.follow([Rule("reset", Reset(after_bytes=10), EGRESS)])
    await client.send(b"0123456")
    assert await server.exactly(7) == b"0123456"
    await client.send(b"789...")
    assert await client.reset()
    assert await server.reset()
    assert way.hits("reset") == 1


async def test_a_connection_is_reset_after_so_long(way: Way) -> None:
    client, server = await way.pair()
    began = time.monotonic()
    way.relay.follow([Rule("reset", Reset(after_us=1_500_000))])
    await took(client, server)
    assert await client.reset()
    assert time.monotonic() - began >= 1.499
    assert await server.reset()


async def test_nobody_listens_and_then_somebody_does_again(way: Way) -> None:
    client, server = await way.pair()
    for _ in range(3):
        way.relay.follow([Rule("down", Refuse())])
        with pytest.raises(ConnectionRefusedError):
            await way.client()
        await took(client, server)
        way.relay.follow([])
        await took(*await way.pair())


async def test_a_part_is_refused(way: Way) -> None:
    way.relay.follow([Rule("part", Refuse(), choice=Choice(nth=2))])
    await took(*await way.pair())
    refused = await way.client()
    assert await refused.reset()
    await took(*await way.pair())
    assert (way.hits("part"), way.relay.traffic()["way"].refused) == (1, 1)


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("pieces", [[100], [150], [90, 20], [25, 25, 25, 25, 25]])
async def test_data_ends_at_its_limit(way: Way, pieces: list[int], reset: bool) -> None:
    client, server = await way.pair()
    way.relay.follow([Rule("limit", LimitData(100, reset), INGRESS)])
    await client.send(b"the other way has no limit" * 10)
    await server.exactly(260)
    data, got = os.urandom(sum(pieces)), b""
    for piece in pieces[: 4 if len(pieces) == 5 else None]:  # after the fourth it has ended
        await server.send(data[len(got) : len(got) + piece])
        got += await client.exactly(min(piece, 100 - len(got)))
    assert got == data[:100]
    assert await client.reset() == reset
    assert way.hits("limit") == 1


async def test_only_the_end_is_slow(way: Way) -> None:
    client, server = await way.pair()
    way.relay.follow([Rule("slow", SlowClose(400_000), EGRESS)])
    assert await took(client, server) < 10
    began = time.monotonic()
    client.half_close()
    assert await server.receive() == b""
    assert time.monotonic() - began >= 0.399
    assert way.hits("slow") == 1


async def test_data_is_sliced_and_the_pieces_come_one_by_one(way: Way) -> None:
    client, server = await way.pair()
    way.relay.follow([Rule("cut", Slice(10, 0, 200_000), EGRESS)])
    began = time.monotonic()
    await client.send(b"x" * 100)
    assert await server.receive(100) == b"x" * 10
    rest = 100 - 10
    while rest > 0:
        rest -= len(await server.receive(100))
    assert time.monotonic() - began >= 1.799
    assert way.hits("cut") == 1


# Which


async def hit_connections(way: Way, rule: Rule, count: int) -> list[bool]:
    """Of so many new ones, one after the other, which are reset."""
    way.relay.follow([rule])
    return [await is_reset(way, await way.client()) for _ in range(count)]


async def is_reset(way: Way, client: End) -> bool:
    """Or it comes through to the server."""
    receiving, accepting = asyncio.create_task(client.reset()), asyncio.create_task(way.accept())
    done, waiting = await asyncio.wait({receiving, accepting}, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()
    return receiving in done and receiving.result()


def new(name: str, act: Act, choice: Choice) -> Rule:
    return Rule(name, act, choice=choice, connections=Connections.NEW)


async def test_the_same_seed_hits_the_same_connections(ways: Ways) -> None:
    found: dict[tuple[int, str], list[bool]] = {}
    for seed, name in ((1, "a"), (1, "a"), (2, "a"), (1, "b")):
        got = await hit_connections(await ways(), new(name, Reset(), Choice(0.5, seed=seed)), 32)
        assert found.setdefault((seed, name), got) == got
    assert len({tuple(hits) for hits in found.values()}) == 3


@pytest.mark.parametrize(
    ("choice", "hit"), [(Choice(nth=3), [3, 6, 9]), (Choice(first_n=2), [1, 2]), (Choice(nth=2, first_n=2), [2, 4])]
)
async def test_every_nth_and_the_first_n(way: Way, choice: Choice, hit: list[int]) -> None:
    found = await hit_connections(way, new("some", Reset(), choice), 10)
    assert [n for n, was in enumerate(found, 1) if was] == hit
    assert way.hits("some") == len(hit)


async def test_the_dice_are_not_thrown_again_when_a_rule_changes(way: Way) -> None:
    """Toxiproxy throws them for every connection at every update."""
    for _ in range(30):
        await way.pair()

    def rule(probability: float, delay_us: int) -> Rule:
        return Rule("some", Hold(delay_us), EGRESS, Choice(probability, seed=5))

    def held() -> set[int]:
        return {n for n, connection in enumerate(way.relay._connections) if connection._rules}

    way.relay.follow([rule(0.3, 20_000)])
    first = held()
    assert 0 < len(first) < 30
    for delay in (21_000, 22_000, 23_000):
        way.relay.follow([rule(0.3, delay), Rule("other", SlowClose(1000), listener="another")])
        assert held() == first
    way.relay.follow([rule(0.7, 20_000)])
    assert first < held() < set(range(30))
    way.relay.follow([rule(0.3, 20_000)])
    assert held() == first


async def test_a_rule_is_for_its_listener(ways: Ways) -> None:
    way = await ways()
    from bounceback.proxy.upstream import Fixed

    other = await way.relay.listen("other", "127.0.0.1", 0, Fixed("127.0.0.1", way.server.getsockname()[1]))
    way.relay.follow([Rule("no", Refuse(), listener="other")])
    await took(*await way.pair())
    here, way.address = way.address, other
    with pytest.raises(ConnectionRefusedError):
        await way.client()
    way.address = here


def test_names_of_rules_are_their_own() -> None:
    from bounceback.proxy.rulebook import Rulebook

    twice: Iterable[Rule] = [Rule("a", Refuse()), Rule("a", Hold(1))]
    with pytest.raises(ValueError, match="name of its own"):
        Rulebook().change(twice, 0.0, 1)
