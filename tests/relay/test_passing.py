"""What goes through untouched, and how connections begin and end."""

from __future__ import annotations

import asyncio
import os
import resource
import socket

import pytest

from bounceback.proxy.relay import Accepted
from bounceback.proxy.side import Budget
from bounceback.proxy.upstream import Fixed
from bounceback.types.plan import Direction
from bounceback.types.relay import Hold, Refuse, Reset, Rule, Throttle
from tests.relay.conftest import End, Way, Ways, until

MIB = 1 << 20


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_what_is_sent_arrives_whole_both_ways(ways: Ways, host: str) -> None:
    way = await ways(host)
    client, server = await way.pair()
    there, back = os.urandom(5 * MIB), os.urandom(3 * MIB)
    *_, got_there, got_back = await asyncio.gather(
        client.send(there), server.send(back), server.exactly(len(there)), client.exactly(len(back))
    )
    assert (got_there, got_back) == (there, back)
    traffic = way.relay.traffic()["way"]
    assert (traffic.bytes_egress, traffic.bytes_ingress) == (len(there) + 1, len(back) + 1)


async def test_what_the_server_says_first_arrives(way: Way) -> None:
    client = await way.client()
    server = await way.accept()
    await server.send(b"220 hello\r\n")
    assert await client.exactly(11) == b"220 hello\r\n"


@pytest.mark.parametrize("rules", [(), (Rule("late", Hold(20_000)),)], ids=["bare", "with a rule"])
async def test_one_way_ends_and_the_other_goes_on(way: Way, rules: tuple[Rule, ...]) -> None:
    client, server = await way.pair()
    way.relay.follow(rules)
    await client.send(b"question")
    client.half_close()
    assert await server.all() == b"question"
    await server.send(b"answer")
    assert await client.exactly(6) == b"answer"
    server.half_close()
    assert await client.receive() == b""
    await until(lambda: way.relay.open == 0)


@pytest.mark.parametrize("rules", [(), (Rule("late", Hold(20_000)),)], ids=["bare", "with a rule"])
@pytest.mark.parametrize("who", ["client", "server"])
async def test_a_reset_stays_a_reset(way: Way, who: str, rules: tuple[Rule, ...]) -> None:
    client, server = await way.pair()
    way.relay.follow(rules)
    first, second = (client, server) if who == "client" else (server, client)
    first.abort()
    assert await second.reset()
    await until(lambda: way.relay.open == 0)


async def test_an_orderly_end_stays_an_orderly_end(way: Way) -> None:
    client, server = await way.pair()
    client.close()
    assert not await server.reset()


async def test_an_upstream_that_is_not_there_is_a_reset(ways: Ways) -> None:
    way = await ways()
    way.server.close()
    client = await way.client()
    assert await client.reset()
    assert way.relay.traffic()["way"].unreachable == 1
    assert way.relay.open == 0


async def accepted_bytes(end: End, most: int) -> int:
    """How much it takes until it takes no more for a while."""
    sent, piece = 0, bytes(256 * 1024)
    quiet = 0
    while quiet < 5 and sent < most:
        try:
            sent += end.sock.send(piece)
            quiet = 0
        except BlockingIOError:
            quiet += 1
        await asyncio.sleep(0.05 if quiet else 0)
    return sent


@pytest.mark.parametrize(
    ("rules", "held"),
    [((), 0), ((Rule("slow", Throttle(1000)),), 4 * MIB), ((Rule("late", Hold(600_000_000)),), 4 * MIB)],
    ids=["bare", "throttled", "held"],
)
async def test_who_is_not_read_from_cannot_send_for_ever(ways: Ways, rules: tuple[Rule, ...], held: int) -> None:
    """The kernel's buffers and what a lane may hold; a relay without back-pressure takes all 256 MiB."""
    way = await ways(budget=Budget(4 * MIB))
    client, _ = await way.pair()
    way.relay.follow(rules)
    before = resident()
    sent = await accepted_bytes(client, 256 * MIB)
    assert sent < 128 * MIB
    assert resident() - before < 24 * MIB + held


def resident() -> int:
    """Bytes of this process."""
    with open("/proc/self/statm") as file:  # noqa: PTH123 - as short as it can be
        return int(file.read().split()[1]) * resource.getpagesize()


async def test_who_reads_again_gets_all_of_it(way: Way) -> None:
    client, server = await way.pair()
    data = os.urandom(16 * MIB)
    sending = asyncio.create_task(client.send(data))
    await asyncio.sleep(0.3)
    assert not sending.done()
    assert await server.exactly(len(data)) == data
    await sending


