"""Authorities and certificates that change while a proxy before a TLS API server lives: nobody starts anew, and nobody
whom the authority of the day did not sign is spoken to."""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import ssl
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.x509.oid import NameOID

from bounceback.cli import exec_plugin, proxy_cluster
from bounceback.cli.exits import CommandError
from bounceback.cli.proxy_cluster import ClusterProxy
from bounceback.gate import serve
from bounceback.gate.certifying import Certified
from bounceback.gate.places import Places
from bounceback.proxy.api.contexts import listening
from bounceback.proxy.api.loopback import Loopback
from bounceback.proxy.shown import load
from tests.relay.conftest import PATIENCE

Json = dict[str, Any]
ASKED = b"GET /api/v1/pods HTTP/1.1\r\nHost: api\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def authority() -> Loopback:
    """Somebody who signs for servers on loopback, and for clients."""
    return Loopback(asks_for_certificates=False)


@dataclass
class ApiServer:
    """Says ok; `seen`: who asked, by the certificate that they showed."""

    context: ssl.SSLContext = field(default_factory=listening)
    seen: list[tuple[str, int]] = field(default_factory=list)
    port: int = 0

    def show(self, signer: Loopback) -> None:
        """A certificate of that authority from now on."""
        load(self.context, *signer.server())

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
                if shown:
                    certificate = x509.load_der_x509_certificate(shown)
                    (name,) = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
                    self.seen.append((str(name.value), certificate.serial_number))
                else:
                    self.seen.append(("", 0))
                writer.write(ANSWER)
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def api_server(signer: Loopback, clients: Loopback | None = None) -> AsyncIterator[ApiServer]:
    """`clients`: whose clients alone it speaks to."""
    server = ApiServer()
    server.show(signer)
    if clients is not None:
        server.context.verify_mode = ssl.CERT_REQUIRED
        server.context.load_verify_locations(cadata=clients.authority.decode())
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=server.context)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()


class Asker:
    """A client with one connection, which trusts that authority alone."""

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        self._port = port
        self._context = context
        self._writer: asyncio.StreamWriter | None = None

    async def ask(self) -> bool:
        """Whether it was answered; else its connection has ended."""
        async with asyncio.timeout(PATIENCE):
            if self._writer is None:
                self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port, ssl=self._context)
            try:
                self._writer.write(ASKED)
                return await self._reader.readexactly(len(ANSWER)) == ANSWER
            except (asyncio.IncompleteReadError, OSError):
                self.close()
                return False

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def replaced(file: Path, content: bytes) -> None:
    """As the kubelet replaces what is mounted: all at once."""
    new = file.with_name(f"..{file.name}")
    new.write_bytes(content)
    new.rename(file)


async def rotated(server: ApiServer, first: Loopback, ca: Path, look: Callable[[], None], client: Asker) -> None:
    """The server's authority gives way to another one, in the order in which that is done."""
    second, stranger = authority(), authority()
    assert await client.ask()
    replaced(ca, first.authority + second.authority)
    look()
    assert await client.ask()  # by the connection that it has
    client.close()
    assert await client.ask()
    server.show(second)
    client.close()
    assert await client.ask()
    replaced(ca, second.authority)
    look()
    client.close()
    assert await client.ask()
    for unknown in (stranger, first):
        before = len(server.seen)
        server.show(unknown)
        client.close()
        assert not await client.ask()
        assert len(server.seen) == before
    for wrong in (b"", b"no certificate"):
        replaced(ca, wrong)
        with suppress(OSError, ValueError):  # who calls it says so, and the one before stays
            look()
        assert not await client.ask()
    server.show(second)
    assert await client.ask()


def trusting(signer: bytes) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=signer.decode())


