"""What Toxiproxy publishes of its toxics (its README and its own tests), said in our file and held to.

Each row is a toxic as the file of `bounceback proxy` has it, and what then must be seen. Its tests allow 10 ms and
more; here the lower bounds are exact, and the upper ones leave room for a busy machine. Below are the defects that it
is known for, by its users and its source: with us none of them may be.
"""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import pytest

from bounceback.cli.proxy_file import Protocol, file_of
from bounceback.types.relay import Rule
from tests.relay.conftest import NAME, End, Way, until

Check = Callable[[Way], Awaitable[None]]
ROOM: Final = 4.0
"""Seconds that a busy machine may add to what must take a certain time."""


def rules(*faults: dict[str, Any]) -> list[Rule]:
    entries = [{"name": f"f{n}", **fault} for n, fault in enumerate(faults)]
    found, problems = file_of({"faults": entries}, {NAME: Protocol.TCP})
    assert found is not None, problems
    return [rule for fault in found.faults for rule in fault.all_rules if isinstance(rule, Rule)]


def latency(milliseconds: int, direction: str, jitter: int = 0) -> dict[str, Any]:
    fault = {"delayMilliseconds": milliseconds, "jitterMilliseconds": jitter, "direction": direction}
    return {"networkDelay": fault}


def between(low: float, high: float) -> Any:
    return pytest.approx((low + high) / 2, abs=(high - low) / 2)


# latency: "a delay to all data going through the proxy, equal to latency +/- jitter" (toxics/latency_test.go)


def round_trip(up: int, down: int, jitter: int = 0) -> Check:
    async def check(way: Way) -> None:
        client, server = await way.pair()
        faults = [latency(up, "Egress", jitter)] if up else []
        way.relay.follow(rules(*faults, *([latency(down, "Ingress", jitter)] if down else [])))
        message = b"hello world " + b"a" * 32 * 1024 + b"\n"
        began = time.monotonic()
        await client.send(message)
        assert await server.exactly(len(message)) == message
        there = time.monotonic()
        assert there - began == between((up - jitter) / 1000 - 0.001, (up + jitter) / 1000 + ROOM)
        await server.send(message)
        assert await client.exactly(len(message)) == message
        assert time.monotonic() - there == between((down - jitter) / 1000 - 0.001, (down + jitter) / 1000 + ROOM)

    return check


async def two_latencies_add_up(way: Way) -> None:
    client, server = await way.pair()
    way.relay.follow(rules(latency(500, "Egress"), latency(500, "Egress")))
    began = time.monotonic()
    await client.send(b"hello world")
    await server.exactly(11)
    assert time.monotonic() - began == between(0.999, 1 + ROOM)


async def latency_leaves_bandwidth(way: Way) -> None:
    """TestLatencyToxicBandwidth asks for 100 MB/s at 100 ms, on a machine of its own; a fifth of it here."""
    client, server = await way.pair()
    way.relay.follow(rules(latency(100, "Ingress")))
    size = 20_000_000
    sending = asyncio.create_task(server.send(bytes(size)))
    began = time.monotonic()
    await client.exactly_dropped(size)
    assert time.monotonic() - began < size / 20e6 + ROOM
    await sending


async def latency_survives_short_connections(way: Way) -> None:
    """TestLatencyToxicCloseRace."""
    for _ in range(200):
        way.relay.follow(rules(latency(10, "Egress")))
        client = await way.client()
        await client.send(b"hello")
        client.close()
        way.relay.follow([])
        (await way.accept()).close()
    await until(lambda: way.relay.open == 0)


# slow_close: "delay the TCP socket from closing until delay has elapsed" (README)


async def only_the_close_is_slow(way: Way) -> None:
    client, server = await way.pair()
    way.relay.follow(rules({"connectionSlowClose": {"delayMilliseconds": 3000}}))
    began = time.monotonic()
    await client.send(b"at once")
    client.half_close()
    assert await server.exactly(7) == b"at once"
    assert time.monotonic() - began < 2.9
    assert await server.receive() == b""
    assert time.monotonic() - began == between(2.999, 3 + ROOM)


# timeout: "stops all data from getting through, and closes the connection after timeout. If timeout is 0, the
# connection won't close, and data will be dropped until the toxic is removed"


async def data_stops_and_the_connection_closes(way: Way) -> None:
    client, server = await way.pair()
    way.relay.follow(rules({"connectionTimeout": {"discard": True, "closeAfterMilliseconds": 300}}))
    began = time.monotonic()
    await client.send(b"dropped")
    assert await server.receive() == b""
    assert time.monotonic() - began == between(0.299, 0.3 + ROOM)
    assert await client.receive() == b""


