"""UDP through the relay, on real sockets."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from bounceback.proxy.counters import Traffic
from bounceback.proxy.relay import Relay
from bounceback.proxy.rulebook import Rulebook
from bounceback.proxy.udp import Datagrams, Waiting
from bounceback.proxy.upstream import Address, Fixed
from bounceback.types.choice import Choice
from bounceback.types.plan import Direction
from bounceback.types.relay import Corrupt, Drawn, Duplicate, Hold, Lose, Reorder, Rule, Silence, Throttle
from tests.relay.conftest import PATIENCE, until

EGRESS, INGRESS = Direction.EGRESS, Direction.INGRESS


def datagrams(host: str) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    sock.bind((host, 0))
    return sock


async def received(sock: socket.socket, seconds: float = PATIENCE) -> tuple[bytes, tuple[str, int]]:
    """The next one, and who sent it. Raises TimeoutError."""
    loop, readable = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(sock, readable.set)
    try:
        try:
            async with asyncio.timeout(seconds):
                await readable.wait()
        except TimeoutError:
            await asyncio.sleep(0.1)  # a loop that had to stand still meanwhile has not looked yet
            if not readable.is_set():
                raise
    finally:
        loop.remove_reader(sock)
    data, sender = sock.recvfrom(65535)
    return data, sender


@dataclass
class Post:
    """Clients, the relay, and a server."""

    relay: Relay
    address: tuple[str, int]
    server: socket.socket
    host: str
    made: list[socket.socket] = field(default_factory=list)

    def client(self) -> socket.socket:
        sock = datagrams(self.host)
        sock.connect(self.address)
        self.made.append(sock)
        return sock

    async def at_server(self) -> tuple[bytes, tuple[str, int]]:
        return await received(self.server)

    async def at(self, client: socket.socket) -> bytes:
        return (await received(client))[0]

    async def counted(self, seconds: float = 0.8) -> list[bytes]:
        """All that reaches the server until nothing more comes for so long."""
        found = []
        while True:
            try:
                found.append((await received(self.server, seconds))[0])
            except TimeoutError:
                return found

    async def send_many(self, client: socket.socket, count: int) -> None:
        for n in range(count):
            client.send(n.to_bytes(4, "big"))
            if n % 50 == 0:
                await asyncio.sleep(0.001)

    def hits(self, rule: str) -> int:
        return self.relay.counters()[rule].hits


@pytest.fixture(params=["127.0.0.1", "::1"])
async def post(request: pytest.FixtureRequest) -> AsyncIterator[Post]:
    host = str(request.param)
    server, relay = datagrams(host), Relay()
    address = await relay.listen_udp("post", host, 0, Fixed(host, server.getsockname()[1]))
    made = Post(relay, address, server, host)
    yield made
    await relay.drain(0)
    for sock in (server, *made.made):
        sock.close()


async def test_nothing_is_lost_of_what_comes_before_the_server_is_known(post: Post) -> None:
    """As to a relay that had no processor for a while: all of it is read before the loop gets to the connection."""
    client = post.client()
    for n in range(200):
        client.send(n.to_bytes(4, "big"))
    assert len(await post.counted()) == 200


async def test_answers_go_to_who_asked(post: Post) -> None:
    clients = [post.client() for _ in range(5)]
    for n, client in enumerate(clients):
        client.send(b"question %d" % n)
    for _ in clients:
        data, sender = await post.at_server()
        post.server.sendto(data.replace(b"question", b"answer"), sender)
    for n, client in enumerate(clients):
        assert await post.at(client) == b"answer %d" % n
    assert post.relay.traffic()["post"].accepted == 5


async def test_datagrams_stay_whole_whatever_their_size(post: Post) -> None:
    client = post.client()
    for size in (1, 1472, 1473, 60_000):
        client.send(bytes(size))
        assert len((await post.at_server())[0]) == size


async def test_an_empty_datagram_arrives(post: Post) -> None:
    client = post.client()
    client.send(b"")
    assert (await post.at_server())[0] == b""


async def test_a_delay_is_for_its_direction(post: Post) -> None:
    client = post.client()
    post.relay.follow([Rule("late", Hold(1_000_000), INGRESS)])
    began = time.monotonic()
    client.send(b"question")
    _, sender = await post.at_server()
    assert time.monotonic() - began < 1
    began = time.monotonic()
    post.server.sendto(b"answer", sender)
    assert await post.at(client) == b"answer"
    assert time.monotonic() - began >= 0.999
    assert post.hits("late") == 1


async def test_a_share_is_lost_within_the_bounds_of_chance_and_all_is_counted(post: Post) -> None:
    client = post.client()
    post.relay.follow([Rule("lossy", Lose(0.1), EGRESS, Choice(seed=3))])
    await post.send_many(client, 4000)
    arrived = len(await post.counted())
    assert arrived + post.hits("lossy") == 4000
    assert 400 - 64 < post.hits("lossy") < 400 + 64  # 99.9 % of the binomial distribution, and the seed is fixed


async def test_the_same_seed_loses_the_same(post: Post) -> None:
    found = []
    for name in ("a", "a", "b"):
        relay = Relay()
        address = await relay.listen_udp("post", post.host, 0, Fixed(post.host, post.server.getsockname()[1]))
        relay.follow([Rule(name, Lose(0.5), EGRESS, Choice(seed=9))])
        client = datagrams(post.host)
        client.connect(address)
        await post.send_many(client, 200)
        found.append(await post.counted())
        client.close()
        await relay.drain(0)
    assert found[0] == found[1] != found[2]


async def test_every_nth_datagram_and_the_first_ones(post: Post) -> None:
    client = post.client()
    post.relay.follow([Rule("lossy", Lose(1.0), EGRESS, Choice(nth=4, first_n=3))])
    await post.send_many(client, 20)
    arrived = [int.from_bytes(data, "big") + 1 for data in await post.counted()]
    assert sorted(set(range(1, 21)) - set(arrived)) == [4, 8, 12]


async def test_datagrams_arrive_twice(post: Post) -> None:
    client = post.client()
    post.relay.follow([Rule("twice", Duplicate(1.0), EGRESS)])
    await post.send_many(client, 50)
    assert len(await post.counted()) == 100
    assert post.hits("twice") == 50


async def test_datagrams_overtake_each_other(post: Post) -> None:
    client = post.client()
    post.relay.follow([Rule("mixed", Reorder(1.0, delay_us=1_000_000), EGRESS, Choice(nth=10))])
    await post.send_many(client, 100)
    arrived = [int.from_bytes(data, "big") for data in await post.counted(2)]
    assert arrived[:10] == list(range(9, 100, 10))
    assert sorted(arrived) == list(range(100))


async def test_a_datagram_is_changed_in_one_bit(post: Post) -> None:
    client = post.client()
    post.relay.follow([Rule("noise", Corrupt(1.0), EGRESS)])
    client.send(bytes(100))
    data, _ = await post.at_server()
    assert sum(byte.bit_count() for byte in data) == 1


async def test_what_is_over_the_rate_waits_and_then_is_lost(post: Post) -> None:
    client = post.client()
    post.relay.follow([Rule("slow", Throttle(100_000, 10_000), EGRESS)])
    began = time.monotonic()
    for _ in range(100):
        client.send(bytes(1000))
    arrived = len(await post.counted(0.6))
    took = time.monotonic() - began - 0.6
    assert 40 <= arrived <= 60 + took * 100  # the burst, 0.4 s of the rate, and what fitted meanwhile
    assert post.hits("slow") >= 40


async def test_half_of_the_clients_are_silent(post: Post) -> None:
    post.relay.follow([Rule("silent", Silence(), EGRESS, Choice(nth=2))])
    clients = [post.client() for _ in range(6)]
    for n, client in enumerate(clients):
        client.send(b"%d" % n)
        await until(lambda n=n: post.relay.traffic()["post"].accepted == n + 1)  # type: ignore[misc]
    assert sorted(await post.counted()) == [b"0", b"2", b"4"]
    post.relay.follow([])
    for client in clients:
        client.send(b"again")
    assert len(await post.counted()) == 6


async def test_a_delay_of_single_datagrams(post: Post) -> None:
    client = post.client()
    post.relay.follow([Rule("late", Hold(1_000_000), EGRESS, Choice(nth=2), Drawn.SEGMENT)])
    await post.send_many(client, 4)
    assert [int.from_bytes(data, "big") for data in await post.counted(2)] == [0, 2, 1, 3]


async def test_a_server_that_is_not_there_is_silence_and_counted(post: Post) -> None:
    client = post.client()
    client.send(b"x")
    await post.at_server()
    post.server.close()
    for _ in range(3):
        client.send(b"x")
        await asyncio.sleep(0.05)
    await until(lambda: post.relay.traffic()["post"].unreachable > 0)


@dataclass
class Away:
    """An upstream that cannot be reached at first."""

    address: Address
    tries: int = 0
    mark: int = 0

    async def addresses(self, accepted: socket.socket | None) -> list[Address]:
        self.tries += 1
        if self.tries == 1:
            raise OSError("no route to it")
        return [self.address]


async def test_a_client_whose_upstream_was_away_is_led_there_later(post: Post) -> None:
    away = Away((post.host, post.server.getsockname()[1]))
    address = await post.relay.listen_udp("away", post.host, 0, away)
    client = datagrams(post.host)
    post.made.append(client)
    client.connect(address)
    client.send(b"lost")
    await until(lambda: post.relay.traffic()["away"].unreachable == 1)
    client.send(b"arrives")
    assert (await post.at_server())[0] == b"arrives"
    assert post.relay.traffic()["away"].open == 1


async def test_listeners_that_share_their_room_hold_no_more_than_it_has_and_let_go_in_order(post: Post) -> None:
    room, book, target = Waiting(most=100, most_bytes=1000), Rulebook(), Fixed(post.host, post.server.getsockname()[1])
    book.change([Rule("late", Hold(3_600_000_000), EGRESS)], 0.0, 1)
    both = [Datagrams("it", datagrams(post.host), target, book, Traffic(), lambda: 1, room) for _ in range(2)]
    clients = [post.client() for _ in both]
    for client, listener in zip(clients, both, strict=True):
        client.connect(listener.address)
    for n in range(10):
        clients[n % 2].send(b"%d" % n + b"." * 199)
    await until(lambda: sum(listener.traffic.bytes_egress for listener in both) == 2000)
    assert (room.number, room.bytes) == (5, 1000)
    for listener in both:
        listener.let_go()
    assert (room.number, room.bytes) == (0, 0)
    let_go = [int(data[:1]) for data in await post.counted(0.3)]
    assert len(let_go) == 5
    for parity in (0, 1):  # of one client in the order in which they were said
        assert (of_client := [n for n in let_go if n % 2 == parity]) == sorted(of_client)
    clients[0].send(b"held again")
    await until(lambda: room.number == 1)
    for listener in both:
        listener.close()
    assert (room.number, room.bytes) == (0, 0)


async def test_who_said_nothing_for_as_long_as_it_may_is_forgotten(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bounceback.proxy.udp.LOOK_SECONDS", 0.05)
    target, traffic = Fixed(post.host, post.server.getsockname()[1]), Traffic()
    listener = Datagrams("it", datagrams(post.host), target, Rulebook(), traffic, lambda: 1, idle_seconds=2.0)
    client = post.client()
    client.connect(listener.address)
    client.send(b"once")
    await post.at_server()
    assert traffic.open == 1
    await until(lambda: traffic.open == 0)
    listener.close()
