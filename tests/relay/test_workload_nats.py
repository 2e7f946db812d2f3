"""Workloads on a real JetStream: what a stream keeps, drops and repeats, and what its answers mean."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client
from nats.js.api import ConsumerConfig, DiscardPolicy, RetentionPolicy

from bounceback.accounting.account import Account, Flaw, judge
from bounceback.accounting.checking import check
from bounceback.accounting.ledger import Function, Model, Outcome
from bounceback.api.workload import Workload
from bounceback.types.outcome import Verdict
from bounceback.workload.running import NoFirstLookError, Run
from bounceback.workload.systems import system_of
from tests import real_servers
from tests.real_servers import Server

UNKNOWN, OK, FAILED = Outcome


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with real_servers.nats("--user", "shop", "--pass", "secret") as running:
        yield running


@pytest.fixture(autouse=True)
def password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_PASSWORD", "secret")


@asynccontextmanager
async def connected(server: Server) -> AsyncIterator[Client]:
    client = Client()
    await client.connect(f"nats://127.0.0.1:{server.port}", user="shop", password="secret")
    try:
        yield client
    finally:
        await client.close()


async def make(server: Server, name: str, *, ack_wait: float = 30, **limits: Any) -> None:
    """A stream, and a consumer `worker` of it."""
    async with connected(server) as client:
        streams = client.jetstream()
        await streams.add_stream(name=name, subjects=[f"{name}.*"], **limits)
        explicit: Any = "explicit"
        await streams.add_consumer(
            name, ConsumerConfig(durable_name="worker", ack_policy=explicit, ack_wait=ack_wait, max_ack_pending=1000)
        )


def workload(server: Server, model: Model, stream: str, **changes: Any) -> Workload:
    place = {"host": "127.0.0.1", "port": server.port, "user": "shop", "passwordVariable": "SHOP_PASSWORD"}
    place |= {"stream": stream, "subject": f"{stream}.{{key}}"}
    if model is Model.QUEUE:
        place["consumer"] = "worker"
    few = {"load": {"closed": {"clients": 8}}, "mostOperations": 300, "seconds": 3600, "settleSeconds": 0}
    nats = place | changes.pop("nats", {})
    return Workload.model_validate({"model": model, "nats": nats, "timeoutMilliseconds": 20_000} | few | changes)


async def carried_out(asked: Workload, run: int = 1) -> Account:
    running = Run(asked, system_of(asked), run)
    await running.live()
    return check(asked.model, running.course.ledger)


@pytest.mark.parametrize("model", [Model.SET, Model.QUEUE])
async def test_a_stream_that_keeps_what_it_acknowledged_passes(model: Model, server: Server) -> None:
    await make(server, f"kept-{model}")
    account = await carried_out(workload(server, model, f"kept-{model}"))
    assert (account.failed, account.unknown) == (0, 0)
    assert account.acknowledged > 50
    assert judge(account).verdict is Verdict.PASSED


async def test_a_stream_is_filled_at_a_fixed_rate_and_read_back_in_order(server: Server) -> None:
    await make(server, "steady")
    load = {"load": {"open": {"perSecond": 300, "connections": 8}}, "seconds": 1, "readPercent": 0}
    account = await carried_out(workload(server, Model.QUEUE, "steady", **load))
    assert account.acknowledged > 20
    assert judge(account).verdict is Verdict.PASSED


async def test_a_stream_that_drops_the_oldest_has_lost_them(server: Server) -> None:
    await make(server, "short", max_msgs=100, discard=DiscardPolicy.OLD)
    account = await carried_out(workload(server, Model.SET, "short"))
    assert account.count(Flaw.LOST) == account.acknowledged - 100
    assert judge(account).verdict is Verdict.FAILED


async def test_a_stream_that_refuses_the_newest_has_failed_and_lost_nothing(server: Server) -> None:
    await make(server, "full", max_msgs=100, discard=DiscardPolicy.NEW)
    account = await carried_out(workload(server, Model.SET, "full"))
    assert (account.acknowledged, account.failed, account.unknown) == (100, 200, 0)
    assert judge(account).verdict is Verdict.PASSED


async def test_a_message_that_waits_for_its_acknowledgement_is_not_taken_for_lost(server: Server) -> None:
    """Somebody else has one and says nothing of it: it comes again, and the queue is not empty before that. By then it
    is out of order, which this consumer never promised to avoid."""
    await make(server, "lent", ack_wait=5)  # by when the few are through
    few = {"mostOperations": 30, "load": {"closed": {"clients": 1}}}
    asked = workload(server, Model.QUEUE, "lent", readPercent=0, **few)
    run = Run(asked, system_of(asked), run=1)
    async with connected(server) as client:
        borrower = await client.jetstream().pull_subscribe_bind("worker", stream="lent")
        living = asyncio.create_task(run.live())
        (borrowed,) = await borrower.fetch(1, timeout=20)
        await living
    account = check(asked.model, run.course.ledger)
    assert run.course.ledger.values[-1] == -1
    assert account.count(Flaw.LOST) == 0 and account.read_back == account.acknowledged == 30
    assert account.count(Flaw.REORDERED) == 1
    number = int(borrowed.data) - (1 << 32)
    assert account.flaws[Flaw.REORDERED].examples == [number]


# Messages that come twice


class Repeating:
    """A way to the server on which each message that is published comes twice, as after a publisher's retry."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, there = await asyncio.open_connection("127.0.0.1", self._port)
        passing = asyncio.create_task(self._pass_on(back, writer))
        try:
            while line := await reader.readline():
                verb, *words = line.split()
                payload = await reader.readexactly(int(words[-1]) + 2) if verb in (b"PUB", b"HPUB") else b""
                there.write(line + payload)
                if verb == b"HPUB":
                    subject, _, *sizes = words  # a message with headers; nobody waits for the second answer
                    there.write(b" ".join((verb, subject, *sizes)) + b"\r\n" + payload)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            passing.cancel()
            there.close()
            writer.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(65536):
            writer.write(piece)


