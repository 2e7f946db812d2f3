"""TLS connections that no rule hits go end to end, and the other answers that are not certificates."""

from __future__ import annotations

import asyncio
import secrets
import socket
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bounceback.proxy import tls
from bounceback.proxy.certificates import Certificates
from bounceback.proxy.tls import PLAIN_TEXT, TlsCount, TlsGate, TlsTraffic
from bounceback.proxy.upstream import Fixed
from bounceback.types.names import CutAfter, CutBy, TlsAnswer, TlsRule
from tests.relay.conftest import Ways, until
from tests.relay.tls_place import HOST, NAME, VERSIONS, Place, run, tls_place, write_certificate

TLS = pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)
ELSEWHERE = {"bad": TlsRule(TlsAnswer.EXPIRED, ("elsewhere.test",))}


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with tls_place(tmp_path) as made:
        yield made


def client_hello(name: str | None = NAME) -> bytes:
    """What Python's TLS says first."""
    context = ssl.create_default_context()
    context.check_hostname = False
    there = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), there, server_hostname=name).do_handshake()
    return there.read()


def in_records(hello: bytes, size: int) -> bytes:
    """The same message, in records of so many bytes."""
    message = hello[5:]
    pieces = [message[at : at + size] for at in range(0, len(message), size)]
    return b"".join(hello[:3] + len(piece).to_bytes(2, "big") + piece for piece in pieces)


# What passes


@TLS
async def test_what_passes_is_the_servers_own(place: Place, version: ssl.TLSVersion) -> None:
    place.gate.put(ELSEWHERE)
    context = place.client(version=version)
    context.set_alpn_protocols(["http/1.1"])
    direct, through = await place.talk(context, direct=True), await place.talk(context)
    assert through == direct
    assert (through.answer[-3:], through.protocol) == (b"yes", "http/1.1")
    assert place.protocols == ["http/1.1"] * 2
    assert place.gate.traffic == TlsTraffic(passed=1)


@TLS
async def test_client_certificates_pass(place: Place, tmp_path: Path, version: ssl.TLSVersion) -> None:
    place.gate.put(ELSEWHERE)
    place.server_context.verify_mode = ssl.CERT_REQUIRED
    write_certificate(tmp_path / "client.pem", place.ca, "a-client.shop.test")
    context = place.client(version=version)
    context.load_cert_chain(tmp_path / "client.pem")
    assert (await place.talk(context)).answer.endswith(b"yes")
    assert place.peers[0]["subjectAltName"] == (("DNS", "a-client.shop.test"),)


async def test_a_session_is_taken_up_again_through_it(place: Place) -> None:
    place.gate.put(ELSEWHERE)
    saved = str(place.folder / "session")
    there = ["-connect", f"{HOST}:{place.port}", "-servername", NAME, "-CAfile", place.ca_file, "-tls1_2"]
    _, first = await run("openssl", "s_client", *there, "-sess_out", saved)
    _, second = await run("openssl", "s_client", *there, "-sess_in", saved)
    assert ("New, TLSv1.2" in first, "Reused, TLSv1.2" in second) == (True, True)


async def test_certificates_that_pass_are_still_checked(place: Place) -> None:
    """A server with a certificate that is bad by itself stays as bad as it is."""
    place.gate.put(ELSEWHERE)
    with pytest.raises(ssl.SSLCertVerificationError) as refused:
        await place.talk(place.client(), "www.shop.test")
    assert refused.value.verify_code == 62


@pytest.mark.parametrize(
    "sent",
    [
        client_hello() + secrets.token_bytes(200_000),
        in_records(client_hello(), 100) + b"more",
        in_records(client_hello(), 1) + b"more",
        client_hello(None),
        client_hello()[:-1],  # and there it ends
        b"\x16",
        b"\x16\x03\x01\xff\xff" + bytes(70_000),  # a record longer than any
        b"\x16\x03\x01\x40\x00\x01\xff\xff\xff" + bytes(17_000),  # a message longer than any
        b"\x16\x03\x01\x00\x00",
        b"\x16\x03\x01\x00\x04\x02\x00\x00\x00",  # a ServerHello
        b"\x16\x03\x01\x00\x04\x01\x00\x00\x00",  # an empty ClientHello
        b"\x80\x2e\x01\x03\x01" + bytes(43),  # SSL 2
        b"\x00\x00\x00\x08\x04\xd2\x16\x2f",  # PostgreSQL asks for TLS
        b"GET / HTTP/1.1\r\n\r\n",
        b"",
    ],
    ids=lambda sent: f"{len(sent)}-{sent[:6].hex()}",
)
async def test_every_byte_goes_on_and_comes_back(ways: Ways, sent: bytes) -> None:
    gate = TlsGate(Certificates())
    gate.put(ELSEWHERE)
    way = await ways(handler=gate)
    client = await way.client()
    sending = asyncio.create_task(client.send(sent))
    if len(sent) < 100_000:
        await sending
        client.half_close()
    server = await way.accept()
    assert await server.exactly(len(sent)) == sent
    await sending
    answer = secrets.token_bytes(100_000)
    returning = asyncio.create_task(server.send(answer))
    assert await client.exactly(len(answer)) == answer
    await returning
    assert gate.counts() == {"bad": TlsCount()}


