"""A true TLS server behind a relay with the TLS handler, and real clients for it."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from bounceback.proxy.certificates import Authority, Certificates
from bounceback.proxy.relay import Relay
from bounceback.proxy.tls import TlsGate
from bounceback.proxy.upstream import Fixed

HOST = "127.0.0.1"
NAME = "db.shop.test"
TRUSTED = "shop-ca"
SOON = 20.0
VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
PEM = serialization.Encoding.PEM


@dataclass
class Place:
    """`ca` is what clients trust: it signed the true server's certificate, and is the authority `shop-ca` of rules."""

    folder: Path
    ca: Authority
    server_context: ssl.SSLContext
    gate: TlsGate
    relay: Relay
    port: int = 0
    true_port: int = 0
    heard: list[bytes] = field(default_factory=list)  # by the true server, decrypted
    peers: list[Mapping[str, object]] = field(default_factory=list)  # the clients' certificates, as it sees them
    protocols: list[str | None] = field(default_factory=list)  # agreed on by ALPN

    @property
    def ca_file(self) -> str:
        return str(self.folder / "ca.pem")

    def client(self, *, verify: bool = True, version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.ca_file)
        if version:
            context.minimum_version = context.maximum_version = version
        if not verify:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context

    async def talk(self, context: ssl.SSLContext, name: str = NAME, *, direct: bool = False) -> Talk:
        """What a client with a blocking socket gets; its errors are raised."""
        port = self.true_port if direct else self.port
        return await asyncio.to_thread(partial(talk, port, context, name))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inside: ssl.SSLObject = writer.get_extra_info("ssl_object")
        self.peers.append(inside.getpeercert() or {})
        self.protocols.append(inside.selected_alpn_protocol())
        try:
            while data := await reader.read(65_536):
                self.heard.append(data)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes")
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()


@dataclass(frozen=True)
class Talk:
    """What a client saw."""

    answer: bytes
    fingerprint: str  # of the server's certificate
    version: str | None
    protocol: str | None


def talk(port: int, context: ssl.SSLContext, name: str) -> Talk:
    with (
        socket.create_connection((HOST, port), SOON) as plain,
        context.wrap_socket(plain, server_hostname=name) as connection,
    ):
        certificate = connection.getpeercert(binary_form=True) or b""
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
        answer = connection.recv(65_536)
        fingerprint = hashlib.sha256(certificate).hexdigest()
        return Talk(answer, fingerprint, connection.version(), connection.selected_alpn_protocol())


@asynccontextmanager
async def tls_place(folder: Path) -> AsyncIterator[Place]:
    ca = Authority.made("the shop's own")
    (folder / "ca.pem").write_bytes(ca.certificate.public_bytes(PEM))
    write_certificate(folder / "server.pem", ca, NAME)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    context.load_verify_locations(folder / "ca.pem")
    context.set_alpn_protocols(["h2", "http/1.1"])
    place = Place(folder, ca, context, TlsGate(Certificates({TRUSTED: ca})), Relay())
    server = await asyncio.start_server(place.serve, HOST, 0, ssl=context)
    place.true_port = server.sockets[0].getsockname()[1]
    _, place.port = await place.relay.listen("tls", HOST, 0, Fixed(HOST, place.true_port), place.gate)
    yield place
    await place.relay.drain(0)
    server.close()


def write_certificate(path: Path, ca: Authority, name: str) -> None:
    """A good one with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    now, day = datetime.now(UTC), timedelta(days=1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(ca.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - day)
        .not_valid_after(now + day)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.key.public_key()), critical=False)
        .sign(ca.key, hashes.SHA256())
    )
    private = key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(private + certificate.public_bytes(PEM))


async def run(*words: str) -> tuple[int, str]:
    """A program without input: its exit code, and what it says. Skips the test where there is no such program."""
    if shutil.which(words[0]) is None:
        pytest.skip(f"needs the program {words[0]}")
    running = await asyncio.create_subprocess_exec(
        *words,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await asyncio.wait_for(running.communicate(), SOON)
    return running.returncode or 0, said.decode(errors="replace")
