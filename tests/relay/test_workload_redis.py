"""Workloads on a real Redis: what it keeps, and what it loses when it dies with what it had acknowledged in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from bounceback.accounting.account import Account, Flaw, judge
from bounceback.accounting.checking import check
from bounceback.accounting.ledger import Function, Model, Outcome
from bounceback.api.workload import Workload
from bounceback.types.outcome import Verdict
from bounceback.workload.client import SilentError
from bounceback.workload.running import NoFirstLookError, Run
from bounceback.workload.systems import system_of
from tests import real_servers
from tests.real_servers import Server


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with real_servers.redis() as running:
        yield running


def workload(model: Model, port: int, most: int = 400) -> Workload:
    return Workload.model_validate(
        {
            "model": model,
            "redis": {"host": "127.0.0.1", "port": port},
            "load": {"closed": {"clients": 8}},
            "mostOperations": most,
            "seconds": 3600,
            "settleSeconds": 0,
            "timeoutMilliseconds": 60_000,
        }
    )


@pytest.mark.parametrize("model", list(Model))
async def test_a_redis_that_lives_passes(model: Model, server: Server) -> None:
    asked = workload(model, server.port)
    run = Run(asked, system_of(asked), run=1 + list(Model).index(model))
    await run.live()
    account = check(model, run.course.ledger)
    assert (account.failed, account.unknown) == (0, 0)
    assert account.acknowledged > 100
    assert judge(account).verdict is Verdict.PASSED


async def killed_and_started_again(server: Server) -> Account:
    """In the middle of a workload of 4,000 operations."""
    asked = workload(Model.SET, server.port, most=4000)
    run = Run(asked, system_of(asked), run=9)
    living = asyncio.create_task(run.live())
    while len(run.course.ledger) < 1000:
        await asyncio.sleep(0.005)
    server.stop()  # at once: nobody has gone on meanwhile
    await asyncio.to_thread(server.start)
    await living
    return check(Model.SET, run.course.ledger)


async def test_a_redis_that_keeps_nothing_on_disk_loses_what_it_had_acknowledged() -> None:
    with real_servers.redis() as server:
        account = await killed_and_started_again(server)
    assert account.count(Flaw.LOST) > 100
    assert judge(account).verdict is Verdict.FAILED


async def test_a_redis_that_writes_before_it_answers_loses_nothing() -> None:
    with real_servers.redis("--appendonly", "yes", "--appendfsync", "always") as server:
        account = await killed_and_started_again(server)
    assert account.count(Flaw.LOST) == 0
    assert account.failed + account.unknown > 0, "somebody was cut off"
    assert judge(account).verdict is Verdict.PASSED


async def test_where_there_is_no_redis_nothing_is_written() -> None:
    asked = workload(Model.SET, real_servers.free_port())
    asked = asked.model_copy(update={"read_back_seconds": 1})
    with pytest.raises(NoFirstLookError, match="SMEMBERS"):
        await Run(asked, system_of(asked), run=1).live()


async def test_a_redis_that_does_not_answer_is_told_of_in_words() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Greets, and takes what comes."""
        while data := await reader.read(65536):
            if b"HELLO" in data:
                writer.write(b"%1\r\n$5\r\nproto\r\n:3\r\n")
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    async with server:
        asked = workload(Model.SET, server.sockets[0].getsockname()[1])
        system = system_of(asked.model_copy(update={"timeout_milliseconds": 3000}))
        with pytest.raises(SilentError, match=r"^SMEMBERS: no answer in time$"):
            await system.listed("1-1", 3.0)
        client = system.client()
        assert (await client.perform(Function.WRITE, "1-1", 1)).outcome is Outcome.UNKNOWN
        assert client.trouble == "Redis: no answer in time"
