"""Looks at names, certificates, health services and metrics: a server that passes, and one for each way to fail."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from bounceback.api.check import RecoveryCheckSpec
from bounceback.proxy import issuing
from bounceback.proxy.certificates import Authority
from bounceback.recovery.errors import CannotLookError
from bounceback.recovery.means import Means
from bounceback.recovery.watching import Watching
from tests import real_servers
from tests.integration.looking import AUTHORITY, NO_CLUSTER, SECRETS, looked
from tests.integration.test_recovery_looks import serving
from tests.relay.name_server import name_server

GRPC = {0: b"", 1: b"\x08\x01", 2: b"\x08\x02"}


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with name_server(tmp_path_factory.mktemp("dns")) as port:
        yield port


@pytest.mark.parametrize(
    ("look", "told"),
    [
        ({"name": "db.shop.test"}, None),
        ({"name": "db.shop.test", "protocol": "TCP"}, None),
        ({"name": "db.shop.test", "expectAnswers": ["10.0.0.7"]}, None),
        ({"name": "db.shop.test", "expectAnswers": ["10.0.0.8"]}, "db.shop.test A: 10.0.0.7, expected 10.0.0.8"),
        ({"name": "www.shop.test", "expectAnswers": ["10.0.0.8"]}, None),
        ({"name": "_sql._tcp.shop.test", "type": "SRV", "expectAnswers": ["0 0 5432 db.shop.test."]}, None),
        ({"name": "large.shop.test", "type": "TXT", "expression": "size(answers) == 1 && ttl <= 60"}, None),
        ({"name": "ns.shop.test", "type": "AAAA"}, "ns.shop.test AAAA: there is no such record"),
        ({"name": "gone.shop.test"}, "gone.shop.test A: NXDOMAIN, expected NOERROR"),
        ({"name": "gone.shop.test", "expectCode": "NXDOMAIN"}, None),
        ({"name": "db.shop.test", "expectCode": "NXDOMAIN"}, "db.shop.test A: NOERROR, expected NXDOMAIN"),
        ({"name": "db.shop.test", "expression": "size(answers) > 1"}, "size(answers) > 1 is false; code "),
    ],
)
async def test_dns(names: int, means: Means, look: dict[str, Any], told: str | None) -> None:
    found = await looked(means, dns={"server": "127.0.0.1", "port": names, **look})
    assert found is None if told is None else (found or "").startswith(told), found


async def test_a_name_server_that_is_silent_or_not_there(means: Means) -> None:
    port = real_servers.free_port()
    refused = await looked(means, dns={"name": "a.test", "server": "127.0.0.1", "port": port, "protocol": "TCP"})
    assert refused == "name server 127.0.0.1: connection refused"
    silent = {"dns": {"name": "a.test", "server": "127.0.0.1", "port": port}, "timeoutMilliseconds": 200}
    assert await looked(means, **silent) in (
        "name server 127.0.0.1 did not answer",
        "name server 127.0.0.1: connection refused",
    )
    with pytest.raises(CannotLookError, match="is no name"):
        await looked(means, dns={"name": "a..test"})


@asynccontextmanager
async def tls_server(place: Path, authority: Authority, names: list[str], days: int) -> AsyncIterator[int]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*real_servers.certificate(place, authority, names, days))

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            await reader.read()
        writer.close()

    async with await asyncio.start_server(hold, "127.0.0.1", 0, ssl=context) as server:
        yield server.sockets[0].getsockname()[1]


ROOTED = {"authorities": {"secretName": "root"}, "serverName": "web.test"}
OURS = {"authorities": {"secretName": "ca"}, "serverName": "web.test"}


@pytest.mark.parametrize(
    ("days", "look", "told"),
    [
        (90, {"tls": OURS}, None),
        (90, {"tls": OURS, "validDays": 30, "expression": "daysLeft >= 90 && 'web.test' in names"}, None),
        (10, {"tls": OURS, "validDays": 30}, "the certificate is valid until "),
        (-2, {"tls": OURS}, "certificate not trusted: certificate has expired"),
        (-2, {"tls": {"verify": False}, "validDays": 0}, "the certificate is valid until "),
        (90, {"tls": {**OURS, "serverName": "db.test"}}, "certificate not trusted: Hostname mismatch"),
        (90, {"tls": {"serverName": "web.test"}}, "certificate not trusted: unable to get local issuer certificate"),
        (90, {"tls": {"verify": False}, "expression": "version == 'TLSv1.3'"}, None),
        (90, {"tls": OURS, "expression": "version == 'TLSv1.2'"}, "version == 'TLSv1.2' is false; "),
    ],
)
async def test_tls(means: Means, tmp_path: Path, days: int, look: dict[str, Any], told: str | None) -> None:
    async with tls_server(tmp_path, AUTHORITY, ["web.test"], days) as port:
        found = await looked(means, tls={"host": "127.0.0.1", "port": port, **look})
    assert found is None if told is None else (found or "").startswith(told), found


def signed_by(authority: Authority | None, name: str, days: int = 90) -> Authority:
    """An authority between that one and the servers', valid for so many days yet; without one, a root."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    issuer = authority.certificate.subject if authority else subject
    builder = issuing.begun(
        subject, issuer, key.public_key(), now - timedelta(days=30), now + timedelta(days=days, hours=1)
    ).add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    certificate = authority.sign(builder) if authority else builder.sign(key, hashes.SHA256())
    return Authority(certificate, key)


