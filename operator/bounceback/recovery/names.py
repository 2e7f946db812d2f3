"""Host names to addresses, looked up anew for each sample: an answer that was kept would hide that DNS has failed.

getaddrinfo(3) blocks, for many seconds where a name server is silent. So look-ups run in threads of their own, and one
name can hold only a few of them: a dead name must not keep others from being looked up.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final

from aiohttp.abc import AbstractResolver, ResolveResult

MOST_THREADS: Final = 32
MOST_FOR_ONE_NAME: Final = 4
METADATA: Final = ipaddress.ip_network("fd00:ec2::/32")  # where a cloud serves them by IPv6

_threads = ThreadPoolExecutor(MOST_THREADS, thread_name_prefix="names")


def refuse_forbidden(address: str) -> None:
    """Raises OSError for addresses that no probe may reach.

    Probes are asked for by people who may create a check, and go out from the operator: at link-local addresses clouds
    and nodes serve credentials to whoever asks from there.
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped:
        ip = ip.ipv4_mapped
    if ip.is_link_local or ip.is_multicast or ip in METADATA:
        raise OSError(f"{address} must not be probed: link-local, multicast and metadata addresses are refused")


def open_socket(info: tuple[Any, ...]) -> socket.socket:
    """For aiohttp: a socket for what getaddrinfo(3) or an address in a URL led to."""
    family, kind, protocol, _, address = info
    refuse_forbidden(address[0])
    return socket.socket(family, kind, protocol)


class Names(AbstractResolver):
    """For one event loop. A name without a dot is a Service of `namespace`, as it is for the pods there."""

    def __init__(self, namespace: str = "") -> None:
        self._namespace = namespace
        self._free: dict[str, asyncio.Semaphore] = {}
        self._closed = False

    def full(self, host: str) -> str:
        """What the name is called outside the namespace."""
        return f"{host}.{self._namespace}.svc" if self._namespace and "." not in host and host != "localhost" else host

    async def addresses(self, host: str, port: int) -> list[tuple[socket.AddressFamily, tuple[str, int]]]:
        """All addresses, as the system orders them. Raises OSError where there is none."""
        try:
            version = ipaddress.ip_address(host.strip("[]")).version
        except ValueError:
            pass
        else:
            return [(socket.AF_INET if version == 4 else socket.AF_INET6, (host.strip("[]"), port))]
        free = self._free.setdefault(host, asyncio.Semaphore(MOST_FOR_ONE_NAME))
        await free.acquire()
        loop = asyncio.get_running_loop()

        def release(_: object) -> None:
            """Only once the thread is free again, also where nobody waits for it any more."""
            if not self._closed:
                loop.call_soon_threadsafe(free.release)

        found: Future[list[tuple[socket.AddressFamily, tuple[str, int]]]] = _threads.submit(
            _look_up, self.full(host), port
        )
        found.add_done_callback(release)
        return await asyncio.wrap_future(found)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """For aiohttp."""
        return [
            ResolveResult(hostname=host, host=address[0], port=address[1], family=kind, proto=0, flags=0)
            for kind, address in await self.addresses(host, port)
            if family in (socket.AF_UNSPEC, kind)
        ]

    async def close(self) -> None:
        self._closed = True


def _look_up(host: str, port: int) -> list[tuple[socket.AddressFamily, tuple[str, int]]]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:  # what IDNA cannot encode
        raise socket.gaierror(socket.EAI_NONAME, f"{host!r} is no host name") from error
    return [(family, (str(address[0]), int(address[1]))) for family, _, _, _, address in found]
