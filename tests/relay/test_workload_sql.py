"""Workloads on real databases: what they keep, what they lose when commits are not written, what their answers mean."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import aiomysql
import asyncpg
import pytest

from bounceback.accounting.account import Account, Flaw, judge
from bounceback.accounting.checking import check
from bounceback.accounting.ledger import Function, Model, Outcome
from bounceback.api.workload import Workload
from bounceback.types.outcome import Verdict
from bounceback.workload.running import NoFirstLookError, Run
from bounceback.workload.systems import system_of
from tests import real_servers
from tests.real_servers import Server

TABLES = """
create table items (id bigint);
create table registers (k varchar(40) primary key, v bigint);
create table counters (k varchar(40) primary key, n int);
create table queue (id serial primary key, v bigint);
"""
UNKNOWN, OK, FAILED = Outcome
POSTGRESQL: dict[Model, dict[str, str]] = {
    Model.SET: {
        "write": "insert into items values ({value})",
        "read": "select 1 from items where id = {value}",
        "list": "select id from items",
    },
    Model.REGISTER: {
        "write": "insert into registers values ({key}, {value}) on conflict (k) do update set v = {value}",
        "read": "select v from registers where k = {key}",
    },
    Model.COUNTER: {
        "write": "insert into counters values ({key}, 1) on conflict (k) do update set n = counters.n + 1",
        "read": "select n from counters where k = {key}",
    },
    Model.QUEUE: {
        "write": "insert into queue (v) values ({value})",
        "take": "delete from queue where id = (select id from queue order by id limit 1 for update) returning v",
    },
}
MYSQL: dict[Model, dict[str, str]] = {
    Model.SET: POSTGRESQL[Model.SET],
    Model.REGISTER: {
        "write": "insert into registers values ({key}, {value}) on duplicate key update v = {value}",
        "read": "select v from registers where k = {key} and '100%' like '%'",
    },
    Model.COUNTER: {
        "write": "insert into counters values ({key}, 1) on duplicate key update n = n + 1",
        "read": "select n from counters where k = {key}",
    },
    Model.QUEUE: {
        "write": "insert into queue (v) values ({value})",
        "take": "delete from queue order by id limit 1 returning v",  # MariaDB's; MySQL wants a procedure
    },
}


@pytest.fixture(autouse=True)
def password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_PASSWORD", "secret")


def apart(work: Coroutine[Any, Any, None]) -> None:
    """Fixtures of a module are made while a test's loop runs."""
    with ThreadPoolExecutor() as pool:
        pool.submit(asyncio.run, work).result()


@pytest.fixture(scope="module")
def postgresql() -> Iterator[Server]:
    with real_servers.postgresql() as server:
        apart(told_postgresql(server, TABLES))
        yield server


@pytest.fixture(scope="module")
def mariadb() -> Iterator[Server]:
    with real_servers.mariadb() as server:
        apart(told_mariadb(server, TABLES))
        yield server


@asynccontextmanager
async def connected(server: Server) -> AsyncIterator[asyncpg.Connection]:
    login = {"user": "postgres", "password": "secret", "database": "postgres"}
    while True:
        try:
            connection = await asyncpg.connect(host="127.0.0.1", port=server.port, **login)
            break
        except asyncpg.CannotConnectNowError:  # it listens before it is ready
            await asyncio.sleep(0.05)
    try:
        yield connection
    finally:
        await connection.close()


async def told_postgresql(server: Server, statements: str) -> None:
    async with connected(server) as connection:
        await connection.execute(statements)


async def told_mariadb(server: Server, statements: str) -> None:
    connection = await aiomysql.connect(host="127.0.0.1", port=server.port, user="root", db="shop", autocommit=True)
    async with connection.cursor() as cursor:
        for statement in filter(str.strip, statements.split(";\n")):
            await cursor.execute(statement)
    connection.close()


def workload(server: Server, model: Model, most: int = 400, **changes: Any) -> Workload:
    if server.name == "postgres":
        place = {"kind": "PostgreSQL", "database": "postgres", "user": "postgres", "passwordVariable": "SHOP_PASSWORD"}
        statements = POSTGRESQL[model]
    else:
        place, statements = {"kind": "MySQL", "database": "shop"}, MYSQL[model]
    sql = {**place, "host": "127.0.0.1", "port": server.port, **statements, **changes.pop("sql", {})}
    few = {"load": {"closed": {"clients": 8}}, "mostOperations": most, "seconds": 3600, "settleSeconds": 0}
    return Workload.model_validate({"model": model, "sql": sql, "timeoutMilliseconds": 60_000} | few | changes)