@pytest.fixture(scope="module")
def chains(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    """Files with what servers show, and the key: the server's certificate is fine in all of them."""
    place = tmp_path_factory.mktemp("chains")
    root = signed_by(None, "root")
    SECRETS["root"] = {"ca.crt": root.certificate.public_bytes(real_servers.PEM).decode()}
    upper = signed_by(root, "upper")
    fresh, old, short = signed_by(upper, "lower"), signed_by(upper, "lower", -2), signed_by(upper, "lower", 10)
    shown: dict[str, tuple[Authority, list[Authority]]] = {
        "whole": (fresh, [fresh, upper]),
        "with its root": (fresh, [fresh, upper, root]),
        "without one between": (fresh, [upper]),
        "without any between": (fresh, []),
        "one between has expired": (old, [old, upper]),
        "one between ends soon": (short, [short, upper]),
        "in the wrong order": (fresh, [upper, fresh]),
        "with one that has expired and is not needed": (fresh, [fresh, upper, signed_by(root, "other", -2)]),
    }
    found = {}
    for n, (name, (signer, others)) in enumerate(shown.items()):
        folder = place / str(n)
        folder.mkdir()
        certificate, key = real_servers.certificate(folder, signer, ["web.test"])
        with certificate.open("ab") as file:
            file.writelines(each.certificate.public_bytes(real_servers.PEM) for each in others)
        found[name] = certificate, key
    return found


@pytest.mark.parametrize(
    ("shows", "look", "told"),
    [
        ("whole", {"validDays": 30}, None),
        ("whole", {"expression": "chain.map(c, c.subject) == ['CN=web.test', 'CN=lower', 'CN=upper']"}, None),
        ("whole", {"expression": "chain.all(c, c.daysLeft > 365)"}, "chain.all(c, c.daysLeft > 365) is false; "),
        ("with its root", {}, None),
        (
            "without one between",
            {},
            "certificate not trusted: unable to get local issuer certificate; "
            "CN=lower is neither among the 2 shown nor among the authorities that are trusted",
        ),
        (
            "without any between",
            {},
            "certificate not trusted: unable to get local issuer certificate; "
            "CN=lower is neither among the 1 shown nor among the authorities that are trusted",
        ),
        (
            "one between has expired",
            {},
            "certificate not trusted: certificate has expired; certificate 2 of 3, CN=lower, was valid until ",
        ),
        ("one between has expired", {"tls": {"verify": False}}, "certificate 2 of 3, CN=lower, is valid until "),
        ("one between ends soon", {}, None),
        ("one between ends soon", {"validDays": 30}, "certificate 2 of 3, CN=lower, is valid until "),
        (
            "in the wrong order",
            {},
            "the chain is not in order: certificate 2 of 3, CN=upper, must be CN=lower, who signed the one before it",
        ),
        ("in the wrong order", {"anyOrder": True}, None),
        ("with one that has expired and is not needed", {}, "certificate 4 of 4, CN=other, is valid until "),
        (
            "whole",
            {"tls": {"serverName": "web.test"}},
            "certificate not trusted: unable to get local issuer certificate; CN=root is neither among the 3 shown",
        ),
    ],
)
async def test_the_chain_that_a_server_shows(
    means: Means, chains: dict[str, tuple[Path, Path]], shows: str, look: dict[str, Any], told: str | None
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*chains[shows])
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    try:
        asked = {"host": "127.0.0.1", "port": server.sockets[0].getsockname()[1], "tls": ROOTED, **look}
        found = await looked(means, tls=asked)
    finally:
        server.close()
    assert found is None if told is None else (found or "").startswith(told), found


async def test_a_server_that_knows_no_tls_or_is_not_there(means: Means) -> None:
    async def plain(_: web.BaseRequest) -> web.StreamResponse:
        return web.Response()

    async with serving(plain) as address:
        port = int(address.rpartition(":")[2])
        assert (await looked(means, tls={"host": "127.0.0.1", "port": port}) or "").startswith("TLS: ")
    assert await looked(means, tls={"host": "127.0.0.1", "port": port}) == "connection refused"


@asynccontextmanager
async def grpc_server(
    check: Callable[[bytes, Any], bytes] | None, files: tuple[Path, Path] | None = None
) -> AsyncIterator[int]:
    """gRPC's own server; with `check` it offers the health service, whose messages it takes as they are."""
    server = grpc.server(ThreadPoolExecutor(2))
    if check is not None:
        handler = grpc.unary_unary_rpc_method_handler(check)
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": handler}),)
        )
    if files:
        key, chain = files[1].read_bytes(), files[0].read_bytes()
        port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(key, chain)]))
    else:
        port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield port
    finally:
        await asyncio.to_thread(server.stop(None).wait)