async def test_bulk_arrives_whole_while_rules_come_and_go(way: Way) -> None:
    client, server = await way.pair()
    data = os.urandom(MIB) * 48

    async def change() -> None:
        for n in range(20):
            way.relay.follow([Rule("late", Hold(1000))] if n % 2 else [])
            await asyncio.sleep(0.01)

    sending = asyncio.gather(client.send(data), change())
    got = bytearray()
    while len(got) < len(data):
        got += await server.receive(MIB)
    await sending
    assert got == data
    await client.send(b"little")
    assert await server.exactly(6) == b"little"
    client.half_close()
    assert await server.receive() == b""
    server.abort()
    assert await client.reset()
    assert way.relay.traffic()["way"].bytes_egress == len(data) + 7


async def test_all_lanes_together_hold_no_more_than_they_may(ways: Ways) -> None:
    way = await ways(budget=Budget(each=4 * MIB, total=6 * MIB))
    pairs = [await way.pair() for _ in range(8)]
    way.relay.follow([Rule("late", Hold(600_000_000), Direction.EGRESS)])
    await asyncio.gather(*(accepted_bytes(client, 32 * MIB) for client, _ in pairs))
    assert sum(counter.bytes for counter in way.relay.counters().values()) < 6 * MIB + 8 * (MIB // 2)


async def test_running_out_of_descriptors_is_waited_for(ways: Ways) -> None:
    way = await ways()
    await way.pair()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    waiting = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))  # not one more
    try:
        await asyncio.get_running_loop().sock_connect(waiting, way.address)
        await asyncio.sleep(0.3)
        assert way.relay.traffic()["way"].accepted == 1
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    end = End(waiting)
    way.ends.append(end)
    server = await way.accept()
    await end.send(b"still here")
    assert await server.exactly(10) == b"still here"


async def test_draining_waits_and_then_resets(way: Way) -> None:
    staying, its_server = await way.pair()
    leaving, its_other_end = await way.pair()
    draining = asyncio.create_task(way.relay.drain(3.0))
    await asyncio.sleep(0.1)
    with pytest.raises(ConnectionRefusedError):
        await way.client()
    leaving.close()
    its_other_end.close()
    await staying.send(b"x")
    assert await its_server.exactly(1) == b"x"
    assert await draining == 1
    assert await staying.reset()
    assert await its_server.reset()
    assert way.relay.traffic()["way"].reset == 1


async def test_rules_still_change_while_it_drains(way: Way) -> None:
    client, server = await way.pair()
    draining = asyncio.create_task(way.relay.drain(600))
    await asyncio.sleep(0.05)
    way.relay.follow([Rule("no", Refuse())])
    way.relay.follow([Rule("reset", Reset())])
    assert await client.reset()
    assert await server.reset()
    assert await asyncio.wait_for(draining, 10) == 0


async def test_a_handlers_mistake_leaves_nobody_waiting(ways: Ways) -> None:
    async def fails(accepted: Accepted) -> bool:
        raise ZeroDivisionError

    way = await ways(handler=fails)
    client = await way.client()
    assert await client.reset()
    assert way.relay.open == 0


async def test_draining_ends_as_soon_as_all_have_gone(way: Way) -> None:
    client, server = await way.pair()
    draining = asyncio.create_task(way.relay.drain(600))
    client.close()
    server.close()
    assert await asyncio.wait_for(draining, 10) == 0


async def test_a_name_as_upstream_is_looked_up(ways: Ways) -> None:
    way = await ways()
    address = await way.relay.listen("name", "127.0.0.1", 0, Fixed("localhost", way.server.getsockname()[1]))
    way.address = address
    await way.pair()


async def test_a_handler_takes_what_it_wants_and_leaves_the_rest_untouched(ways: Ways) -> None:
    async def takes_greetings(accepted: Accepted) -> bool:
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        loop.add_reader(accepted.sock, readable.set)
        await readable.wait()
        loop.remove_reader(accepted.sock)
        if accepted.sock.recv(5, socket.MSG_PEEK) != b"hello":
            return False
        accepted.sock.send(b"taken")
        accepted.sock.close()
        return True

    way = await ways(handler=takes_greetings)
    greeting = await way.client()
    await greeting.send(b"hello")
    assert await greeting.receive() == b"taken"
    other = await way.client()
    await other.send(b"other words")
    server = await way.accept()
    assert await server.exactly(11) == b"other words"
    assert way.relay.traffic()["way"].accepted == 2
