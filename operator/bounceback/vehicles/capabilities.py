"""What the kernels of the nodes can do: asked by a short pod on each, remembered for as long as the node is up."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import time
from collections.abc import Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

import aiohttp

from bounceback.engine.model import NodeCapability
from bounceback.kube.client import Json, Kube
from bounceback.kube.errors import KubeError
from bounceback.kube.resources import CONFIG_MAPS, NODES, PODS
from bounceback.types.plan import Feature
from bounceback.types.realms import Realm
from bounceback.types.told import Line, Told
from bounceback.vehicles.containers import Ended, Running, Waiting
from bounceback.vehicles.errors import refusal
from bounceback.vehicles.node_pod import AGENT, PROBE_SECONDS, probe_pod
from bounceback.vehicles.short_pods import awaited, remove

CACHE: Final = "bounceback-nodes"
AT_ONCE: Final = 10
MOST_REMEMBERED: Final = 2000
"""Entries; the oldest are forgotten first, for nodes of a large cluster come and go under ever new names."""
GATEWAYS: Final = ("network.cilium.io/ipv4-cilium-host", "network.cilium.io/ipv6-cilium-host")
"""Annotations that name the address from which the node itself speaks to its pods."""


@dataclass(frozen=True, slots=True)
class _Node:
    """What the Node object says."""

    name: str
    boot: str
    kernel: str
    addresses: tuple[str, ...]


class Nodes:
    """What nodes can do, probed once for each boot of each node, for each image, and for each realm that is asked."""

    def __init__(self, own: Kube, namespace: str, image: str, pull_policy: str) -> None:
        self._own = own
        self._namespace = namespace
        self._image = image
        self._pull_policy = pull_policy
        self._nodes: dict[str, _Node] = {}
        self._known: dict[str, Json] = {}  # what the ConfigMap holds, by `cache_key`
        self._probing = asyncio.Lock()

    async def capabilities(self, nodes: Iterable[str], realm: Realm = Realm.NETWORK) -> dict[str, NodeCapability]:
        """Features of that realm, by node; `problem` says why nobody could find out.

        Raises KubeError where the API server does not answer.
        """
        names = sorted(set(nodes))
        slots = asyncio.Semaphore(AT_ONCE)

        async def look(name: str) -> None:
            async with slots:
                self._nodes[name] = await self._look(name)

        await asyncio.gather(*(look(name) for name in names))
        probed: dict[str, NodeCapability] = {}
        if any(self._remembered(name, realm) is None for name in names):
            async with self._probing:  # two runs at once would make the same pods
                probed = await self._probe_all(names, realm, slots)
        found = {name: probed.get(name) or self._remembered(name, realm) for name in names}
        return {name: capability for name, capability in found.items() if capability is not None}

    async def addresses(self, node: str) -> tuple[str, ...]:
        """The addresses from which the node itself speaks: never touched by a fault. Raises KubeError."""
        if node not in self._nodes:
            self._nodes[node] = await self._look(node)
        return self._nodes[node].addresses

    async def _look(self, name: str) -> _Node:
        node = await self._own.get(NODES, None, name)
        info = node["status"]["nodeInfo"]
        return _Node(name, info["bootID"], info["kernelVersion"], own_addresses(node))

    async def _probe_all(
        self, names: Iterable[str], realm: Realm, slots: asyncio.Semaphore
    ) -> dict[str, NodeCapability]:
        """Ask all those of which nothing is remembered, and remember what they answered."""

        async def bounded(name: str) -> NodeCapability:
            async with slots:
                return await self._probe(self._nodes[name], realm)

        self._known = await self._read_cache()
        unknown = [name for name in names if self._remembered(name, realm) is None]
        probed = {each.node: each for each in await asyncio.gather(*(bounded(name) for name in unknown))}
        fresh = {cache_key(name, realm): self._entry(each) for name, each in probed.items() if not each.problem}
        if fresh:
            self._known = newest({**self._known, **fresh})
            await self._write_cache(fresh)
        return probed

    def _remembered(self, name: str, realm: Realm) -> NodeCapability | None:
        node, entry = self._nodes[name], self._known.get(cache_key(name, realm))
        if entry is None or (entry["boot"], entry["kernel"], entry["image"]) != (node.boot, node.kernel, self._image):
            return None
        return NodeCapability(name, node.kernel, features(entry["features"]))

    def _entry(self, capability: NodeCapability) -> Json:
        node = self._nodes[capability.node]
        told = {"boot": node.boot, "kernel": node.kernel, "image": self._image}
        return {**told, "features": sorted(capability.features), "at": round(time.time())}

    async def _probe(self, node: _Node, realm: Realm) -> NodeCapability:
        """Run the probe there; a pod that an operator before us left is taken over."""
        body = probe_pod(node.name, node.boot, realm, self._namespace, self._image, self._pull_policy)
        name = body["metadata"]["name"]
        try:
            try:
                await self._own.create(PODS, self._namespace, body)
            except KubeError as error:
                if not error.exists:
                    raise
            problem = await self._ended(name)
            line = None if problem else await self._answer(name)
            await remove(self._own, self._namespace, name)
        except KubeError as error:
            refused = refusal(error, "the operator", f"a probe pod in namespace {self._namespace}")
            return NodeCapability(node.name, node.kernel, problem=refused.message if refused else str(error))
        except (aiohttp.ClientError, TimeoutError) as error:
            return NodeCapability(node.name, node.kernel, problem=f"the probe was not answered: {error!r}")
        if line is None:
            return NodeCapability(node.name, node.kernel, problem=problem or "the probe told nothing")
        return NodeCapability(node.name, node.kernel, features(line.detail.get("features", ())))

    async def _ended(self, name: str) -> str:
        """Wait for the probe's end; what kept it from running, or ""."""
        match await awaited(self._own, self._namespace, name, AGENT, PROBE_SECONDS + 10):
            case Ended() as ended:
                return "" if ended.ran else ended.words
            case Waiting() as waiting if waiting.hopeless:
                return f"a container with image {self._image} cannot be made: {waiting.words}"
            case Waiting() as waiting:
                return f"the probe pod did not end within {PROBE_SECONDS + 10} s: {waiting.words}"
            case Running():
                return f"the probe pod did not end within {PROBE_SECONDS + 10} s: it runs"
        return "the probe pod was deleted by somebody else"

    async def _answer(self, name: str) -> Line | None:
        async with aclosing(self._own.log_lines(PODS, self._namespace, name, AGENT, follow=False)) as log:
            async for text in log:
                line = Line.from_json(text)
                if line is not None and line.told is Told.CAPABLE:
                    return line
        return None

    async def _read_cache(self) -> dict[str, Json]:
        try:
            cache = await self._own.get(CONFIG_MAPS, self._namespace, CACHE)
        except KubeError as error:
            if error.gone:
                return {}
            raise
        return {node: json.loads(text) for node, text in (cache.get("data") or {}).items()}

    async def _write_cache(self, fresh: Mapping[str, Json]) -> None:
        """Add what is new; entries of other operators stay, but for the oldest beyond the bound."""
        data: dict[str, str | None] = {node: json.dumps(entry) for node, entry in fresh.items()}
        try:
            there = await self._read_cache()
            data |= dict.fromkeys(there.keys() - newest({**there, **fresh}).keys())
            await self._own.patch(CONFIG_MAPS, self._namespace, CACHE, {"data": data})
        except KubeError as error:
            if not error.gone:
                raise
            metadata = {"name": CACHE, "labels": {"app.kubernetes.io/managed-by": "bounceback"}}
            body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
            await self._own.create(CONFIG_MAPS, self._namespace, body)


