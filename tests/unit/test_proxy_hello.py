"""What a TLS client says first, in whatever pieces it comes."""

from __future__ import annotations

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bounceback.proxy.hello import LARGEST_RECORD, Hello, Unfinished, client_hello, handshake_message

NAME = "db.shop.test"


def said_first(name: str | None, *alpn: str, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> bytes:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.maximum_version = version
    if alpn:
        context.set_alpn_protocols(alpn)
    there = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), there, server_hostname=name).do_handshake()
    return there.read()


HELLO = said_first(NAME, "h2")


def in_records(hello: bytes, size: int) -> bytes:
    """The same message, in records of so many bytes."""
    message = hello[5:]
    pieces = [message[at : at + size] for at in range(0, len(message), size)]
    return b"".join(hello[:3] + len(piece).to_bytes(2, "big") + piece for piece in pieces)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("alpn", [(), ("h2", "http/1.1")])
def test_a_real_clients_name(version: ssl.TLSVersion, alpn: tuple[str, ...]) -> None:
    assert client_hello(said_first(NAME, *alpn, version=version)) == Hello(NAME)


@pytest.mark.parametrize("name", [None, "127.0.0.1", "::1"])
def test_a_real_client_that_names_nobody(name: str | None) -> None:
    """Addresses are not sent as names (RFC 6066 section 3)."""
    assert client_hello(said_first(name)) == Hello("")


def test_a_long_hello_in_as_many_records_as_it_likes() -> None:
    many = said_first(NAME, *(f"protocol-{n:03}" for n in range(1000)))
    assert len(many) > 12_000
    assert [client_hello(in_records(many, size)) for size in (1, 7, 100, 5000)] == [Hello(NAME)] * 4


@pytest.mark.parametrize("whole", [HELLO, in_records(HELLO, 50)])
def test_until_it_is_whole_it_says_how_much_it_needs(whole: bytes) -> None:
    for length in range(len(whole)):
        found = client_hello(whole[:length])
        assert isinstance(found, Unfinished)
        assert length < found.needed <= len(whole)
    assert client_hello(whole + b"and more") == Hello(NAME)


def test_by_what_it_asks_for_it_comes_to_an_end() -> None:
    whole = in_records(HELLO, 50)
    seen, looks = b"", 0
    while isinstance(found := client_hello(seen), Unfinished):
        seen, looks = whole[: found.needed], looks + 1
    assert found == Hello(NAME)
    assert looks == 2 * (len(HELLO) // 50 + 1)  # each record's head, and the rest of it


@pytest.mark.parametrize(
    "said", [b"G", b"GET / HTTP/1.1\r\n", b"\x00\x00\x00\x08\x04\xd2\x16\x2f", b"\x80\x2e\x01", b"SSH-2.0-x"]
)
def test_what_is_not_tls_is_known_at_its_first_bytes(said: bytes) -> None:
    assert client_hello(said) is None


@pytest.mark.parametrize(
    "said",
    [
        b"\x16\x02\x00\x00\x10",  # a version before SSL 3
        b"\x16\x03\x01\x00\x00",  # an empty record
        b"\x16\x03\x01" + (LARGEST_RECORD + 1).to_bytes(2, "big"),
        b"\x16\x03\x01\x40\x00\x01\xff\xff\xff",  # a message of 16 MB
        b"\x16\x03\x01\x00\x04\x02",  # a ServerHello
        b"\x17\x03\x03\x00\x04\x01",  # data
        HELLO[:5] + b"\x02" + HELLO[6:],
        HELLO[:76] + b"\xff\xff" + HELLO[78:],  # a length (of the cipher suites) that leads beyond the end
    ],
)
def test_what_is_not_as_it_should_be_is_not_waited_for(said: bytes) -> None:
    assert client_hello(said) is None


@given(st.binary(max_size=200), st.integers(0, len(HELLO)), st.integers(0, 60))
def test_whatever_comes_is_answered(noise: bytes, at: int, cut: int) -> None:
    for said in (noise, HELLO[:at] + noise + HELLO[at:], HELLO[:at] + noise + HELLO[at + cut :]):
        found = client_hello(said)
        assert found is None or isinstance(found, Hello) or found.needed > len(said)


def test_a_message_alone_where_its_record_holds_another() -> None:
    record = b"\x16\x03\x03\x00\x0b" + b"\x02\x00\x00\x03abc" + b"\x0b\x00\x00\x00"
    assert handshake_message(record, 2) == b"abc"