async def data_is_dropped_until_it_is_removed(way: Way) -> None:
    """And the connection ends then (TestTimeoutToxicClosesConnectionOnRemove), for it lost bytes."""
    client, server = await way.pair()
    way.relay.follow(rules(latency(10, "Egress"), {"connectionTimeout": {"discard": True}}))
    for _ in range(5):
        await client.send(b"hello")
    assert await server.is_silent(0.4)
    way.relay.follow(rules(latency(10, "Egress")))  # TestTimeoutToxicDoesNotCauseHang, the other way round
    assert await server.reset()
    assert await client.reset()


# bandwidth: "limit a connection to a maximum number of kilobytes per second" (toxics/bandwidth_test.go)


async def data_comes_at_its_rate(way: Way) -> None:
    pairs = [await way.pair() for _ in range(2)]
    bandwidth = {"kilobitsPerSecond": 8000, "burstKilobytes": 10, "direction": "Egress"}
    way.relay.follow(rules({"networkBandwidth": bandwidth, "per": "Connection"}))
    payload = os.urandom(480_000)

    async def carry(client: End, server: End) -> float:
        began = time.monotonic()
        sending = asyncio.create_task(client.send(payload))
        assert await server.exactly(len(payload)) == payload
        await sending
        return time.monotonic() - began

    for took in await asyncio.gather(*(carry(*pair) for pair in pairs)):  # each has a rate of its own
        assert took == between(0.46, 0.48 + ROOM)


# reset_peer: "simulate TCP RESET on the connections, immediately or after a timeout" (toxics/reset_peer_test.go)


def reset(milliseconds: int, direction: str) -> Check:
    async def check(way: Way) -> None:
        client, server = await way.pair()
        began = time.monotonic()
        way.relay.follow(rules({"connectionReset": {"afterMilliseconds": milliseconds, "direction": direction}}))
        assert await client.reset()
        assert time.monotonic() - began == between(milliseconds / 1000 - 0.001, milliseconds / 1000 + ROOM)
        assert await server.reset()

    return check


# slicer: "slices TCP data up into small bits" (toxics/slicer_test.go)


def sliced(size: int, average: int, variation: int, least: int, most: int) -> Check:
    async def check(way: Way) -> None:
        client, server = await way.pair()
        fault = {"sizeBytes": average, "variationBytes": variation, "pauseMicroseconds": 30_000, "direction": "Egress"}
        way.relay.follow(rules({"connectionSlicing": fault}))
        payload = (b"hello world " * 40_000)[:size]
        sending = asyncio.create_task(client.send(payload))
        got, reads = b"", 0
        while len(got) < size:
            got += await server.receive()
            reads += 1
        await sending
        assert got == payload
        assert least <= reads <= most

    return check


# limit_data: "closes connection when transmitted data exceeded limit" (toxics/limit_data_test.go)


def limited(*chunks: int, passes: int, limit: int = 100) -> Check:
    async def check(way: Way) -> None:
        client, server = await way.pair()
        way.relay.follow(rules({"connectionDataLimit": {"limitBytes": limit, "direction": "Egress"}}))
        data, got = os.urandom(sum(chunks)), b""
        for chunk in chunks:
            expected = min(chunk, passes - len(got))
            await client.send(data[len(got) : len(got) + chunk])
            got += await server.exactly(expected)
        assert got == data[:passes]
        if passes == limit:
            assert await server.receive() == b""
        else:
            assert await server.is_silent(0.1)

    return check


# down: "bringing a service down"; toxicity: "probability of the toxic being applied to a link"


async def down_closes_all_and_up_again(way: Way) -> None:
    client, server = await way.pair()
    way.relay.follow(rules({"connectionRefusal": {}}))
    assert await client.reset()
    assert await server.reset()
    with pytest.raises(ConnectionRefusedError):
        await way.client()
    way.relay.follow([])
    await way.pair()


def toxicity(percent: int) -> Check:
    async def check(way: Way) -> None:
        way.relay.follow(rules({**latency(1, "Egress"), "probability": percent, "per": "Connection", "seed": 11}))
        for _ in range(100):
            await way.pair()
        share, spread = percent / 100, math.sqrt(percent * (100 - percent)) / 100
        assert way.relay.counters()["f0"].connections == between(
            100 * share - 33 * spread, 100 * share + 33 * spread
        )  # 99.9 % of the binomial distribution

    return check