@pytest.mark.parametrize("model", [Model.SET, Model.QUEUE])
@pytest.mark.parametrize("with_id", [True, False])
async def test_what_comes_twice_is_kept_once_by_its_message_id_only(
    with_id: bool, model: Model, server: Server
) -> None:
    name = f"twice-{model}-{with_id}"
    await make(server, name)
    way = await asyncio.start_server(Repeating(server.port), "127.0.0.1", 0)
    place = {"port": way.sockets[0].getsockname()[1], "messageId": with_id}
    try:
        account = await carried_out(workload(server, model, name, nats=place))
    finally:
        way.close()
    assert account.count(Flaw.DUPLICATED) == (0 if with_id else account.acknowledged)
    assert judge(account).verdict is (Verdict.PASSED if with_id else Verdict.FAILED)
    assert judge(account, [Flaw.DUPLICATED]).verdict is Verdict.PASSED


# What an answer means


async def outcome_of(asked: Workload, function: Function = Function.WRITE) -> tuple[Outcome, str]:
    client = system_of(asked).client()
    try:
        answer = await client.perform(function, "1-1", 1 << 33)
        return answer.outcome, client.trouble
    finally:
        await client.close()


async def test_what_nats_says_is_taken_for_what_it_means(server: Server) -> None:
    await make(server, "said", max_msg_size=100, retention=RetentionPolicy.LIMITS)
    asked = workload(server, Model.SET, "said")
    assert (await outcome_of(asked))[0] is OK
    assert (await outcome_of(asked))[0] is OK, "the stream has it by its id"

    async def of(**place: Any) -> tuple[Outcome, str]:
        return await outcome_of(workload(server, Model.SET, "said", nats=place))

    assert await of(subject="nowhere") == (FAILED, "NATS: nobody has the subject nowhere")
    assert await of(stream="steady-other") == (FAILED, "NATS: expected stream does not match")
    refused = await of(port=real_servers.free_port())
    assert refused[0] is FAILED and "Connect" in refused[1], refused
    assert (await of(passwordVariable=None))[0] is FAILED
    taking = workload(server, Model.QUEUE, "said", nats={"consumer": "nobody"})
    assert await outcome_of(taking, Function.TAKE) == (FAILED, "NATS: consumer nobody: consumer not found")


async def test_a_server_that_dies_in_the_middle_leaves_what_it_did_unknown() -> None:
    """It answers the greeting and then nothing."""
    asked_for: list[bytes] = []

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"headers":true,"max_payload":1048576,"proto":1}\r\n')
        while line := await reader.readline():
            if line.startswith(b"PING"):
                writer.write(b"PONG\r\n")
            if line.startswith(b"HPUB"):
                asked_for.append(line)
                writer.close()
                return

    way = await asyncio.start_server(greet, "127.0.0.1", 0)
    place = Server("nats", [], {}, Path(), way.sockets[0].getsockname()[1])
    async with asyncio.timeout(10):  # long before
        assert (await outcome_of(workload(place, Model.SET, "said")))[0] is UNKNOWN
    way.close()
    assert len(asked_for) == 1, "nothing is sent twice"


async def test_where_there_is_no_stream_nothing_is_written(server: Server) -> None:
    with pytest.raises(NoFirstLookError, match=r"stream nowhere: NATS: .*stream not found"):
        await carried_out(workload(server, Model.SET, "nowhere", readBackSeconds=2))


async def killed_and_started_again(server: Server, asked: Workload) -> Account:
    run = Run(asked, system_of(asked), run=9)
    living = asyncio.create_task(run.live())
    while len(run.course.ledger) < 300:
        await asyncio.sleep(0.005)
    server.stop()
    await asyncio.to_thread(server.start)
    await living
    return check(asked.model, run.course.ledger)


async def test_a_stream_on_disk_survives_its_server() -> None:
    with real_servers.nats("--user", "shop", "--pass", "secret") as server:
        await make(server, "orders")
        account = await killed_and_started_again(server, workload(server, Model.SET, "orders", mostOperations=1500))
    assert account.failed + account.unknown > 0, "somebody was cut off"
    assert account.count(Flaw.LOST) == 0
    assert judge(account).verdict is Verdict.PASSED
