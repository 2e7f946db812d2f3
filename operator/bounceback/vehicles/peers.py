"""Peers as addresses: who the target talks to, now, and as that changes."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Final, TypeVar

from bounceback.kube.client import Kube
from bounceback.kube.errors import KubeError
from bounceback.kube.resources import ENDPOINT_SLICES, PODS, SERVICES
from bounceback.kube.watching import mirror
from bounceback.types.plan import Flow
from bounceback.types.selectors import Peer
from bounceback.vehicles.errors import FORBIDDEN, Refused
from bounceback.vehicles.flows import Found, flows_of, in_order, is_external, no_such_port, nobody, unknown_ports

LOOKUP_SECONDS: Final = 10.0

T = TypeVar("T")


async def resolve(acting: Kube, namespace: str, peers: Sequence[Peer], field: str) -> tuple[Flow, ...]:
    """The traffic with these peers, in an order that follows from what it is.

    Raises Refused for a peer that is not there, KubeError where the API server does not answer.
    """
    flows: set[Flow] = set()
    for index, peer in enumerate(peers):
        found = await _look(acting, namespace, peer, f"{field}[{index}]")
        of_peer = flows_of(peer, found)
        if not of_peer:
            raise nobody(peer, found, namespace, f"{field}[{index}]")
        flows |= of_peer
    return in_order(flows)


async def follow(acting: Kube, namespace: str, peers: Sequence[Peer]) -> AsyncGenerator[tuple[Flow, ...], None]:
    """The traffic with these peers: as it is now, then whenever it has changed.

    Never an empty tuple, which would mean every peer: while none of them has an address, the last ones are kept. Ends
    at once where no peer can change. Raises KubeError where the first look is refused.
    """
    if all(peer.cidr is not None for peer in peers):
        return
    told: tuple[Flow, ...] = ()
    async with aclosing(latest(*(_follow_one(acting, namespace, peer) for peer in peers))) as newest:
        async for of_peers in newest:
            flows = in_order(set().union(*of_peers))
            if flows and flows != told:
                told = flows
                yield flows


async def latest(*sources: AsyncGenerator[T, None]) -> AsyncGenerator[tuple[T, ...], None]:
    """The newest of each source, once all of them have told something, and again after each change.

    Ends when all have ended; the first error of one is raised.
    """
    values: dict[int, T] = {}
    changed = asyncio.Event()

    async def keep(index: int, source: AsyncGenerator[T, None]) -> None:
        async with aclosing(source):
            async for value in source:
                values[index] = value
                changed.set()

    tasks = [asyncio.create_task(keep(index, source)) for index, source in enumerate(sources)]
    for task in tasks:
        task.add_done_callback(lambda _: changed.set())
    try:
        while not all(task.done() for task in tasks):
            await changed.wait()
            changed.clear()
            for task in tasks:
                if task.done():
                    task.result()
            if len(values) == len(sources):
                yield tuple(values[index] for index in range(len(sources)))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _follow_one(acting: Kube, namespace: str, peer: Peer) -> AsyncGenerator[set[Flow], None]:
    if peer.service is not None:
        found = await _look(acting, namespace, peer, "peers")
        if is_external(found):
            async for addresses in _host(found.service["spec"]["externalName"] if found.service else ""):
                yield flows_of(peer, Found(service=found.service, addresses=addresses))
            return
        services = mirror(acting, SERVICES, namespace, fields=f"metadata.name={peer.service.name}")
        slices = mirror(acting, ENDPOINT_SLICES, namespace, labels=_slices_of(peer.service.name))
        async with aclosing(latest(services, slices)) as both:
            async for named, behind in both:
                yield flows_of(peer, Found(service=named[0] if named else None, slices=tuple(behind)))
    elif peer.pods is not None:
        async with aclosing(mirror(acting, PODS, namespace, labels=str(peer.pods.selector))) as matching:
            async for pods in matching:
                yield flows_of(peer, Found(pods=tuple(pods)))
    elif peer.host is not None:
        async for addresses in _host(peer.host):
            yield flows_of(peer, Found(addresses=addresses))
    else:
        yield flows_of(peer, Found())


async def _host(name: str) -> AsyncGenerator[tuple[str, ...], None]:
    """Its addresses, looked up again and again: nobody tells when they change."""
    while True:
        yield await addresses_of(name)
        await asyncio.sleep(LOOKUP_SECONDS)


async def _look(acting: Kube, namespace: str, peer: Peer, field: str) -> Found:
    """Read all that is to be known about one peer. Raises Refused where it, or the right to look, is missing."""
    try:
        if peer.service is not None:
            service = await acting.get(SERVICES, namespace, peer.service.name)
            if is_external(Found(service)):
                return Found(service=service, addresses=await addresses_of(service["spec"]["externalName"]))
            slices, _ = await acting.list(ENDPOINT_SLICES, namespace, labels=_slices_of(peer.service.name))
            found = Found(service=service, slices=tuple(slices))
            if unknown := unknown_ports(peer, found):
                raise no_such_port(peer, found, unknown, field)
            return found
        if peer.pods is not None:
            pods, _ = await acting.list(PODS, namespace, labels=str(peer.pods.selector))
            return Found(pods=tuple(pods))
    except KubeError as error:
        if error.gone:
            raise nobody(peer, Found(), namespace, field) from error
        if error.status == 403:
            raise Refused(field, FORBIDDEN, f"{peer} cannot be looked up: {error.message}") from error
        raise
    return Found(addresses=await addresses_of(peer.host)) if peer.host is not None else Found()


async def addresses_of(host: str) -> tuple[str, ...]:
    """All addresses of a host, as the operator's own resolver tells them; empty where it knows none."""
    try:
        answers = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except socket.gaierror:
        return ()
    return tuple(sorted({str(answer[4][0]) for answer in answers}))


def _slices_of(service: str) -> str:
    return f"kubernetes.io/service-name={service}"
