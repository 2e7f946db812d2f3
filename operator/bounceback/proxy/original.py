"""Connections that nftables redirected to us: where they were going, and how to go there without being led back.

The redirect exempts packets with our mark (`meta mark`), or what the relay sends would come back to it.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from typing import Final

SO_ORIGINAL_DST: Final = 80
"""At SOL_IP, and at SOL_IPV6 as IP6T_SO_ORIGINAL_DST (linux/netfilter_ipv4.h, linux/netfilter_ipv6/ip6_tables.h)."""
FAMILIES: Final = {socket.AF_INET: socket.SOL_IP, socket.AF_INET6: socket.IPPROTO_IPV6}
LONGEST: Final = 28  # struct sockaddr_in6


def destination(sock: socket.socket) -> tuple[str, int]:
    """The address and port that the client of this accepted connection asked for.

    Raises OSError (ENOENT) where conntrack knows of no connection, for families other than IPv4 and IPv6, and for who
    came to us on purpose: conntrack calls that address the original one, too, and going there is coming here again.
    """
    family = sock.family
    if family == socket.AF_INET6 and _mapped(sock.getpeername()[0]):
        family = socket.AF_INET
    if family not in FAMILIES:
        raise OSError(f"no original destination for {family!r}")
    wanted = parsed(sock.getsockopt(FAMILIES[family], SO_ORIGINAL_DST, LONGEST))
    here, port = sock.getsockname()[:2]
    if wanted == (here.removeprefix("::ffff:"), port):
        raise OSError("nobody redirected this connection")
    return wanted


def parsed(data: bytes) -> tuple[str, int]:
    """From a sockaddr_in or sockaddr_in6 (ip(7), ipv6(7)): the family in host order, all else in network order."""
    (family,) = struct.unpack_from("=H", data)
    (port,) = struct.unpack_from("!H", data, 2)
    if family == socket.AF_INET:
        return str(ipaddress.IPv4Address(data[4:8])), port
    if family == socket.AF_INET6:
        return str(ipaddress.IPv6Address(data[8:24])), port
    raise OSError(f"no address of a family that is known: {family}")


def mark(sock: socket.socket, value: int) -> None:
    """Mark what this socket sends (socket(7), SO_MARK; needs CAP_NET_ADMIN). 0: leave it alone."""
    if value:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, value)


def _mapped(address: str) -> bool:
    return ipaddress.IPv6Address(address.partition("%")[0]).ipv4_mapped is not None