async def test_a_hello_that_drips_is_waited_for_and_hit(ways: Ways) -> None:
    gate = TlsGate(Certificates())
    gate.put({"text": TlsRule(TlsAnswer.PLAIN_TEXT, (NAME,))})
    way = await ways(handler=gate)
    client = await way.client()
    for byte in client_hello():
        await client.send(bytes([byte]))
        await asyncio.sleep(0)
    assert await client.all() == PLAIN_TEXT
    assert gate.counts()["text"].hits == 1


async def test_waiting_for_the_rest_of_a_hello_costs_no_processor_time(ways: Ways) -> None:
    """What is there already must not wake us again and again."""
    gate = TlsGate(Certificates())
    gate.put(ELSEWHERE)
    way = await ways(handler=gate)
    client = await way.client()
    await client.send(client_hello()[:-1])
    await asyncio.sleep(0.2)
    before = time.process_time()
    await asyncio.sleep(1.0)
    assert time.process_time() - before < 0.5


async def test_a_server_that_speaks_first_is_heard_after_a_while(ways: Ways, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls, "FIRST_SECONDS", 0.2)
    gate = TlsGate(Certificates())
    gate.put({"bad": TlsRule(TlsAnswer.EXPIRED)})
    way = await ways(handler=gate)
    client = await way.client()
    server = await way.accept()
    await server.send(b"220 mail ready\r\n")
    assert await client.exactly(16) == b"220 mail ready\r\n"
    assert gate.traffic == TlsTraffic(other=1)


async def test_without_rules_nobody_is_waited_for(ways: Ways) -> None:
    gate = TlsGate(Certificates())
    way = await ways(handler=gate)
    client, server = await way.client(), await way.accept()
    await server.send(b"hello")
    assert await client.exactly(5) == b"hello"


async def test_a_client_that_resets_while_it_is_looked_at_does_no_harm(ways: Ways) -> None:
    gate = TlsGate(Certificates())
    gate.put({"text": TlsRule(TlsAnswer.PLAIN_TEXT)})
    way = await ways(handler=gate)
    for sent in (b"", client_hello()[:20]):
        client = await way.client()
        await client.send(sent)
        await asyncio.sleep(0.05)
        client.abort()
    client = await way.client()
    await client.send(client_hello())
    assert await client.all() == PLAIN_TEXT
    await until(lambda: gate.traffic.answered == 1)


@pytest.mark.parametrize("sent", [b"", client_hello()[:20], client_hello()], ids=["nothing", "a part", "a hello"])
async def test_the_end_of_the_relay_ends_it_in_the_middle(ways: Ways, sent: bytes) -> None:
    """Waiting for the hello, and within the handshake."""
    gate = TlsGate(Certificates())
    gate.put({"bad": TlsRule(TlsAnswer.EXPIRED)})
    way = await ways(handler=gate)
    client = await way.client()
    await client.send(sent)
    await until(lambda: way.relay.open == 1)
    await asyncio.sleep(0.1)
    assert await way.relay.drain(0) == 1
    assert await client.reset()


# Answers that are not certificates


@pytest.mark.parametrize("by", list(CutBy))
async def test_cut_after_the_clients_hello(place: Place, by: CutBy) -> None:
    place.gate.put({"cut": TlsRule(TlsAnswer.HANDSHAKE_CUT, ("*.shop.test",), cut_by=by)})
    error = ConnectionResetError if by is CutBy.RESET else ssl.SSLEOFError
    with pytest.raises(error):
        await place.talk(place.client())
    assert place.gate.counts()["cut"].hits == 1


