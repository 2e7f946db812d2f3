"""Workloads by TLS on real servers: whom they trust, and that nobody is told a password in the clear."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from nats.aio.client import Client

from bounceback.accounting.ledger import Function, Outcome
from bounceback.api.workload import Workload
from bounceback.connecting.tls import NO_TLS
from bounceback.proxy.certificates import Authority
from bounceback.workload.systems import system_of
from tests import real_servers
from tests.real_servers import PEM, Server
from tests.relay.test_workload_sql import TABLES, apart, told_mariadb, told_postgresql

Json = dict[str, Any]
Files = tuple[Path, Path]
NAME: Final = "store.test"
AUTHORITY, OTHER = Authority.made("shop"), Authority.made("somebody else")
ITEMS: Final = {"write": "insert into items values ({value})", "list": "select id from items"}
PASSWORD: Final = "secret"


@dataclass(frozen=True)
class Store:
    """How the server is started, with TLS or without, and what a workload on it says."""

    field: str
    fields: Json
    started: Callable[[Files | None], AbstractContextManager[Server]]
    told: str

    def workload(self, port: int, **tls: Any) -> Workload:
        place = {"host": "127.0.0.1", "port": port, "passwordVariable": "SHOP_PASSWORD", **self.fields, **tls}
        few = {"load": {"closed": {"clients": 4}}, "mostOperations": 60, "seconds": 60, "settleSeconds": 0}
        return Workload.model_validate(
            {"model": "Set", self.field: place, "readPercent": 0, "timeoutMilliseconds": 20_000, **few}
        )


@contextmanager
def postgresql(files: Files | None) -> Iterator[Server]:
    with real_servers.postgresql(files) as server:
        apart(told_postgresql(server, TABLES))
        yield server


@contextmanager
def mariadb(files: Files | None) -> Iterator[Server]:
    with real_servers.mariadb(files) as server:
        apart(told_mariadb(server, TABLES))
        yield server


@contextmanager
def redis(files: Files | None) -> Iterator[Server]:
    options = ["--requirepass", PASSWORD]
    if files:
        port = real_servers.free_port()
        options += ["--tls-port", str(port), "--tls-cert-file", str(files[0]), "--tls-key-file", str(files[1])]
        options += ["--tls-auth-clients", "no"]
    with real_servers.redis(*options) as server:
        if files:
            server.port = port
        yield server


@contextmanager
def nats(files: Files | None, *more: str) -> Iterator[Server]:
    tls = ["--tls", "--tlscert", str(files[0]), "--tlskey", str(files[1])] if files else []
    with real_servers.nats("--user", "shop", "--pass", PASSWORD, *tls, *more) as server:
        apart(made_stream(server, files is not None))
        yield server


async def made_stream(server: Server, by_tls: bool) -> None:
    client = Client()
    context = unverified() if by_tls else None
    scheme = "tls" if by_tls else "nats"
    await client.connect(f"{scheme}://127.0.0.1:{server.port}", user="shop", password=PASSWORD, tls=context)
    await client.jetstream().add_stream(name="items", subjects=["items.*"])
    await client.close()


def unverified() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


STORES: Final = {
    "postgresql": Store(
        "sql", {"kind": "PostgreSQL", "database": "postgres", "user": "postgres", **ITEMS}, postgresql, "PostgreSQL: "
    ),
    "mariadb": Store("sql", {"kind": "MySQL", "database": "shop", "user": "root", **ITEMS}, mariadb, "MySQL: "),
    "redis": Store("redis", {}, redis, "Redis: "),
    "nats": Store("nats", {"user": "shop", "stream": "items", "subject": "items.{key}"}, nats, "NATS: "),
}
REFUSED_BY_ANOTHER_WORD: Final = {"postgresql": "rejected SSL upgrade", "redis": "no connection in time, by TLS"}
"""What the libraries themselves see to."""


@pytest.fixture(autouse=True)
def password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_PASSWORD", PASSWORD)


@pytest.fixture(scope="module", params=list(STORES))
def secure(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, Server]]:
    files = real_servers.certificate(tmp_path_factory.mktemp("tls"), AUTHORITY, [NAME])
    store = STORES[request.param]
    with store.started(files) as server:
        yield store, server


def pem(authority: Authority) -> str:
    return authority.certificate.public_bytes(PEM).decode()


async def outcome_of(workload: Workload, authorities: str | None = None) -> tuple[Outcome, str]:
    client = system_of(workload, authorities).client()
    try:
        return (await client.perform(Function.WRITE, "1-1", 1 << 33)).outcome, client.trouble
    finally:
        await client.close()


async def command(tmp_path: Path, workload: Workload) -> tuple[int, str, str]:
    """`bounceback workload`, which has a loop of another kind than the tests."""
    (tmp_path / "workload.yaml").write_text(json.dumps(workload.to_json()))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bounceback", "workload", "workload.yaml", "-o", "json"),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


async def test_a_server_that_is_trusted_is_worked_on(secure: tuple[Store, Server], tmp_path: Path) -> None:
    store, server = secure
    (tmp_path / "ca.crt").write_text(pem(AUTHORITY))
    tls = {"authoritiesFile": "ca.crt", "serverName": NAME}
    code, out, err = await command(tmp_path, store.workload(server.port, tls=tls))
    assert code == 0, out + err
    assert json.loads(out)["operations"]["acknowledged"] == 60


async def test_whom_a_workload_does_not_trust_it_tells_nothing(secure: tuple[Store, Server]) -> None:
    store, server = secure
    for tls, authority, told in (
        ({"serverName": NAME}, OTHER, "certificate not trusted: "),
        ({"serverName": "other.test"}, AUTHORITY, "certificate not trusted: Hostname mismatch"),
        ({}, AUTHORITY, "certificate not trusted: IP address mismatch"),
    ):
        outcome, trouble = await outcome_of(store.workload(server.port, tls=tls), pem(authority))
        assert outcome is Outcome.FAILED
        assert trouble.startswith(store.told + told), trouble
    assert (await outcome_of(store.workload(server.port, tls={"serverName": NAME})))[1].startswith(
        f"{store.told}certificate not trusted: "
    ), "the system's authorities do not know it"
    assert (await outcome_of(store.workload(server.port, tls={"verify": False})))[0] is Outcome.ACKNOWLEDGED


@asynccontextmanager
async def overheard(port: int) -> AsyncIterator[tuple[int, bytearray]]:
    """A port that leads to that one, and what clients send by it."""
    heard = bytearray()

    async def passed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, keep: bytearray | None) -> None:
        while data := await reader.read(65536):
            if keep is not None:
                keep += data
            writer.write(data)
        writer.close()

    async def led(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port)
        ways = passed(reader, back, heard), passed(there, writer, None)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*ways, return_exceptions=True)

    server = await asyncio.start_server(led, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], heard


@pytest.mark.parametrize("name", list(STORES))
async def test_a_server_without_tls_is_told_nothing(name: str) -> None:
    store = STORES[name]
    with store.started(None) as server:
        async with overheard(server.port) as (port, heard):
            assert (await outcome_of(store.workload(port)))[0] is Outcome.ACKNOWLEDGED, "without `tls` it is worked on"
            assert b"shop" in heard or b"postgres" in heard or b"secret" in heard or b"root" in heard
            heard.clear()
            asked = store.workload(port, tls={"verify": False})
            outcome, trouble = await outcome_of(asked.model_copy(update={"timeout_milliseconds": 3000}))
            assert outcome is Outcome.FAILED
            assert trouble.startswith(store.told) and REFUSED_BY_ANOTHER_WORD.get(name, NO_TLS) in trouble, trouble
            assert not any(word in heard for word in (b"secret", b"shop", b"postgres", b"root", b"AUTH", b"CONNECT"))


async def test_a_server_that_leaves_tls_to_its_clients_is_spoken_to_as_the_workload_says(tmp_path: Path) -> None:
    files = real_servers.certificate(tmp_path, AUTHORITY, [NAME])
    (tmp_path / "nats.conf").write_text("allow_non_tls: true\n")
    store = STORES["nats"]
    with nats(files, "-c", str(tmp_path / "nats.conf")) as server:
        async with overheard(server.port) as (port, heard):
            tls = {"serverName": NAME}
            assert (await outcome_of(store.workload(port, tls=tls), pem(AUTHORITY)))[0] is Outcome.ACKNOWLEDGED
            assert b"secret" not in heard
            assert (await outcome_of(store.workload(port)))[0] is Outcome.ACKNOWLEDGED
            assert b"secret" in heard


async def test_a_server_that_wants_tls_is_told_of_by_that_name(tmp_path: Path) -> None:
    with nats(real_servers.certificate(tmp_path, AUTHORITY, [NAME])) as server:
        outcome, trouble = await outcome_of(STORES["nats"].workload(server.port))
    assert (outcome, trouble) == (Outcome.FAILED, "NATS: the server wants TLS: give `tls`")


async def test_authorities_that_are_none_are_refused_by_their_field(tmp_path: Path) -> None:
    workload = STORES["redis"].workload(1, tls={"authoritiesFile": "ca.crt"})
    code, _, err = await command(tmp_path, workload)
    assert code == 2 and "redis.tls.authoritiesFile: cannot be read: No such file or directory: ca.crt" in err, err
    (tmp_path / "ca.crt").write_text("nothing of the kind")
    code, _, err = await command(tmp_path, workload)
    assert code == 2 and "redis.tls.authoritiesFile: must hold certificates in PEM: " in err, err