async def carried_out(asked: Workload, run: int = 1) -> Account:
    running = Run(asked, system_of(asked), run)
    await running.live()
    return check(asked.model, running.course.ledger)


@pytest.mark.parametrize("store", ["postgresql", "mariadb"])
@pytest.mark.parametrize("model", list(Model))
async def test_a_database_that_lives_passes(model: Model, store: str, request: pytest.FixtureRequest) -> None:
    account = await carried_out(workload(request.getfixturevalue(store), model), run=1 + list(Model).index(model))
    assert (account.failed, account.unknown) == (0, 0)
    assert account.acknowledged > 100
    assert judge(account).verdict is Verdict.PASSED


async def test_an_open_load_is_carried_by_connections_that_are_kept(postgresql: Server) -> None:
    open_load: dict[str, Any] = {"load": {"open": {"perSecond": 400, "connections": 8}}, "seconds": 1}
    account = await carried_out(workload(postgresql, Model.SET, **open_load), run=7)
    assert account.acknowledged + account.reads > 20
    assert judge(account).verdict is Verdict.PASSED


# What an answer means


async def outcome_of(asked: Workload, function: Function = Function.WRITE) -> tuple[Outcome, str]:
    client = system_of(asked).client()
    try:
        answer = await client.perform(function, "1-1", 1 << 33)
        return answer.outcome, client.trouble
    finally:
        await client.close()


REFUSING = """
create table if not exists refusing (id bigint);
create or replace function refuse() returns trigger language plpgsql as $$ begin raise 'no more today'; end $$;
create or replace function skip() returns trigger language plpgsql as $$ begin return null; end $$;
create constraint trigger late after insert on refusing deferrable initially deferred for each row
  execute function refuse();
create table if not exists skipping (id bigint);
create trigger early before insert on skipping for each row execute function skip();
"""


async def test_what_postgresql_says_is_taken_for_what_it_means(postgresql: Server) -> None:
    await told_postgresql(postgresql, REFUSING)

    async def of(write: str, **changes: Any) -> tuple[Outcome, str]:
        return await outcome_of(workload(postgresql, Model.SET, sql={"write": write}, **changes))

    assert await of("insert into items values ({value})") == (OK, "")
    assert await of("insert into nowhere values ({value})") == (
        FAILED,
        'PostgreSQL: relation "nowhere" does not exist',
    )
    # Its CommandComplete comes before the constraint refuses at the commit.
    assert await of("insert into refusing values ({value})") == (FAILED, "PostgreSQL: no more today")
    assert await of("insert into skipping values ({value})") == (FAILED, "the server says that no row was changed")
    assert await of("insert into items select {value}::bigint % 1 from pg_sleep(30)", timeoutMilliseconds=3000) == (
        UNKNOWN,
        "no answer in time",
    )
    ends = "with gone as (select pg_terminate_backend(pg_backend_pid())) insert into items select {value} from gone"
    assert (await of(ends))[0] is UNKNOWN, "57P01 may come behind a commit"
    refused = await outcome_of(workload(postgresql, Model.SET, sql={"port": real_servers.free_port()}))
    assert refused[0] is FAILED
    wrong = await outcome_of(workload(postgresql, Model.SET, sql={"passwordVariable": None}))
    assert wrong[0] is FAILED and "password" in wrong[1]


async def test_what_mariadb_says_is_taken_for_what_it_means(mariadb: Server) -> None:
    async def of(write: str, **changes: Any) -> tuple[Outcome, str]:
        return await outcome_of(workload(mariadb, Model.SET, sql={"write": write}, **changes))

    assert await of("insert into items values ({value})") == (OK, "")
    assert await of("insert into nowhere values ({value})") == (FAILED, "MySQL: Table 'shop.nowhere' doesn't exist")
    assert await of("delete from items where id = -{value}") == (FAILED, "the server says that no row was changed")
    assert (await of("insert into items select {value} + sleep(30)", timeoutMilliseconds=3000))[0] is UNKNOWN
    assert (await of("kill connection_id() + 0 * {value}"))[0] is UNKNOWN
    assert (await outcome_of(workload(mariadb, Model.SET, sql={"port": real_servers.free_port()})))[0] is FAILED