def health(request: bytes, context: Any) -> bytes:
    match request:
        case b"":
            return GRPC[1]
        case b"\x0a\x04down":
            return GRPC[2]
        case b"\x0a\x07unclear":
            return GRPC[0]
    context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
    raise AssertionError


async def test_grpc(means: Means, tmp_path: Path) -> None:
    files = real_servers.certificate(tmp_path, AUTHORITY, ["web.test"])

    async def ask(port: int, **look: Any) -> str | None:
        return await looked(means, grpc={"host": "127.0.0.1", "port": port, **look})

    async with grpc_server(health) as port:
        assert await ask(port) is None
        assert await ask(port, service="down") == "down is NOT_SERVING"
        assert await ask(port, service="down", expression="status == 'NOT_SERVING'") is None
        assert await ask(port, service="unclear") == "unclear is UNKNOWN"
        assert await ask(port, service="nobody's") == "gRPC status NOT_FOUND: unknown service"
    assert await ask(port) == "connection refused"
    async with grpc_server(None) as port:
        found = await ask(port)
        assert (found or "").startswith("gRPC status UNIMPLEMENTED: ")
        assert (found or "").endswith("; it does not offer grpc.health.v1")
    async with grpc_server(health, files) as port:
        assert await ask(port, tls=OURS) is None
        assert (await ask(port, tls={"serverName": "web.test"}) or "").startswith("certificate not trusted: ")
        found = await ask(port)  # it answers in TLS that this is none, or just leaves
        assert (found or "").startswith(("connection closed", "connection reset", "not a valid HTTP/2 answer: "))

    async def plain(_: web.BaseRequest) -> web.StreamResponse:
        return web.Response()

    async with serving(plain) as address:
        found = await ask(int(address.rpartition(":")[2]))
        assert (found or "").startswith(("not a valid HTTP/2 answer: ", "connection closed before an answer"))


PAGE = """# HELP queue_depth Things that wait.
# TYPE queue_depth gauge
queue_depth{queue="new",color="a\\"b"} 7
queue_depth{queue="old"} 0
queue_depth_max 9
# TYPE seen_total counter
seen_total 41
latency_seconds_bucket{le="+Inf"} 3
"""


