"""The login that is MySQL's own, caching_sha2_password, which MariaDB lacks: by TLS, and by an RSA key without it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from pymysql import _auth
from pymysql.protocol import MysqlPacket

from bounceback.accounting.ledger import Outcome
from bounceback.api.looks_stores import SqlSource
from bounceback.connecting import mysql
from bounceback.recovery.errors import NotHealthyError
from bounceback.recovery.sql import ask_by_sql
from tests import real_servers
from tests.integration.looking import AUTHORITY, means_of_no_cluster
from tests.real_servers import Server
from tests.relay.test_workload_sql import TABLES, apart, told_mariadb
from tests.relay.test_workload_tls import ITEMS, NAME, Store, outcome_of, overheard, pem

SHOP: Final = Store(
    "sql", {"kind": "MySQL", "database": "shop", "user": "shop", **ITEMS}, real_servers.mariadb, "MySQL: "
)
SECURE: Final = {"serverName": NAME}


@pytest.fixture(autouse=True)
def password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_PASSWORD", "secret")


@pytest.fixture(scope="module")
def behind() -> Iterator[Server]:
    with real_servers.mariadb() as server:
        apart(told_mariadb(server, TABLES))
        yield server


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    key = rsa.generate_private_key(65537, 2048)
    return real_servers.certificate(tmp_path_factory.mktemp("tls"), AUTHORITY, [NAME], key=key)


@pytest.fixture
def server(behind: Server, files: tuple[Path, Path]) -> Iterator[Server]:
    """One that has no login in its cache yet."""
    with real_servers.mysql_login(behind, files) as started:
        yield started


@pytest.mark.parametrize("tls", [{}, {"tls": SECURE}], ids=["by RSA", "by TLS"])
async def test_a_workload_logs_in_and_nobody_hears_its_password(server: Server, tls: dict[str, Any]) -> None:
    async with overheard(server.port) as (port, heard):
        for how in ("with all of it", "by what the server keeps"):
            outcome, trouble = await outcome_of(SHOP.workload(port, **tls), pem(AUTHORITY) if tls else None)
            assert outcome is Outcome.ACKNOWLEDGED, (how, trouble)
        assert b"secret" not in heard
        assert (b"insert into items" in heard) is not bool(tls)


@pytest.mark.parametrize("tls", [{}, {"tls": SECURE}], ids=["by RSA", "by TLS"])
async def test_a_wrong_password_is_refused_in_the_servers_words(
    server: Server, monkeypatch: pytest.MonkeyPatch, tls: dict[str, Any]
) -> None:
    monkeypatch.setenv("SHOP_PASSWORD", "guessed")
    outcome, trouble = await outcome_of(SHOP.workload(server.port, **tls), pem(AUTHORITY) if tls else None)
    assert outcome is Outcome.FAILED
    assert "Access denied for user 'shop'" in trouble


@pytest.mark.parametrize("tls", [{}, {"tls": SECURE | {"authorities": {"secretName": "ca"}}}], ids=["by RSA", "by TLS"])
async def test_a_probe_logs_in(server: Server, tls: dict[str, Any]) -> None:
    asked = {"kind": "MySQL", "host": "127.0.0.1", "database": "shop", "query": "select 7 as n"}
    async with means_of_no_cluster() as means, overheard(server.port) as (port, heard):
        source = SqlSource.model_validate({**asked, "port": port, "login": {"secretName": "mysql"}, **tls})
        for _ in range(2):
            assert (await ask_by_sql(means, source))["rows"] == [{"n": 7}]
        assert b"secret" not in heard


async def test_a_server_that_asks_for_the_password_in_the_clear_does_not_get_it() -> None:
    """As whoever is in the way could: in its greeting, or by changing the method after it."""
    for greeting, answer in (
        (greeted(b"mysql_clear_password"), b""),
        (greeted(b"caching_sha2_password"), packet(2, b"\xfemysql_clear_password\0")),
    ):
        heard = bytearray()

        async def asks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(greeting)  # noqa: B023
            while data := await reader.read(4096):
                heard.extend(data)  # noqa: B023
                writer.write(answer)  # noqa: B023
            writer.close()

        server = await asyncio.start_server(asks, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            assert await outcome_of(SHOP.workload(port)) == (Outcome.FAILED, f"MySQL: {mysql.NOT_IN_THE_CLEAR}")
            asked = {"kind": "MySQL", "host": "127.0.0.1", "port": port, "database": "shop", "query": "select 7"}
            async with means_of_no_cluster() as means:
                source = SqlSource.model_validate({**asked, "login": {"secretName": "mysql"}})
                with pytest.raises(NotHealthyError, match="asks for the password in the clear"):
                    await ask_by_sql(means, source)
        assert b"secret" not in heard


def packet(number: int, body: bytes) -> bytes:
    return len(body).to_bytes(3, "little") + bytes([number]) + body


def greeted(method: bytes) -> bytes:
    """A greeting of protocol 10 without TLS, by that method."""
    capable = (1 << 3 | 1 << 9 | 1 << 15 | 1 << 19).to_bytes(4, "little")  # database, 4.1, nonces, methods
    first, rest = b"12345678", b"123456789012\0"
    head = b"\x0a8.4.0\0" + (7).to_bytes(4, "little") + first + b"\0" + capable[:2] + b"\x21" + b"\2\0" + capable[2:]
    return packet(0, head + b"\x15" + bytes(10) + rest + method + b"\0")


async def test_the_nonce_of_a_change_of_method_ends_before_its_nul(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the NUL the server would not know the password again, and log in the long way each time."""
    connection = mysql.Connection(password="secret")
    written: list[bytes] = []
    answers = iter((b"\x01\x03", bytes(7)))  # known again; all is well

    async def read(*_: object) -> MysqlPacket:
        return MysqlPacket(next(answers), "utf8")

    monkeypatch.setattr(connection, "write_packet", written.append)
    monkeypatch.setattr(connection, "_read_packet", read)
    nonce = b"12345678901234567890"
    switch = MysqlPacket(b"\xfecaching_sha2_password\0" + nonce + b"\0", "utf8")
    switch.advance(1)
    switch.read_string()
    await connection.caching_sha2_password_auth(switch)
    assert written == [_auth.scramble_caching_sha2(b"secret", nonce)]
