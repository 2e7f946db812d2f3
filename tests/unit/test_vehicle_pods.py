from __future__ import annotations

from typing import Any

import pytest

from bounceback.vehicles.pods import in_bytes, memory_limit, pod_info


def container(memory: str | None, **more: Any) -> dict[str, Any]:
    return {"name": "c", "resources": {"limits": {"memory": memory}} if memory else {}, **more}


@pytest.mark.parametrize(
    ("quantity", "count"),
    [("64Mi", 64 << 20), ("1.5G", 1_500_000_000), ("128000", 128_000), ("1e9", 10**9), ("1Ki", 1024), ("2000m", 2)],
)
def test_quantities_are_read_as_kubernetes_does(quantity: str, count: int) -> None:
    assert in_bytes(quantity) == count


@pytest.mark.parametrize("quantity", ["", "Mi", "64MiB", "1,5G", "-1"])
def test_what_is_no_quantity_is_refused(quantity: str) -> None:
    with pytest.raises(ValueError, match="not a quantity"):
        in_bytes(quantity)


@pytest.mark.parametrize(
    ("spec", "limit"),
    [
        ({"containers": [container("32Mi"), container("16Mi")]}, 48 << 20),
        ({"containers": [container("32Mi"), container(None)]}, None),
        ({"containers": [container("32Mi")], "initContainers": [container("64Mi")]}, 64 << 20),
        ({"containers": [container("32Mi")], "initContainers": [container(None)]}, None),
        ({"containers": [container("32Mi")], "initContainers": [container("8Mi", restartPolicy="Always")]}, 40 << 20),
        ({"containers": [container(None)], "resources": {"limits": {"memory": "50Mi"}}}, 50 << 20),
    ],
)
def test_a_pod_is_bounded_where_each_of_its_containers_is(spec: dict[str, Any], limit: int | None) -> None:
    assert memory_limit(spec) == limit


def test_a_container_without_a_limit_of_its_own_has_that_of_its_pod() -> None:
    def limits(**limits: str) -> dict[str, Any]:
        return {"resources": {"limits": limits}}

    spec = {**limits(cpu="1500m", memory="64Mi"), "containers": [{"name": "a"}, {"name": "b", **limits(cpu="250m")}]}
    metadata = {"namespace": "shop", "name": "web-0", "uid": "u"}
    a, b = pod_info({"metadata": metadata, "spec": spec}).containers
    assert (a.cpu_limit, a.memory_limit) == (1500, 64 << 20)
    assert (b.cpu_limit, b.memory_limit) == (250, 64 << 20)
    (neither,) = pod_info({"metadata": metadata, "spec": {"containers": [{"name": "a"}]}}).containers
    assert (neither.cpu_limit, neither.memory_limit) == (None, None)


def ended(name: str) -> dict[str, Any]:
    return {"name": name, "state": {"terminated": {"exitCode": 0}}}


def test_a_pod_object_becomes_what_the_engine_knows() -> None:
    pod = {
        "metadata": {"namespace": "shop", "name": "web-0", "uid": "u", "labels": {"app": "web"}},
        "spec": {"nodeName": "node-1", "containers": [container(None)]},
        "status": {
            "phase": "Running",
            "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}],
            "ephemeralContainerStatuses": [
                ended("bb-0123456789"),
                ended("bb-0123456789-guard"),
                ended("debugger-x"),
                {"name": "bb-abcdef0123", "state": {"running": {}}},
            ],
        },
    }
    info = pod_info(pod)
    assert (info.namespace, info.name, info.uid, info.node) == ("shop", "web-0", "u", "node-1")
    assert info.ips == ("10.0.0.1", "fd00::1")
    assert info.running and not info.host_network
    assert info.finished_agents == 1, "neither guards nor others' containers nor one that still runs"


def test_a_pod_that_goes_or_has_not_come_is_not_running() -> None:
    meta = {"namespace": "shop", "name": "web-0", "uid": "u"}
    going = {"metadata": {**meta, "deletionTimestamp": "2026-01-01T00:00:00Z"}, "spec": {"containers": []}}
    assert not pod_info({**going, "status": {"phase": "Running"}}).running
    assert not pod_info({"metadata": meta, "spec": {"containers": []}, "status": {"phase": "Pending"}}).running
    assert pod_info({"metadata": meta, "spec": {"containers": []}}).ips == ()