@asynccontextmanager
async def page(text: str = PAGE) -> AsyncIterator[str]:
    async def show(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(text=text) if request.path == "/metrics" else web.Response(status=404)

    async with serving(show) as address:
        yield address


@pytest.mark.parametrize(
    ("look", "told"),
    [
        ({"metric": "queue_depth", "expression": "value < 10.0"}, None),
        (
            {"metric": "queue_depth", "expression": "value < 5"},
            'value < 5 is false; value 7 of {color="a"b", queue="new"}',
        ),
        ({"metric": "queue_depth", "labels": {"queue": "old"}, "expression": "value == 0"}, None),
        ({"metric": "queue_depth", "expression": "labels.queue == 'old' || value == 7"}, None),
        ({"metric": "seen_total", "expression": "value == 41"}, None),
        ({"metric": "latency_seconds_bucket", "labels": {"le": "+Inf"}, "expression": "value == 3"}, None),
        ({"metric": "queue_dept", "expression": "true"}, "/metrics shows no queue_dept"),
        ({"metric": "queue_depth", "labels": {"queue": "x"}, "expression": "true"}, 'shows no queue_depth{queue="x"}'),
        ({"url": "/", "metric": "queue_depth", "expression": "true"}, ": status 404, expected 200"),
    ],
)
async def test_a_page_of_metrics(means: Means, look: dict[str, Any], told: str | None) -> None:
    async with page() as address:
        found = await looked(means, prometheus={**look, "url": address + look.get("url", "/metrics")})
    assert found is None if told is None else told in (found or ""), found


async def test_a_page_that_is_none(means: Means) -> None:
    async with page('queue_depth{queue="new} x\n') as address:
        broken = {"url": f"{address}/metrics", "metric": "queue_depth", "expression": "true"}
        assert "not in Prometheus' text format" in (await looked(means, prometheus=broken) or "")
    assert (await looked(means, prometheus=broken) or "").endswith(": connection refused")


async def test_promql(means: Means) -> None:
    async def ask(query: str, expression: str) -> str | None:
        look = {"url": f"http://127.0.0.1:{server.port}", "query": query, "expression": expression}
        return await looked(means, prometheus=look)

    async with page() as address, asyncio.timeout(120):
        with real_servers.prometheus(int(address.rpartition(":")[2])) as server:
            await until_scraped(ask)
            assert await ask("sum(queue_depth)", "value == 7") is None
            assert await ask("queue_depth", "value < 5") is not None
            assert await ask("scalar(sum(queue_depth))", "value == 7.0") is None
            assert await ask("no_such_metric or vector(0)", "value == 0") is None
            with pytest.raises(CannotLookError, match=r"^the query returns nothing: no_such_metric; "):
                await ask("no_such_metric", "true")
            with pytest.raises(CannotLookError, match=r"^Prometheus refuses the query: .*parse error"):
                await ask("sum(", "true")
            with pytest.raises(CannotLookError, match="returns a matrix"):
                await ask("queue_depth[1m]", "true")
        with pytest.raises(CannotLookError, match=r"^Prometheus at .*: connection refused$"):
            await ask("up", "true")


async def until_scraped(ask: Callable[[str, str], Awaitable[str | None]]) -> None:
    while True:
        try:
            if await ask("queue_depth", "value >= 0") is None:
                return
        except CannotLookError as error:
            assert "returns nothing" in str(error) or "status 503" in str(error), error
        await asyncio.sleep(0.2)


async def test_what_we_look_with_is_not_what_we_look_at() -> None:
    """A Prometheus that is gone is a problem of ours, in time a gap, and never a sample of the system."""
    look = {"url": f"http://127.0.0.1:{real_servers.free_port()}", "query": "up", "expression": "value == 1"}
    probe = {"name": "it", "prometheus": look, "periodMilliseconds": 50, "timeoutMilliseconds": 30_000}
    spec = RecoveryCheckSpec.model_validate({"probes": [probe]})
    told: list[int] = []
    async with Watching(NO_CLUSTER, "shop", [("web", spec)], None, lambda: told.append(1)) as watching:
        async with asyncio.timeout(30):
            while not watching.problems():
                await asyncio.sleep(0.02)
        await asyncio.sleep(0.2)
        history = watching.histories("web")["it"]
        assert history.samples == 0
        assert history.gaps
        assert told == [1], "told once, for as long as it stays the same"
        assert watching.problems() == [
            f"RecoveryCheck web: spec.probes[0].prometheus: Prometheus at {look['url']}: connection refused"
        ]