def cache_key(node: str, realm: Realm) -> str:
    """Where the cache has what is known of that node: no node's name has an underscore."""
    return node if realm is Realm.NETWORK else f"{node}_{realm}"


def newest(entries: Mapping[str, Json], most: int = MOST_REMEMBERED) -> dict[str, Json]:
    """The entries that were made last."""
    return dict(sorted(entries.items(), key=lambda item: (-item[1]["at"], item[0]))[:most])


def features(names: Iterable[str]) -> frozenset[Feature]:
    """Those that we know of; a newer agent may tell of more."""
    known = {feature.value for feature in Feature}
    return frozenset(Feature(name) for name in names if name in known)


def own_addresses(node: Json) -> tuple[str, ...]:
    """Where the node's own traffic to its pods (the kubelet's probes above all) comes from.

    With a bridge or point-to-point links that is the first address of the node's pod range, else one of its own.
    """
    internal = [each["address"] for each in node["status"].get("addresses") or [] if each["type"] == "InternalIP"]
    ranges = node["spec"].get("podCIDRs") or ([node["spec"]["podCIDR"]] if node["spec"].get("podCIDR") else [])
    gateways = [str(ipaddress.ip_network(each)[1]) for each in ranges]
    annotated = [value for key, value in (node["metadata"].get("annotations") or {}).items() if key in GATEWAYS]
    return tuple(dict.fromkeys((*internal, *gateways, *annotated)))