async def test_an_armed_pod_goes_on_while_the_cluster_s_authority_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = authority()
    for name in ("account", "shown", "kept"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(f"BOUNCEBACK_GATE_{name.upper()}", str(tmp_path / name))
    (tmp_path / "account" / "ca.crt").write_bytes(first.authority)
    async with api_server(first) as server:
        place = Places("127.0.0.1", server.port, tmp_path / "account", tmp_path / "shown", tmp_path / "kept", 1, ())
        own = authority()
        proxy = serve.PodProxy(place, Certified(own.authority, *own.server()))
        listener = await asyncio.get_running_loop().create_server(
            proxy._gate.connection, "127.0.0.1", 0, ssl=proxy.context
        )
        client = Asker(listener.sockets[0].getsockname()[1], trusting(own.authority))
        await rotated(server, first, place.authority, proxy.look, client)
        client.close()
        listener.close()
        await proxy._gate.drain(0)


def written(folder: Path, port: int, user: Json, **cluster: str) -> argparse.Namespace:
    """A kubeconfig, and the options with it."""
    document = {
        "clusters": [{"name": "c", "cluster": {"server": f"https://127.0.0.1:{port}", **cluster}}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    replaced(folder / "config", yaml.safe_dump(document).encode())
    return argparse.Namespace(
        kubeconfig=str(folder / "config"),
        context=None,
        write_kubeconfig=str(folder / "out"),
        api_listen="127.0.0.1:0",
        client=[],
    )


def read(kubeconfig: Path) -> Json:
    return dict(yaml.safe_load(kubeconfig.read_text(encoding="utf-8")))


@asynccontextmanager
async def proxied(options: argparse.Namespace) -> AsyncIterator[tuple[ClusterProxy, Asker]]:
    """And a client that has nothing but the kubeconfig that was written."""
    proxy = ClusterProxy(options)
    await proxy.listen()
    found = read(Path(options.write_kubeconfig))
    cluster, user = found["clusters"][0]["cluster"], found["users"][0]["user"]
    assert "exec" not in user
    context = trusting(base64.b64decode(cluster["certificate-authority-data"]))
    if "client-certificate-data" in user:
        load(context, *(base64.b64decode(user[name]) for name in ("client-certificate-data", "client-key-data")))
    client = Asker(int(cluster["server"].rpartition(":")[2]), context)
    try:
        yield proxy, client
    finally:
        client.close()
        await proxy.drain(0)


async def test_bounceback_proxy_goes_on_while_the_cluster_s_authority_is_replaced(tmp_path: Path) -> None:
    first = authority()
    (tmp_path / "ca.crt").write_bytes(first.authority)
    async with api_server(first) as server:
        options = written(tmp_path, server.port, {"token": "t"}, **{"certificate-authority": "ca.crt"})
        async with proxied(options) as (proxy, client):
            await rotated(server, first, tmp_path / "ca.crt", proxy.look, client)


async def test_an_authority_in_the_kubeconfig_itself_is_taken_up_too(tmp_path: Path) -> None:
    first, second = authority(), authority()

    def data(signer: Loopback) -> Json:
        return {"certificate-authority-data": base64.b64encode(signer.authority).decode()}

    async with api_server(first) as server:
        options = written(tmp_path, server.port, {"token": "before"}, **data(first))
        async with proxied(options) as (proxy, client):
            assert await client.ask()
            server.show(second)
            client.close()
            assert not await client.ask()
            written(tmp_path, server.port, {"token": "after"}, **data(second))
            proxy.look()
            assert await client.ask()
            assert read(tmp_path / "out")["users"][0]["user"] == {"token": "after"}
            written(tmp_path, server.port, {"client-certificate-data": "", "client-key": "k"}, **data(second))
            proxy.look()  # is told, and changes nothing
            assert await client.ask()


# Credential plug-ins that give certificates

PLUGIN = """#!{python}
import json, os, pathlib, sys
info = json.loads(os.environ["KUBERNETES_EXEC_INFO"])
assert info["kind"] == "ExecCredential" and info["spec"]["interactive"] is False, info
assert info["spec"]["cluster"]["certificate-authority-data"], info
given = pathlib.Path({folder!r}, "given.json")
if not given.exists():
    sys.exit(3)
open({folder!r} + "/asked", "a").write("x")
print(given.read_text())
"""


@dataclass
class PlugIn:
    folder: Path
    signer: Loopback

    def __post_init__(self) -> None:
        self.program = self.folder / "plugin"
        self.program.write_text(PLUGIN.format(python=sys.executable, folder=str(self.folder)), encoding="utf-8")
        self.program.chmod(0o755)

    def gives(self, name: str, seconds: float | None = None, **more: str) -> int:
        """A certificate in that name, for so long; its number."""
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate, key = self.signer.client(subject)
        status = {"clientCertificateData": certificate.decode(), "clientKeyData": key.decode(), **more}
        if seconds is not None:
            status["expirationTimestamp"] = (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()
        answer = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status}
        replaced(self.folder / "given.json", json.dumps(answer).encode())
        return x509.load_pem_x509_certificate(certificate).serial_number

    @property
    def user(self) -> Json:
        version = "client.authentication.k8s.io/v1"
        return {"exec": {"apiVersion": version, "command": "./plugin", "provideClusterInfo": True}}

    @property
    def asked(self) -> int:
        return len((self.folder / "asked").read_text(encoding="utf-8"))


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PlugIn:
    monkeypatch.setattr(exec_plugin, "SOONEST", 0.05)
    monkeypatch.setattr(proxy_cluster, "AGAIN_SECONDS", 0.05)
    return PlugIn(tmp_path, authority())


async def test_a_certificate_of_a_plug_in_is_the_proxy_s_and_renewed_before_it_ends(
    plugin: PlugIn, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the client's one connection, which stays."""
    signer = authority()
    (tmp_path / "ca.crt").write_bytes(signer.authority)
    first = plugin.gives("ann", 9)
    async with api_server(signer, clients=plugin.signer) as server:
        options = written(tmp_path, server.port, plugin.user, **{"certificate-authority": "ca.crt"})
        async with proxied(options) as (_, client):
            assert await client.ask()
            assert server.seen == [("ann", first)]
            (tmp_path / "given.json").unlink()  # it fails for a while
            async with asyncio.timeout(PATIENCE):
                while "asked again" not in capsys.readouterr().err:
                    await asyncio.sleep(0.05)
            assert await client.ask()
            second = plugin.gives("ann", 3600)
            async with asyncio.timeout(PATIENCE):
                while server.seen[-1] != ("ann", second):
                    assert await client.ask()
                    await asyncio.sleep(0.05)
            assert plugin.asked == 2


async def test_who_comes_to_the_proxy_without_its_certificate_gets_no_further(plugin: PlugIn, tmp_path: Path) -> None:
    signer = authority()
    (tmp_path / "ca.crt").write_bytes(signer.authority)
    plugin.gives("ann")
    async with api_server(signer, clients=plugin.signer) as server:
        options = written(tmp_path, server.port, plugin.user, **{"certificate-authority": "ca.crt"})
        async with proxied(options) as (proxy, client):
            nobody = Asker(client._port, trusting(proxy._loopback.authority))
            assert not await nobody.ask()
            assert server.seen == []
            assert await client.ask()


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("", "is no ExecCredential"),
        ("[]", "is no ExecCredential"),
        ('{"status": {}}', "neither a token nor a client certificate"),
        ('{"status": {"clientCertificateData": "c"}}', "must be given together"),
        ('{"status": {"token": "t", "expirationTimestamp": "soon"}}', "is no ExecCredential"),
        (
            '{"status": {"clientCertificateData": "secret c", "clientKeyData": "secret k"}}',
            "certificates cannot be used",
        ),
        (None, "ended with 3"),
    ],
)
def test_what_a_plug_in_must_give(plugin: PlugIn, tmp_path: Path, given: str | None, why: str) -> None:
    (tmp_path / "ca.crt").write_bytes(plugin.signer.authority)
    if given is not None:
        (tmp_path / "given.json").write_text(given, encoding="utf-8")
    with pytest.raises(CommandError, match=why) as found:
        ClusterProxy(written(tmp_path, 1, plugin.user, **{"certificate-authority": "ca.crt"}))
    assert "secret" not in str(found.value)


def test_a_plug_in_that_gives_tokens_is_its_clients_own(plugin: PlugIn, tmp_path: Path) -> None:
    """Each asks it, as if there were no proxy."""
    (tmp_path / "ca.crt").write_bytes(plugin.signer.authority)
    (tmp_path / "given.json").write_text('{"status": {"token": "t"}}', encoding="utf-8")
    proxy = ClusterProxy(written(tmp_path, 1, plugin.user, **{"certificate-authority": "ca.crt"}))
    through = proxy._access.through(1, proxy._loopback)
    assert through["users"][0]["user"]["exec"]["command"] == str(tmp_path / "plugin")
    assert "client-certificate-data" not in through["users"][0]["user"]
