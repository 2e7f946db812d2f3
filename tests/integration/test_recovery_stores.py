"""Looks at real stores: what a healthy one answers, and what each trouble of a broken one is called."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from nats.aio.client import Client
from nats.js.api import ConsumerConfig

from bounceback.api.check import RecoveryCheckSpec
from bounceback.engine.cel import evaluate
from bounceback.recovery.errors import CannotLookError
from bounceback.recovery.means import Means
from bounceback.recovery.observing import observe
from tests import real_servers
from tests.integration.looking import AUTHORITY, NO_CLUSTER, NO_SEAL, SECRETS, Held, looked
from tests.real_servers import Server


@pytest.fixture(scope="module")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    files = real_servers.certificate(tmp_path_factory.mktemp("tls"), AUTHORITY, ["db.test"])
    with real_servers.postgresql(tls=files) as server:
        yield server


def sql(server: Server, query: str, **fields: Any) -> dict[str, Any]:
    place = {"kind": "PostgreSQL", "host": "127.0.0.1", "port": server.port, "database": "postgres"}
    return {"sql": {**place, "login": {"secretName": "db"}, "query": query, **fields}}


@pytest.mark.parametrize(
    ("query", "fields", "told"),
    [
        ("select 1", {}, None),
        ("select count(*) as n, 1.5::numeric as half from pg_database", {"expression": "rows[0].n > 1"}, None),
        (
            "select 1.5::numeric as half, now() as t, '{\"a\": 1}'::json as j",
            {"expression": "rows[0].half == 1.5"},
            None,
        ),
        ("select generate_series(1, 5000) as n", {"expression": "size(rows) == 1000"}, None),
        ("select 1 as n", {"expression": "rows[0].n > 1"}, 'rows[0].n > 1 is false; rows [{"n": 1}]'),
        ("select 1 as n", {"expression": "rows[0].m > 1"}, "rows[0].m > 1: there is no key 'm'"),
        ("select from nowhere", {}, 'PostgreSQL: relation "nowhere" does not exist'),
        ("create table t (n int)", {}, "PostgreSQL: cannot execute CREATE TABLE in a read-only transaction"),
        ("create table if not exists kept (n int)", {"writes": True}, None),
        ("select 1", {"database": "shop"}, 'PostgreSQL: database "shop" does not exist'),
        (
            "select 1",
            {"login": {"secretName": "wrong"}},
            'PostgreSQL: password authentication failed for user "postgres"',
        ),
        ("select 1", {"tls": {"verify": False}, "expression": "size(rows) == 1"}, None),
        ("select 1", {"tls": {"authorities": {"secretName": "ca"}, "serverName": "db.test"}}, None),
        ("select 1", {"tls": {"authorities": {"secretName": "ca"}}}, "certificate not trusted: IP address mismatch"),
        ("select 1", {"tls": {"serverName": "db.test"}}, "certificate not trusted: "),
    ],
)
async def test_postgresql(
    postgresql: Server, means: Means, query: str, fields: dict[str, Any], told: str | None
) -> None:
    found = await looked(means, **sql(postgresql, query, **fields))
    assert found is None if told is None else (found or "").startswith(told), found


async def test_a_login_and_authorities_that_are_none_are_our_trouble_and_not_the_systems(
    postgresql: Server, means: Means
) -> None:
    with pytest.raises(CannotLookError, match=r"^Secret db has no key pasword; it has password, username$"):
        await looked(means, **sql(postgresql, "select 1", login={"secretName": "db", "passwordKey": "pasword"}))
    with pytest.raises(CannotLookError, match=r"^key ca.crt of Secret not-a-ca must hold certificates in PEM"):
        await looked(means, **sql(postgresql, "select 1", tls={"authorities": {"secretName": "not-a-ca"}}))


async def test_a_store_that_is_not_there_refuses(means: Means) -> None:
    port = real_servers.free_port()
    for look in (
        sql(Server("none", [], {}, Path(), port), "select 1", login=None),
        {"sql": {"kind": "MySQL", "host": "127.0.0.1", "port": port, "database": "shop", "query": "select 1"}},
        {"redis": {"host": "127.0.0.1", "port": port, "command": ["PING"]}},
        {"nats": {"host": "127.0.0.1", "port": port}},
    ):
        assert await looked(means, **look) == "connection refused"


async def test_mariadb(means: Means) -> None:
    with real_servers.mariadb() as server:

        async def ask(query: str, **fields: Any) -> str | None:
            place = {"kind": "MySQL", "host": "127.0.0.1", "port": server.port, "database": "shop"}
            return await looked(means, sql={**place, "query": query, **fields})

        assert await ask("select 1") is None
        assert await ask("create table orders (id int primary key)", writes=True) is None
        assert await ask("insert into orders values (1), (2)", writes=True) is None
        assert (
            await ask("select count(*) as n, sum(id) as s from orders", expression="rows[0] == {'n': 2, 's': 3}")
            is None
        )
        assert (
            await ask("insert into orders values (3)") == "MySQL: Cannot execute statement in a READ ONLY transaction"
        )
        assert await ask("select * from nowhere") == "MySQL: Table 'shop.nowhere' doesn't exist"
        # The library would log in all the same, in the clear.
        told = "MySQL: the server has no TLS, which `tls` asks for"
        assert await ask("select 1", tls={"verify": False}) == told
        server.stop()
        assert await ask("select 1") == "connection refused"


async def test_mariadb_by_tls(means: Means, tmp_path: Path) -> None:
    files = real_servers.certificate(tmp_path, AUTHORITY, ["db.test"])
    place = {"kind": "MySQL", "host": "127.0.0.1", "database": "shop", "query": "show status like 'Ssl_cipher'"}
    authorities = {"secretName": "ca"}
    with real_servers.mariadb(files) as server:
        sql = {**place, "port": server.port, "expression": "rows[0].Value != ''"}
        right, wrong = ({"serverName": name, "authorities": authorities} for name in ("db.test", "other.test"))
        assert await looked(means, sql={**sql, "tls": right}) is None
        told = await looked(means, sql={**sql, "tls": wrong})
        assert told is not None and told.startswith("certificate not trusted: Hostname mismatch"), told


async def test_redis(means: Means, tmp_path: Path) -> None:
    certificate, key = real_servers.certificate(tmp_path, AUTHORITY, ["redis.test"])
    tls_port = real_servers.free_port()
    tls = ["--tls-port", str(tls_port), "--tls-cert-file", str(certificate), "--tls-key-file", str(key)]
    tls += ["--tls-auth-clients", "no"]
    with real_servers.redis("--requirepass", "s3cret", *tls) as server:

        async def ask(*command: str, **fields: Any) -> str | None:
            look = {"host": "127.0.0.1", "port": server.port, "login": {"secretName": "token"}, "command": command}
            return await looked(means, redis={**look, **fields})

        assert await ask("PING", expression="reply == 'PONG'") is None
        assert await ask("HSET", "order:1", "state", "new", "n", "2") is None
        assert await ask("HGETALL", "order:1", expression="reply == {'state': 'new', 'n': '2'}") is None
        assert await ask("SADD", "fingerprints", "b", "a", database=3) is None
        assert (
            await ask("SMEMBERS", "fingerprints", database=3, expression="sets.equivalent(reply, ['a', 'b'])") is None
        )
        found = await ask("EXISTS", "fingerprints", expression="reply == 1")
        assert (found or "").startswith("reply == 1 is false; reply 0, milliseconds ")
        assert await ask("GET", "nothing", expression="reply == null") is None
        assert await ask("LPUSH", "order:1", "x") == (
            "Redis: WRONGTYPE Operation against a key holding the wrong kind of value"
        )
        assert (await ask("PING", login=None) or "").startswith("Redis: ")
        assert "invalid username-password pair" in (await ask("PING", login={"secretName": "wrong"}) or "")
        secure = {"authorities": {"secretName": "ca"}, "serverName": "redis.test"}
        assert await ask("PING", port=tls_port, tls=secure) is None
        assert (await ask("PING", port=tls_port, tls={"verify": True}) or "").startswith("certificate not trusted: ")
        assert await ask("CONFIG", "SET", "maxmemory", "1") is None
        full = "Redis: command not allowed when used memory > 'maxmemory'."
        assert await ask("SET", "more", "x") == full
        server.stop()
        assert await ask("PING") == "connection refused"


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Client]:
    client = Client()
    await client.connect(f"nats://127.0.0.1:{port}", user="shop", password="secret")
    yield client
    await client.close()


async def test_nats(means: Means) -> None:
    SECRETS["nats"] = {"username": "shop", "password": "secret"}
    with real_servers.nats("--user", "shop", "--pass", "secret") as server:
        async with connected(server.port) as client:
            streams = client.jetstream()
            await streams.add_stream(name="orders", subjects=["orders.*"])
            await streams.add_consumer("orders", ConsumerConfig(durable_name="worker", ack_policy="explicit"))  # type: ignore[arg-type]
            for _ in range(3):
                await streams.publish("orders.new", b"x")
            worker = await streams.pull_subscribe_bind("worker", stream="orders")
            await (await worker.fetch(1))[0].ack_sync()

        async def ask(**fields: Any) -> str | None:
            look = {"host": "127.0.0.1", "port": server.port, "login": {"secretName": "nats"}}
            return await looked(means, nats={**look, **fields})

        assert await ask(expression="server.jetstream && stream == null") is None
        assert await ask(stream="orders", expression="stream.state.messages == 3") is None
        behind = "consumer.num_pending == 2 && consumer.ack_floor.stream_seq == 1 && consumer.num_redelivered == 0"
        assert await ask(stream="orders", consumer="worker", expression=behind) is None
        found = await ask(stream="orders", consumer="worker", expression="consumer.num_pending == 0")
        assert (found or "").startswith("consumer.num_pending == 0 is false; ")
        assert await ask(stream="orderz") == "NATS: stream orderz: stream not found"
        assert await ask(stream="orders", consumer="w") == "NATS: consumer w of orders: consumer not found"
        assert "Authorization Violation" in (await ask(login={"secretName": "db"}) or "")
        server.stop()
        assert await ask() == "connection refused"


async def test_nats_by_tls(means: Means, tmp_path: Path) -> None:
    files = real_servers.certificate(tmp_path, AUTHORITY, ["bus.test"])
    SECRETS["nats"] = {"username": "shop", "password": "secret"}
    right, wrong = ({"serverName": name, "authorities": {"secretName": "ca"}} for name in ("bus.test", "other.test"))
    asked = {"host": "127.0.0.1", "login": {"secretName": "nats"}}
    with real_servers.nats("--user", "shop", "--pass", "secret", "--tls", *_files(files)) as server:
        assert await looked(means, nats={**asked, "port": server.port, "tls": right}) is None
        told = await looked(means, nats={**asked, "port": server.port, "tls": wrong})
        assert told is not None and told.startswith("certificate not trusted: Hostname mismatch"), told
        assert await looked(means, nats={**asked, "port": server.port}) == "NATS: the server wants TLS: give `tls`"
    with real_servers.nats("--user", "shop", "--pass", "secret") as server:
        # The library would log in all the same, in the clear.
        told = "NATS: the server has no TLS, which `tls` asks for"
        assert await looked(means, nats={**asked, "port": server.port, "tls": {"verify": False}}) == told


def _files(files: tuple[Path, Path]) -> tuple[str, ...]:
    return "--tlscert", str(files[0]), "--tlskey", str(files[1])


async def test_stores_are_observed_and_held_against_each_other(
    postgresql: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a gateway writes to two stores must agree in number: the same question to a sound pair and to a torn one."""
    monkeypatch.setattr("bounceback.recovery.means.Secrets", Held)
    with real_servers.redis() as redis, real_servers.nats() as nats:
        spec = RecoveryCheckSpec.model_validate(
            {
                "observations": [
                    {"name": "alerts", **sql(postgresql, "select fingerprint from alerts order by 1")},
                    {
                        "name": "fingerprints",
                        "redis": {"host": "127.0.0.1", "port": redis.port, "command": ["SMEMBERS", "fingerprints"]},
                    },
                    {"name": "bus", "nats": {"host": "127.0.0.1", "port": nats.port}},
                ],
                "invariants": [{"name": "agree", "expression": "size(after.fingerprints) == size(after.alerts)"}],
            }
        )
        login = {"user": "postgres", "password": "secret", "database": "postgres"}
        connection = await asyncpg.connect(host="127.0.0.1", port=postgresql.port, **login)
        await connection.execute("drop table if exists alerts; create table alerts (fingerprint text)")
        await connection.execute("insert into alerts values ('a'), ('b')")
        await connection.close()
        async with Means(NO_CLUSTER, "shop") as means:
            store = {"host": "127.0.0.1", "port": redis.port}
            assert await looked(means, redis={**store, "command": ["SADD", "fingerprints", "a", "b"]}) is None
            sound = await observe(NO_CLUSTER, "shop", spec, NO_SEAL)
            assert await looked(means, redis={**store, "command": ["SREM", "fingerprints", "b"]}) is None
        torn = await observe(NO_CLUSTER, "shop", spec, NO_SEAL)
    assert sound["alerts"] == [{"fingerprint": "a"}, {"fingerprint": "b"}]
    assert sorted(sound["fingerprints"]) == ["a", "b"]
    assert sound["bus"]["server"]["jetstream"]
    assert "secret" not in json.dumps(sound)
    assert evaluate(spec.invariants[0].expression, {"after": sound})
    assert not evaluate(spec.invariants[0].expression, {"after": torn})
