"""Workloads against real servers of loopback: that keep their promises, that break one, that fall silent."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from bounceback.accounting.account import Account, Flaw, judge
from bounceback.accounting.checking import check
from bounceback.accounting.ledger import Function, Model, Outcome
from bounceback.api.workload import Workload
from bounceback.types.outcome import Verdict
from bounceback.workload.running import NoFirstLookError, Run
from bounceback.workload.systems import system_of

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "F1-workload"
Json = dict[str, Any]


def store_module() -> Any:
    """The server of the example, in this process."""
    spec = importlib.util.spec_from_file_location("example_store", FOLDER / "little_store.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


STORE = store_module()
LONG = 3600.0
ONE: Json = {"closed": {"clients": 1}}


@asynccontextmanager
async def serving(protocol: Callable[[], asyncio.Protocol]) -> AsyncIterator[str]:
    server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0, backlog=1024)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


def workload(model: str, url: str, *, file: str = "", **changes: Any) -> Workload:
    """The example's, of a few hundred operations by eight clients, whatever time they take."""
    data = yaml.safe_load((FOLDER / f"{file or model.lower()}.yaml").read_text())
    data["http"] |= {"url": url} | changes.pop("http", {})
    few = {"load": {"closed": {"clients": 8}}, "mostOperations": 400, "seconds": 3600, "settleSeconds": 0}
    return Workload.model_validate(data | few | {"timeoutMilliseconds": 60_000} | changes)


async def carried_out(asked: Workload) -> tuple[Run, Account]:
    run = Run(asked, system_of(asked), run=1)
    await run.live()
    return run, check(asked.model, run.course.ledger)


@pytest.mark.parametrize("model", list(Model))
async def test_a_store_that_keeps_its_promises_passes(model: Model) -> None:
    store = STORE.Store("", 0)
    async with serving(lambda: STORE.Connection(store.answer)) as url:
        run, account = await carried_out(workload(model, url))
    assert {flaw: finding.count for flaw, finding in account.flaws.items() if finding.count} == {}
    assert judge(account).verdict is Verdict.PASSED
    assert account.acknowledged + account.reads == run.course.ledger.last_of_load == 400
    assert run.course.was_full


