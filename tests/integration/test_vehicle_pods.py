"""Pods as targets and as peers: listed, watched, deleted, and followed as they change."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from bounceback.engine.model import PodInfo
from bounceback.kube import Kube
from bounceback.kube.client import Json
from bounceback.kube.resources import PODS, SERVICES
from bounceback.types.plan import Flow
from bounceback.types.selectors import LabelSelector, Peer
from bounceback.vehicles.errors import DeletionRefused, Refused
from bounceback.vehicles.peers import follow, resolve
from bounceback.vehicles.pod_delete import delete_pods
from bounceback.vehicles.pods import list_pods, watch_pods
from dev.layout import PAUSE_IMAGE
from tests.workload import pod, running

WEB = LabelSelector(match_labels={"tier": "web"})


def web(name: str) -> Json:
    return pod(name, image=PAUSE_IMAGE, labels={"tier": "web"})


async def service(kube: Kube, namespace: str, **spec: object) -> Json:
    ports = [{"name": "http", "port": 80, "targetPort": 8080}]
    body = {"metadata": {"name": "web"}, "spec": {"selector": {"tier": "web"}, "ports": ports, **spec}}
    return await kube.create(SERVICES, namespace, body)


async def following(
    flows: AsyncGenerator[tuple[Flow, ...], None], wanted: set[tuple[str, tuple[int, ...]]]
) -> tuple[Flow, ...]:
    async with asyncio.timeout(30):
        async for found in flows:
            if {(flow.cidr, flow.ports) for flow in found} == wanted:
                return found
    raise AssertionError("it ended")


async def test_pods_are_listed_and_watched(kube: Kube, acting: Kube, namespace: str) -> None:
    first, second = await running(kube, namespace, [web("b"), web("a")])
    assert [each.name for each in await list_pods(acting, namespace, WEB)] == ["a", "b"]
    told: list[tuple[str, PodInfo]] = []
    async with asyncio.timeout(30), aclosing(watch_pods(acting, namespace, WEB)) as watched:
        async for kind, info in watched:
            told.append((kind, info))
            if len(told) == 2:
                await kube.delete(PODS, namespace, "a", grace=0)
            if kind == "DELETED":
                break
    assert {(kind, info.name) for kind, info in told[:2]} == {("ADDED", "a"), ("ADDED", "b")}
    assert told[-1][1].uid == second.uid
    assert first.ips and first.node and not first.host_network and first.memory_limit is None


async def test_a_namesake_is_not_deleted(kube: Kube, acting: Kube, namespace: str) -> None:
    one, two = await running(kube, namespace, [web("one"), web("two")])
    assert [each for each, _ in (await delete_pods(acting, [one], 0)).going] == [one]
    (again,) = await running(kube, namespace, [web("one")])
    assert again.uid != one.uid
    deleted = (await delete_pods(acting, [one, two], 0)).going
    assert [each for each, _ in deleted] == [two], "the other had been gone"
    assert [each.uid for each in await list_pods(acting, namespace, WEB)] == [again.uid]
    assert (await delete_pods(acting, [two], None)).going == []


async def test_what_could_not_be_deleted_is_told_apart(kube: Kube, namespace: str) -> None:
    (one,) = await running(kube, namespace, [web("one")])
    with pytest.raises(DeletionRefused) as refused:
        await delete_pods(kube.acting_as(namespace, "nobody"), [one], 0)
    assert refused.value.reason == "Forbidden"
    assert "1 of 1" in refused.value.message
    assert refused.value.deleted == []


async def test_a_service_is_its_own_addresses_and_its_endpoints(kube: Kube, acting: Kube, namespace: str) -> None:
    (one,) = await running(kube, namespace, [web("one")])
    made = await service(kube, namespace)
    cluster_ip = f"{made['spec']['clusterIP']}/32"
    peer = Peer.model_validate({"service": {"name": "web"}, "ports": [{"port": 80}]})
    at_one, at_service = (f"{one.ips[0]}/32", (8080,)), (cluster_ip, (80,))
    async with aclosing(follow(acting, namespace, [peer])) as flows:
        found = await following(flows, {at_service, at_one})
        assert found == await resolve(acting, namespace, [peer], "spec.faults[0].networkPartition.peers")
        (two,) = await running(kube, namespace, [web("two")])
        await following(flows, {at_service, at_one, (f"{two.ips[0]}/32", (8080,))})
        await kube.delete(PODS, namespace, "one", grace=0)
        await following(flows, {at_service, (f"{two.ips[0]}/32", (8080,))})


async def test_all_traffic_with_pods_and_fixed_peers_is_followed(kube: Kube, acting: Kube, namespace: str) -> None:
    (one,) = await running(kube, namespace, [web("one")])
    peers = [Peer.model_validate({"pods": {"selector": WEB.to_json()}}), Peer(cidr="10.9.0.0/16")]
    async with aclosing(follow(acting, namespace, peers)) as flows:
        await following(flows, {(f"{one.ips[0]}/32", ()), ("10.9.0.0/16", ())})
        await kube.delete(PODS, namespace, "one", grace=0)
        await following(flows, {("10.9.0.0/16", ())})
    assert [each async for each in follow(acting, namespace, peers[1:])] == [], "nothing there can change"


@pytest.mark.parametrize(
    ("peer", "field", "reason", "words"),
    [
        ({"service": {"name": "none"}}, "service", "PeerNotFound", "Service none does not exist in namespace"),
        ({"service": {"name": "web"}, "ports": [{"port": 81}]}, "ports", "PeerPortNotFound", "it has 80/TCP"),
        ({"pods": {"selector": {"matchLabels": {"a": "b"}}}}, "pods", "PeerNotFound", "matches a=b"),
        ({"host": "nobody.invalid"}, "host", "PeerNotFound", "has no address"),
    ],
)
async def test_a_peer_that_is_not_there_is_named(
    kube: Kube, acting: Kube, namespace: str, peer: Json, field: str, reason: str, words: str
) -> None:
    await service(kube, namespace)
    peers = [Peer(cidr="10.0.0.0/8"), Peer.model_validate(peer)]
    with pytest.raises(Refused) as refused:
        await resolve(acting, namespace, peers, "spec.faults[0].networkDelay.peers")
    assert refused.value.field == f"spec.faults[0].networkDelay.peers[1].{field}"
    assert refused.value.reason == reason
    assert words in refused.value.message


async def test_a_headless_service_without_pods_is_nobody(kube: Kube, acting: Kube, namespace: str) -> None:
    await service(kube, namespace, clusterIP="None")
    with pytest.raises(Refused, match="neither a cluster IP nor an endpoint"):
        await resolve(acting, namespace, [Peer.model_validate({"service": {"name": "web"}})], "peers")
