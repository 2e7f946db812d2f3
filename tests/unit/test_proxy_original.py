"""Where a redirected connection was going, as far as it can be told without a redirect (tests/kernel has one)."""

from __future__ import annotations

import asyncio
import socket
import struct

import pytest

from bounceback.proxy import original
from bounceback.proxy.upstream import Fixed, Original


def test_addresses_of_both_families_are_read() -> None:
    four = struct.pack("=H", socket.AF_INET) + struct.pack("!H", 5432) + socket.inet_aton("10.1.2.3") + bytes(8)
    assert original.parsed(four) == ("10.1.2.3", 5432)
    six = struct.pack("=H", socket.AF_INET6) + struct.pack("!HI", 443, 7)
    six += socket.inet_pton(socket.AF_INET6, "fd00::5") + struct.pack("=I", 0)
    assert original.parsed(six) == ("fd00::5", 443)


def test_other_families_are_refused() -> None:
    with pytest.raises(OSError, match="no address of a family"):
        original.parsed(struct.pack("=H", socket.AF_UNIX) + bytes(14))
    with socket.socket(socket.AF_UNIX) as sock, pytest.raises(OSError, match="no original destination"):
        original.destination(sock)


def test_nobody_who_was_not_redirected_has_an_original_destination() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        accepted, _ = server.accept()
        with accepted:
            try:
                found = original.destination(accepted)
            except OSError:
                return  # conntrack does not know it
            assert found == server.getsockname()  # or knows it as it is


def test_no_mark_needs_no_right() -> None:
    with socket.socket() as sock:
        original.mark(sock, 0)


def test_where_a_connection_goes_on_to() -> None:
    assert asyncio.run(Fixed("192.0.2.1", 5).addresses(None)) == [("192.0.2.1", 5)]
    assert ("127.0.0.1", 5) in asyncio.run(Fixed("localhost", 5).addresses(None))
    with pytest.raises(OSError):
        asyncio.run(Original(1).addresses(None))
    assert str(Fixed("::1", 5)) == "[::1]:5"