async def test_a_value_takes_the_type_of_its_column(postgresql: Server) -> None:
    await told_postgresql(postgresql, "create table typed (t text, n numeric, f float8)")
    write = {"write": "insert into typed values ({value}, {value}, {value})", "list": "select t from typed"}
    assert await outcome_of(workload(postgresql, Model.SET, sql=write)) == (OK, "")
    async with connected(postgresql) as connection:
        assert tuple(await connection.fetchrow("select * from typed")) == (str(1 << 33), 1 << 33, float(1 << 33))


async def test_where_there_is_no_table_nothing_is_written_and_it_is_said_why(postgresql: Server) -> None:
    sql = {"read": "select v from nowhere where k = {key}"}
    with pytest.raises(NoFirstLookError, match='read: PostgreSQL: relation "nowhere" does not exist'):
        await carried_out(workload(postgresql, Model.REGISTER, sql=sql))


# What databases lose


@pytest.mark.parametrize(
    ("what", "flaw"),
    [
        ("after insert on {table} for each row when (new.id % 20 = 0) execute function forget()", Flaw.LOST),
        (
            "after insert on {table} for each row when (pg_trigger_depth() = 0) execute function again()",
            Flaw.DUPLICATED,
        ),
    ],
)
async def test_a_trigger_that_forgets_or_repeats_is_told(postgresql: Server, what: str, flaw: Flaw) -> None:
    table = f"kept_{flaw.lower()}"
    await told_postgresql(
        postgresql,
        f"create table {table} (id bigint);"
        f"create or replace function forget() returns trigger language plpgsql as "
        f"$$ begin delete from {table} where id = new.id; return null; end $$;"
        f"create or replace function again() returns trigger language plpgsql as "
        f"$$ begin insert into {table} values (new.id); return null; end $$;"
        f"create trigger wrong {what.format(table=table)}",
    )
    sql = {"write": f"insert into {table} values ({{value}})", "list": f"select id from {table}"}
    sql["read"] = f"select exists (select from {table} where id = {{value}})"
    account = await carried_out(workload(postgresql, Model.SET, sql=sql))
    assert account.count(flaw) > 5
    assert judge(account).verdict is Verdict.FAILED


WIDE = """
alter table items add filler text default repeat('x', 6000);
alter table items alter filler set storage plain;
"""
"""Whole pages of the log are written as they fill: so the last row at least is in none that is."""


def ended_and_started(server: Server, by: signal.Signals) -> None:
    assert server.process is not None
    server.process.send_signal(by)
    server.process.wait()
    server.start()


async def crashed_and_started_again(server: Server, by: signal.Signals) -> Account:
    """In the middle of a workload of 4,000 operations."""
    asked = workload(server, Model.SET, most=4000, readPercent=0)
    run = Run(asked, system_of(asked), run=9)
    living = asyncio.create_task(run.live())
    while len(run.course.ledger) < 1000:
        await asyncio.sleep(0.005)
    await asyncio.to_thread(ended_and_started, server, by)
    await living
    return check(Model.SET, run.course.ledger)


@pytest.mark.parametrize("settings", [("synchronous_commit=off", "wal_writer_delay=10s"), ("synchronous_commit=on",)])
async def test_postgresql_loses_what_it_commits_asynchronously_when_it_crashes(settings: tuple[str, ...]) -> None:
    with real_servers.postgresql(None, *settings) as server:
        await told_postgresql(server, TABLES + WIDE)
        account = await crashed_and_started_again(server, signal.SIGQUIT)  # an immediate shutdown: as a crash
    assert account.failed + account.unknown > 0, "somebody was cut off"
    lossy = len(settings) > 1
    assert (account.count(Flaw.LOST) > 0) is lossy
    assert judge(account).verdict is (Verdict.FAILED if lossy else Verdict.PASSED)


@pytest.mark.parametrize("options", [(), ("--innodb-flush-log-at-trx-commit=1",)])
async def test_mariadb_loses_what_it_has_not_written_when_it_is_killed(options: tuple[str, ...]) -> None:
    """With a key: a table without one gave two of its rows twice after that, once in 75 runs, on a starved machine."""
    with real_servers.mariadb(None, *options) as server:
        await told_mariadb(server, TABLES.replace("(id bigint)", "(id bigint primary key)"))
        await asyncio.to_thread(ended_and_started, server, signal.SIGTERM)  # what is new is on disk after that
        account = await crashed_and_started_again(server, signal.SIGKILL)
    assert account.failed + account.unknown > 0, "somebody was cut off"
    assert (account.count(Flaw.LOST) > 10) is (not options)
    assert judge(account).verdict is (Verdict.PASSED if options else Verdict.FAILED)