@TLS
@pytest.mark.parametrize("by", list(CutBy))
async def test_cut_after_the_servers_hello(ways: Ways, place: Place, by: CutBy, version: ssl.TLSVersion) -> None:
    """The client gets one record, with the true ServerHello in it and nothing else."""
    rule = TlsRule(TlsAnswer.HANDSHAKE_CUT, (NAME,), cut_after=CutAfter.SERVER_HELLO, cut_by=by)
    place.gate.put({"cut": rule})
    way = await ways()
    way.address = (HOST, place.port)
    client = await way.client()
    said = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        place.client(version=version).wrap_bio(ssl.MemoryBIO(), said, server_hostname=NAME).do_handshake()
    await client.send(said.read())
    head = await client.exactly(5)
    body = await client.exactly(int.from_bytes(head[3:], "big"))
    assert (head[0], body[0], int.from_bytes(body[1:4], "big")) == (22, 2, len(body) - 4)
    assert await client.reset() if by is CutBy.RESET else await client.receive() == b""


async def test_what_a_server_says_instead_of_its_hello_goes_to_the_client(ways: Ways) -> None:
    gate = TlsGate(Certificates())
    gate.put({"cut": TlsRule(TlsAnswer.HANDSHAKE_CUT, cut_after=CutAfter.SERVER_HELLO, cut_by=CutBy.CLOSE)})
    way = await ways(handler=gate)
    client = await way.client()
    await client.send(hello := client_hello())
    server = await way.accept()
    assert await server.exactly(len(hello)) == hello
    alert = b"\x15\x03\x03\x00\x02\x02\x46"  # fatal: protocol_version
    await server.send(alert)
    assert await client.all() == alert


async def test_a_servers_hello_passes_without_the_certificate_in_its_record(ways: Ways) -> None:
    """Servers may send several messages in one record, or one in several."""
    gate = TlsGate(Certificates())
    gate.put({"cut": TlsRule(TlsAnswer.HANDSHAKE_CUT, cut_after=CutAfter.SERVER_HELLO, cut_by=CutBy.CLOSE)})
    way = await ways(handler=gate)
    client = await way.client()
    await client.send(client_hello())
    server = await way.accept()
    server_hello = b"\x02\x00\x00\x30" + secrets.token_bytes(48)
    said = server_hello + b"\x0b\x00\x00\x10" + bytes(16)
    for piece in (said[:20], said[20:]):
        await server.send(b"\x16\x03\x03" + len(piece).to_bytes(2, "big") + piece)
    assert await client.all() == b"\x16\x03\x03\x00\x34" + server_hello


async def test_no_server_to_say_hello_is_a_reset(place: Place) -> None:
    with socket.socket() as nobody:
        nobody.bind((HOST, 0))
        _, port = await place.relay.listen("lost", HOST, 0, Fixed(HOST, nobody.getsockname()[1]), place.gate)
    place.gate.put({"cut": TlsRule(TlsAnswer.HANDSHAKE_CUT, cut_after=CutAfter.SERVER_HELLO)})
    place.port = port
    with pytest.raises(ConnectionResetError):
        await place.talk(place.client())
    assert place.gate.traffic.unreachable == 1


async def test_plain_text(place: Place) -> None:
    place.gate.put({"text": TlsRule(TlsAnswer.PLAIN_TEXT)})
    with pytest.raises(ssl.SSLError, match=r"WRONG_VERSION_NUMBER|PACKET_LENGTH_TOO_LONG|RECORD_LAYER_FAILURE"):
        await place.talk(place.client())
    exit_code, said = await run("curl", "-sS", "--insecure", f"https://{HOST}:{place.port}/")
    assert exit_code == 35, said  # a problem somewhere in the handshake
    assert place.gate.counts()["text"].hits == 2


async def test_rules_are_by_name_and_the_first_that_hits_answers(place: Place) -> None:
    place.gate.put(
        {
            "other": TlsRule(TlsAnswer.EXPIRED, ("*.other.test",)),
            "text": TlsRule(TlsAnswer.PLAIN_TEXT, ("DB.Shop.Test",)),
            "cut": TlsRule(TlsAnswer.HANDSHAKE_CUT),
        }
    )
    with pytest.raises(ssl.SSLError):
        await place.talk(place.client())
    with pytest.raises(ConnectionResetError):
        await place.talk(place.client(), "www.shop.test")
    assert {name: count.hits for name, count in place.gate.counts().items()} == {"other": 0, "text": 1, "cut": 1}


async def test_rules_change_while_connections_that_passed_live_on(place: Place) -> None:
    place.gate.put({})
    reader, writer = await asyncio.open_connection(HOST, place.port, ssl=place.client(), server_hostname=NAME)
    place.gate.put({"cut": TlsRule(TlsAnswer.HANDSHAKE_CUT)})
    with pytest.raises(ConnectionResetError):
        await place.talk(place.client())
    writer.write(b"still there?")
    assert (await reader.readuntil(b"yes")).endswith(b"yes")
    writer.close()
    place.gate.put({})
    assert (await place.talk(place.client())).answer.endswith(b"yes")