TABLE: Final[dict[str, Check]] = {
    "latency upstream": round_trip(100, 0),
    "latency downstream": round_trip(0, 100),
    "latency both": round_trip(100, 100),
    "latency more up": round_trip(1000, 100),
    "latency more down": round_trip(100, 1000),
    "latency with jitter": round_trip(100, 100, 50),
    "no latency": round_trip(0, 0),
    "latency twice": two_latencies_add_up,
    "latency at speed": latency_leaves_bandwidth,
    "latency and short connections": latency_survives_short_connections,
    "slow_close": only_the_close_is_slow,
    "timeout": data_stops_and_the_connection_closes,
    "timeout 0": data_is_dropped_until_it_is_removed,
    "bandwidth": data_comes_at_its_rate,
    "reset_peer": reset(0, "Egress"),
    "reset_peer after a time": reset(100, "Egress"),
    "reset_peer downstream": reset(100, "Ingress"),
    "slicer": sliced(24_000, 1024, 512, 5, 47),
    "slicer without variation": sliced(240, 10, 0, 5, 24),
    "limit_data below": limited(50, passes=50),
    "limit_data exactly": limited(100, passes=100),
    "limit_data above": limited(150, passes=100),
    "limit_data in chunks": limited(25, 25, 25, 25, passes=100),
    "limit_data over in the second": limited(90, 20, passes=100),
    "limit_data of nothing": limited(100, passes=0, limit=0),
    "down": down_closes_all_and_up_again,
    "toxicity 0": toxicity(0),
    "toxicity 30": toxicity(30),
    "toxicity 100": toxicity(100),
}


@pytest.mark.parametrize("toxic", TABLE)
async def test_a_toxic_does_what_its_users_know(way: Way, toxic: str) -> None:
    await TABLE[toxic](way)


# What is wrong with it


async def a_live_connection_gets_a_real_reset(way: Way) -> None:
    """There SO_LINGER is set when a link starts, so a connection that was open before sees a FIN."""
    client, server = await way.pair()
    way.relay.follow(rules({"connectionReset": {}}))
    assert await client.reset()
    assert await server.reset()


async def half_close_is_kept(way: Way) -> None:
    """There both halves are closed: what the server still says is lost."""
    client, server = await way.pair()
    client.half_close()
    assert await server.receive() == b""
    await server.send(b"and yet")
    assert await client.exactly(7) == b"and yet"


async def a_reset_is_not_made_an_orderly_end(way: Way) -> None:
    """There a reset by the client reaches the server as a FIN."""
    client, server = await way.pair()
    client.abort()
    assert await server.reset()


async def lifting_a_timeout_leaves_connections(way: Way) -> None:
    """There it closes them."""
    client, server = await way.pair()
    way.relay.follow(rules({"connectionTimeout": {}}))
    await client.send(b"kept")
    assert await server.is_silent(0.2)
    way.relay.follow([])
    assert await server.exactly(4) == b"kept"
    await server.send(b"still here")
    assert await client.exactly(10) == b"still here"


async def lifting_a_rate_loses_nothing(way: Way) -> None:
    """There the last packets are written with a deadline of 5 s, and given up after it."""
    client, server = await way.pair()
    way.relay.follow(rules({"connectionSlicing": {"sizeBytes": 100, "pauseMicroseconds": 1_000_000}}))
    payload = os.urandom(200_000)
    await client.send(payload)
    way.relay.follow([])
    assert await server.exactly(len(payload)) == payload


async def the_opening_of_a_connection_is_delayed(way: Way) -> None:
    """There the upstream is dialled at once, whatever the latency."""
    way.relay.follow(rules(latency(200, "Both")))
    began = time.monotonic()
    await way.client()
    await way.accept()
    assert time.monotonic() - began >= 0.399


async def changing_one_fault_throws_no_dice_for_another(way: Way) -> None:
    """There an update starts the toxic's links anew and throws for each."""
    for _ in range(40):
        await way.pair()
    half = {**latency(1, "Egress"), "probability": 50, "per": "Connection", "seed": 1}
    way.relay.follow(rules(half, latency(2, "Egress")))
    before = way.relay.counters()["f0"].connections
    for delay in range(3, 9):
        way.relay.follow(rules(half, latency(delay, "Egress")))
    assert way.relay.counters()["f0"].connections == before


DEFECTS: Final[dict[str, Check]] = {
    check.__name__.replace("_", " "): check
    for check in (
        a_live_connection_gets_a_real_reset,
        half_close_is_kept,
        a_reset_is_not_made_an_orderly_end,
        lifting_a_timeout_leaves_connections,
        lifting_a_rate_loses_nothing,
        the_opening_of_a_connection_is_delayed,
        changing_one_fault_throws_no_dice_for_another,
    )
}


@pytest.mark.parametrize("defect", DEFECTS)
async def test_what_is_wrong_there_is_right_here(way: Way, defect: str) -> None:
    await DEFECTS[defect](way)
