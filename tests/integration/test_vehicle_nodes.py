"""What nodes can do is found out by a pod that leaves nothing behind, once for each boot."""

from __future__ import annotations

import json

import pytest

from bounceback.kube import Kube
from bounceback.kube.resources import CONFIG_MAPS, NODES, PODS
from bounceback.types.plan import Feature
from bounceback.types.realms import OF_FILES, Realm
from bounceback.vehicles.capabilities import Nodes
from tests.conftest import IMAGE


@pytest.fixture
async def node(kube: Kube) -> str:
    nodes, _ = await kube.list(NODES)
    return str(nodes[0]["metadata"]["name"])


async def test_a_node_is_probed_once(kubeconfig: str, home: str, node: str) -> None:
    requests: list[str] = []
    async with Kube.connected(kubeconfig, lambda verb, path, _: requests.append(f"{verb} {path}")) as kube:
        nodes = Nodes(kube, home, IMAGE, "IfNotPresent")
        found = (await nodes.capabilities([node, node]))[node]
        assert not found.problem
        assert found.kernel == (await kube.get(NODES, None, node))["status"]["nodeInfo"]["kernelVersion"]
        assert {Feature.NFT_INET, Feature.NFT_IP} & found.features
        requests.clear()
        assert (await nodes.capabilities([node]))[node] == found
        assert requests == [f"GET /api/v1/nodes/{node}"], "one look whether it was booted again"
        requests.clear()
        fresh = Nodes(kube, home, IMAGE, "IfNotPresent")
        assert (await fresh.capabilities([node]))[node] == found
        assert not any(request.startswith("POST") for request in requests), "another operator learns it from the cache"
        await _is_gone(kube, home)


async def test_what_only_some_faults_need_is_asked_by_a_pod_of_its_own(kube: Kube, home: str, node: str) -> None:
    nodes = Nodes(kube, home, IMAGE, "IfNotPresent")
    packets = (await nodes.capabilities([node]))[node].features
    assert not packets & OF_FILES
    files = (await nodes.capabilities([node], Realm.FILES))[node]
    assert not files.problem
    assert files.features <= OF_FILES
    assert Feature.FANOTIFY in files.features
    cache = (await kube.get(CONFIG_MAPS, home, "bounceback-nodes"))["data"]
    assert {node, f"{node}_files"} <= set(cache)
    await _is_gone(kube, home)


async def test_a_node_that_was_booted_again_is_probed_again(kube: Kube, home: str, node: str) -> None:
    nodes = Nodes(kube, home, IMAGE, "IfNotPresent")
    await nodes.capabilities([node])
    stale = json.dumps({"boot": "another", "kernel": "1.0", "image": IMAGE, "features": [], "at": 1})
    await kube.patch(CONFIG_MAPS, home, "bounceback-nodes", {"data": {node: stale, "gone.example": stale}})
    found = (await Nodes(kube, home, IMAGE, "IfNotPresent").capabilities([node]))[node]
    assert found.features
    cache = (await kube.get(CONFIG_MAPS, home, "bounceback-nodes"))["data"]
    assert cache[node] != stale
    assert cache["gone.example"] == stale, "what others know of other nodes stays"


async def test_an_image_that_cannot_be_pulled_is_the_problem_that_is_told(kube: Kube, home: str, node: str) -> None:
    nodes = Nodes(kube, home, "127.0.0.1:1/nothing:1", "IfNotPresent")
    found = (await nodes.capabilities([node]))[node]
    assert "127.0.0.1:1/nothing:1" in found.problem
    assert "ErrImagePull" in found.problem or "ImagePullBackOff" in found.problem
    await _is_gone(kube, home)
    retried = (await Nodes(kube, home, IMAGE, "IfNotPresent").capabilities([node]))[node]
    assert not retried.problem, "a failure is not remembered"


async def test_a_namespace_that_refuses_the_probe_is_the_problem_that_is_told(
    kube: Kube, namespace: str, node: str
) -> None:
    found = (await Nodes(kube, namespace, IMAGE, "IfNotPresent").capabilities([node]))[node]
    assert "bounceback-agent" in found.problem, "its service account is not there"


async def test_the_nodes_own_addresses_are_known(kube: Kube, home: str, node: str) -> None:
    addresses = await Nodes(kube, home, IMAGE, "IfNotPresent").addresses(node)
    status = (await kube.get(NODES, None, node))["status"]
    assert {each["address"] for each in status["addresses"] if each["type"] == "InternalIP"} <= set(addresses)


async def _is_gone(kube: Kube, home: str) -> None:
    left, _ = await kube.list(PODS, home)
    assert [pod["metadata"]["name"] for pod in left if "deletionTimestamp" not in pod["metadata"]] == []