@pytest.mark.parametrize(
    ("flaw", "model", "found"),
    [
        ("forgetful", Model.SET, {Flaw.LOST}),
        ("forgetful", Model.COUNTER, {Flaw.LOST}),
        ("forgetful", Model.QUEUE, {Flaw.LOST}),
        ("repeating", Model.SET, {Flaw.DUPLICATED}),
        ("repeating", Model.COUNTER, {Flaw.DUPLICATED}),
        ("repeating", Model.QUEUE, {Flaw.DUPLICATED}),
        ("lagging", Model.SET, {Flaw.STALE}),
        ("lagging", Model.REGISTER, {Flaw.STALE}),
        ("lagging", Model.COUNTER, {Flaw.STALE}),
        ("disorderly", Model.QUEUE, {Flaw.REORDERED}),
        ("denying", Model.SET, {Flaw.PHANTOM}),
        ("denying", Model.REGISTER, {Flaw.PHANTOM}),
        ("denying", Model.QUEUE, {Flaw.PHANTOM}),
    ],
)
async def test_a_store_that_breaks_a_promise_fails_by_that_flaw(
    flaw: str, model: Model, found: set[Flaw], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(STORE, "LAG", LONG)  # a read that lags shows what was there before the first write
    store = STORE.Store(flaw, 5 if flaw == "denying" else 13)  # of a register it shows if the next one reads
    async with serving(lambda: STORE.Connection(store.answer)) as url:
        _, account = await carried_out(workload(model, url, readPercent=30))
    assert {kind for kind, finding in account.flaws.items() if finding.count} >= found
    assert judge(account).verdict is Verdict.FAILED
    assert judge(account, account.flaws).verdict is not Verdict.FAILED


async def test_a_register_that_forgets_is_found_out_by_its_reads() -> None:
    """Every other write is forgotten; with one client each is certainly over when the next operation begins."""
    store = STORE.Store("forgetful", 2)
    async with serving(lambda: STORE.Connection(store.answer)) as url:
        _, account = await carried_out(workload("Register", url, keys=2, readPercent=50, load=ONE))
    assert account.count(Flaw.STALE) > 10


async def test_single_reads_at_the_end_find_what_is_lost() -> None:
    store = STORE.Store("forgetful", 10)
    async with serving(lambda: STORE.Connection(store.answer)) as url:
        data = workload("Set", url).to_json()
        del data["http"]["list"]
        _, account = await carried_out(Workload.model_validate(data))
    assert account.count(Flaw.LOST) == account.acknowledged // 10
    assert account.read_back == account.acknowledged


# What an answer, or none, means


Reply = Callable[[asyncio.Transport], None]


class Odd(asyncio.Protocol):
    """Does one thing, whatever it is asked."""

    def __init__(self, reply: Reply, asked: list[bytes]) -> None:
        self._reply, self._asked = reply, asked

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self._asked.append(data)
        self._reply(self._transport)


def says(*pieces: bytes, close: bool = False) -> Reply:
    def reply(transport: asyncio.Transport) -> None:
        for piece in pieces:
            transport.write(piece)
        if close:
            transport.close()

    return reply


SILENCE = says()
HEAD = b"HTTP/1.1 200 OK\r\n"
UNKNOWN, OK, FAILED = Outcome


@pytest.mark.parametrize(
    ("reply", "written", "read", "value"),
    [
        (says(HEAD, b"Content-Length: 2\r\n\r\n17"), OK, OK, 17),
        (says(HEAD, b"Transfer-Encoding: chunked\r\n\r\n1\r\n1\r\n", b"1\r\n7\r\n0\r\n\r\n"), OK, OK, 17),
        (says(HEAD, b"\r\n17", close=True), OK, OK, 17),
        (says(b"HTTP/1.1 103 Early Hints\r\n\r\n", HEAD, b"Content-Length: 2\r\n\r\n17"), OK, OK, 17),
        (says(HEAD, b"Content-Length: 20\r\n\r\n17", close=True), UNKNOWN, FAILED, None),
        (says(HEAD, b"Content-Le", close=True), UNKNOWN, FAILED, None),
        (says(close=True), UNKNOWN, FAILED, None),
        (says(b"SSH-2.0-OpenSSH_9.2\r\n"), UNKNOWN, FAILED, None),
        (lambda transport: transport.abort(), UNKNOWN, FAILED, None),
        (SILENCE, UNKNOWN, FAILED, None),
        (says(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"), UNKNOWN, FAILED, None),
        (says(b"HTTP/1.1 302 No\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n"), UNKNOWN, FAILED, None),
        (says(b"HTTP/1.1 409 No\r\nContent-Length: 0\r\n\r\n"), FAILED, FAILED, None),
        (says(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"), FAILED, OK, None),
    ],
    ids=[
        "whole",
        "in chunks",
        "until the end",
        "after another",
        "cut short",
        "head cut short",
        "closed",
        "not HTTP",
        "reset",
        "silent",
        "503",
        "302",
        "409",
        "404",
    ],
)
async def test_an_answer_is_taken_for_what_it_says(
    reply: Reply, written: Outcome, read: Outcome, value: int | None
) -> None:
    asked: list[bytes] = []
    async with serving(lambda: Odd(reply, asked)) as url:
        system = system_of(workload("Register", url, timeoutMilliseconds=60_000 if reply is not SILENCE else 1500))
        for function, outcome in ((Function.WRITE, written), (Function.READ, read)):
            client = system.client()
            answer = await client.perform(function, "k", 5)
            await client.close()
            assert answer.outcome is outcome
        assert answer.value == value
    assert len(asked) == 2, "nothing is sent twice"


async def test_where_nobody_listens_nothing_was_done() -> None:
    async with serving(lambda: Odd(says(), [])) as url:
        pass
    client = system_of(workload("Queue", url)).client()
    assert (await client.perform(Function.WRITE, "", 5)).outcome is FAILED
    assert (await client.perform(Function.TAKE, "", 5)).outcome is FAILED


async def test_a_take_without_an_answer_may_have_taken_something() -> None:
    async with serving(lambda: Odd(says(close=True), [])) as url:
        answer = await system_of(workload("Queue", url)).client().perform(Function.TAKE, "", 5)
    assert answer.outcome is UNKNOWN


async def test_a_value_within_json_is_found_and_placeholders_are_filled_in() -> None:
    asked: list[bytes] = []
    body = b'{"item": {"value": 17}}'
    async with serving(lambda: Odd(says(HEAD, b"Content-Length: %d\r\n\r\n%b" % (len(body), body)), asked)) as url:
        write = {"path": "/{key}", "method": "POST", "body": '{"n": {value}}'}
        read = {"path": "/{key}", "field": "item.value"}
        headers = {"Idempotency-Key": "{value}"}
        http = {"write": write, "read": read, "headers": headers}
        system = system_of(workload("Register", f"{url}/base/", http=http))
        client = system.client()
        await client.perform(Function.WRITE, "1-3", 500)
        answer = await client.perform(Function.READ, "1-3", 500)
        await client.close()
    assert (answer.outcome, answer.value) == (OK, 17)
    head, _, sent = asked[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /base/1-3 HTTP/1.1\r\n") and sent == b'{"n": 500}'
    assert b"Idempotency-Key: 500" in head and b"Content-Length: 10" in head


@pytest.mark.parametrize(
    ("body", "written", "read", "value"),
    [
        (b'{"id": 1, "result": 17}', OK, OK, 17),
        (b'{"id": 1, "result": null}', UNKNOWN, OK, None),
        (b'{"id": 1, "error": {"code": -32000}}', UNKNOWN, FAILED, None),
        (b"17", UNKNOWN, FAILED, None),
    ],
)
async def test_json_rpc_is_acknowledged_by_its_result_and_not_by_its_status(
    body: bytes, written: Outcome, read: Outcome, value: int | None
) -> None:
    async with serving(lambda: Odd(says(HEAD, b"Content-Length: %d\r\n\r\n%b" % (len(body), body)), [])) as url:
        call = '{"jsonrpc": "2.0", "id": 1, "method": "%s", "params": ["{key}", {value}]}'
        write = {"method": "POST", "path": "/", "body": call % "put", "field": "result"}
        question = {"method": "POST", "path": "/", "body": call % "get", "field": "result"}
        client = system_of(workload("Register", url, http={"write": write, "read": question})).client()
        assert (await client.perform(Function.WRITE, "k", 1)).outcome is written
        answer = await client.perform(Function.READ, "k", 1)
        await client.close()
    assert (answer.outcome, answer.value) == (read, value)


RPC = '{"jsonrpc": "2.0", "id": 1, %s}'


@pytest.mark.parametrize(
    ("status", "body", "written", "read", "value"),
    [
        (200, RPC % '"result": 17', OK, OK, 17),
        (500, RPC % '"result": 17', OK, OK, 17),
        (200, RPC % '"result": 17, "error": null', OK, OK, 17),
        (200, RPC % '"result": null', OK, OK, None),
        (200, RPC % '"error": {"code": -32602}', FAILED, FAILED, None),
        (500, RPC % '"error": {"code": 7}', FAILED, FAILED, None),
        (200, RPC % '"error": {"code": 404}', FAILED, OK, None),
        (200, RPC % '"result": null, "error": {"code": 7}', FAILED, FAILED, None),
        (200, '{"jsonrpc": "2.0", "id": null, "error": {"code": -32700}}', FAILED, FAILED, None),
        (200, RPC % '"error": {"code": -32603}', UNKNOWN, FAILED, None),
        (200, RPC % '"error": {"code": -32001}', UNKNOWN, FAILED, None),
        (200, RPC % '"error": "no"', UNKNOWN, FAILED, None),
        (200, RPC % '"result": 17, "error": {"code": 7}', UNKNOWN, FAILED, None),
        (200, '{"jsonrpc": "2.0", "id": 9, "result": 17}', UNKNOWN, FAILED, None),
        (200, '{"jsonrpc": "2.0", "id": 9, "error": {"code": 7}}', UNKNOWN, FAILED, None),
        (200, '{"jsonrpc": "2.0", "id": null, "result": 17}', UNKNOWN, FAILED, None),
        (200, '{"jsonrpc": "2.0", "result": 17}', UNKNOWN, FAILED, None),
        (200, RPC % '"extra": 17', UNKNOWN, FAILED, None),
        (200, "[]", UNKNOWN, FAILED, None),
        (200, "17", UNKNOWN, FAILED, None),
        (503, "", UNKNOWN, FAILED, None),
        (400, "what?", FAILED, FAILED, None),
    ],
)
async def test_a_call_by_json_rpc_is_judged_by_what_its_answer_says(
    status: int, body: str, written: Outcome, read: Outcome, value: int | None
) -> None:
    asked: list[bytes] = []
    answer = f"HTTP/1.1 {status} Said\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
    codes = {"unknownCodes": [-32603, -32001], "absentCodes": [404]}
    async with serving(lambda: Odd(says(answer), asked)) as url:
        write, question = (
            {"path": "/rpc", "jsonRpc": {"method": name, "params": '["{key}", {value}]', **codes}}
            for name in ("put", 'ge"t')
        )
        client = system_of(workload("Register", url, http={"write": write, "read": question})).client()
        assert (await client.perform(Function.WRITE, "1-3", 500)).outcome is written
        found = await client.perform(Function.READ, "1-3", 500)
        await client.close()
    assert (found.outcome, found.value) == (read, value)
    head, _, sent = asked[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /rpc HTTP/1.1\r\n") and b"Content-Type: application/json" in head
    assert json.loads(sent) == {"jsonrpc": "2.0", "id": 1, "method": "put", "params": ["1-3", 500]}


async def test_each_call_has_an_id_of_its_own() -> None:
    asked: list[bytes] = []
    async with serving(lambda: Odd(says(HEAD, b"Content-Length: 0\r\n\r\n"), asked)) as url:
        client = system_of(workload("Register", url, file="json-rpc")).client()
        for _ in range(3):
            await client.perform(Function.WRITE, "1-3", 500)
        await client.close()
    assert [json.loads(each.partition(b"\r\n\r\n")[2])["id"] for each in asked] == [1, 2, 3]


@pytest.mark.parametrize(("flaw", "found"), [("", set()), ("forgetful", {Flaw.STALE}), ("denying", {Flaw.PHANTOM})])
async def test_a_store_by_json_rpc_is_told_from_one_that_breaks_a_promise(flaw: str, found: set[Flaw]) -> None:
    store = STORE.Store(flaw, 2)
    async with serving(lambda: STORE.Connection(store.answer)) as url:
        asked = workload("Register", url, file="json-rpc", keys=2, readPercent=50, load=ONE)
        _, account = await carried_out(asked)
    assert {kind for kind, finding in account.flaws.items() if finding.count} >= found
    assert judge(account).verdict is (Verdict.FAILED if flaw else Verdict.PASSED)


# The course


async def test_nothing_is_written_where_nothing_can_be_read() -> None:
    asked: list[bytes] = []
    async with serving(lambda: Odd(says(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"), asked)) as url:
        with pytest.raises(NoFirstLookError, match="GET /items: answered 500"):
            await carried_out(workload("Set", url))
    assert not any(request.startswith(b"PUT") for request in asked)


async def test_a_system_that_says_yes_to_everything_is_not_believed() -> None:
    async with serving(lambda: Odd(says(HEAD, b"Content-Length: 0\r\n\r\n"), [])) as url:
        with pytest.raises(NoFirstLookError, match="nobody has written"):
            await carried_out(workload("Set", url))


async def test_a_slow_system_makes_the_waiting_count() -> None:
    """One connection, 50 operations due at once, each of which takes 20 ms: the last has waited for all the others."""

    class Slow(STORE.Connection):  # type: ignore[misc, name-defined]
        def data_received(self, data: bytes) -> None:
            asyncio.get_running_loop().call_later(0.02, super().data_received, data)

    store = STORE.Store("", 0)
    async with serving(lambda: Slow(store.answer)) as url:
        burst = {"burst": {"size": 50, "everySeconds": 3600, "connections": 1}}
        asked = workload("Queue", url, load=burst, readPercent=0, mostOperations=50)
        run, account = await carried_out(asked)
    assert account.acknowledged == 50
    writes = run.course.writes
    assert writes.longest >= 50 * 0.019 * 1e9
    assert writes.percentiles((50,))[0] >= 25 * 0.019


async def test_what_was_due_and_never_begun_counts_with_its_waiting() -> None:
    async with serving(lambda: Odd(says(), [])) as url:
        burst = {"burst": {"size": 30, "everySeconds": 3600, "connections": 1}}
        asked = workload("Queue", url, load=burst, seconds=1, timeoutMilliseconds=1500, readBackSeconds=1)
        run, account = await carried_out(asked)
    assert run.course.never_begun + run.course.ledger.last_of_load == 30
    assert run.course.never_begun >= 29
    assert judge(account).verdict is Verdict.INCONCLUSIVE
    assert run.course.writes.percentiles((50,))[0] >= 1.0


async def test_every_client_of_a_herd_connects_anew() -> None:
    opened = []

    class Counted(STORE.Connection):  # type: ignore[misc, name-defined]
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            opened.append(transport)
            super().connection_made(transport)

    store = STORE.Store("", 0)
    async with serving(lambda: Counted(store.answer)) as url:
        herd = {"herd": {"clients": 40, "everySeconds": 1}}
        asked = workload("Queue", url, load=herd, readPercent=0, mostOperations=80)
        _, account = await carried_out(asked)
    assert account.acknowledged == 80
    assert len(opened) >= 80


async def test_a_server_that_dies_and_returns_loses_only_what_it_had_not_kept() -> None:
    """Its connections are cut in the middle: what had no answer is unknown, and the account is still clean."""
    store = STORE.Store("", 0)
    connections: list[Any] = []

    class Mortal(STORE.Connection):  # type: ignore[misc, name-defined]
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            connections.append(transport)
            super().connection_made(transport)

        def data_received(self, data: bytes) -> None:
            if len(store.items) == 150:
                store.items["-1"] += 1  # once
                for transport in connections:
                    transport.abort()
                return
            super().data_received(data)

    async with serving(lambda: Mortal(store.answer)) as url:
        _, account = await carried_out(workload("Set", url, allow=["Phantom"]))
    assert account.unknown + account.unanswered >= 1
    assert account.count(Flaw.LOST) == 0
    assert judge(account, [Flaw.PHANTOM]).verdict is Verdict.PASSED


async def test_an_end_before_its_time_reads_back_what_was_written() -> None:
    store = STORE.Store("", 0)
    async with serving(lambda: STORE.Connection(store.answer)) as url:
        asked = workload("Set", url, load={"open": {"perSecond": 50}}, mostOperations=100_000)
        run = Run(asked, system_of(asked), run=1)
        living = asyncio.create_task(run.live())
        while len(run.course.ledger) < 10:
            await asyncio.sleep(0.01)
        run.end()
        await living
        account = check(asked.model, run.course.ledger)
    assert judge(account).verdict is Verdict.PASSED
    assert account.read_back == account.acknowledged < 100_000


# The command


@asynccontextmanager
async def example(*words: str) -> AsyncIterator[str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(FOLDER / "little_store.py"), "--port", "0", *words, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        yield (await process.stdout.readline()).decode().strip()
    finally:
        process.kill()
        await process.wait()


async def command(*words: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bounceback", "workload", *words, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_the_command_tells_verdict_counts_and_history(tmp_path: Path) -> None:
    file = tmp_path / "set.edn"
    async with example("--flaw", "forgetful", "--one-in", "5") as url:
        words = [str(FOLDER / "set.yaml"), "--url", url, "--seconds", "2"]
        code, out, _ = await command(*words, "--history", str(file))
        assert code == 1
        assert "Failed       Lost: " in out and "acknowledged and not there at the end" in out
        code, out, _ = await command(*words, "-o", "json")
    found = json.loads(out)
    assert (code, found["verdict"]) == (1, Verdict.FAILED)
    assert found["flaws"]["Lost"]["count"] > 0 and found["flaws"]["Duplicated"]["count"] == 0
    assert found["latencySeconds"]["write"]["p99"] > 0
    lines = file.read_text().splitlines()
    assert lines[0].startswith("{:index 0, :type :invoke, :process 0, :f :add, :value ")
    assert ":f :read, :value [" in lines[-1]


async def test_the_command_is_inconclusive_where_nobody_answers() -> None:
    async with serving(lambda: Odd(says(), [])) as url:
        pass
    code, _, err = await command(str(FOLDER / "register.yaml"), "--url", url, "--seconds", "1")
    assert code == 3
    assert "nothing was written" in err


async def test_the_command_reads_back_what_it_has_written_when_it_is_interrupted() -> None:
    async with example() as url:
        words = [str(FOLDER / "set.yaml"), "--url", url, "--seconds", "3600"]
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bounceback", "workload", *words, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        client = system_of(workload("Set", url))
        while not len(await client.listed("", 60)):
            await asyncio.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = await process.communicate()
    assert process.returncode == 0
    assert b"what was written is read back" in err
    assert b"none of them lost" in out
