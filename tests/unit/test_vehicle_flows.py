from __future__ import annotations

from typing import Any

from bounceback.types.plan import Flow
from bounceback.types.selectors import Peer
from bounceback.vehicles.capabilities import features, newest, own_addresses
from bounceback.vehicles.flows import Found, flows_of, in_order, unknown_ports

SERVICE: dict[str, Any] = {
    "spec": {
        "clusterIP": "10.96.0.7",
        "clusterIPs": ["10.96.0.7", "fd00:96::7"],
        "ports": [
            {"name": "http", "port": 80, "protocol": "TCP", "targetPort": "web"},
            {"name": "dns", "port": 53, "protocol": "UDP"},
        ],
    }
}
SLICES: tuple[dict[str, Any], ...] = (
    {
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.244.0.5"]}, {"addresses": ["10.244.1.6"], "conditions": {"ready": False}}],
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}, {"name": "dns", "port": 5353, "protocol": "UDP"}],
    },
    {
        "addressType": "IPv6",
        "endpoints": [{"addresses": ["fd00:244::5"]}],
        "ports": [{"name": "http", "port": 8081, "protocol": "TCP"}],  # named ports may differ from pod to pod
    },
)


def peer(**fields: Any) -> Peer:
    return Peer.model_validate(fields)


def test_a_service_port_leads_to_the_ports_behind_it() -> None:
    found = flows_of(peer(service={"name": "web"}, ports=[{"port": 80}]), Found(SERVICE, SLICES))
    assert in_order(found) == (
        Flow("10.96.0.7/32", "TCP", (80,)),
        Flow("10.244.0.5/32", "TCP", (8080,)),
        Flow("10.244.1.6/32", "TCP", (8080,)),
        Flow("fd00:96::7/128", "TCP", (80,)),
        Flow("fd00:244::5/128", "TCP", (8081,)),
    )


def test_without_ports_it_is_all_traffic_with_a_service() -> None:
    found = flows_of(peer(service={"name": "web"}), Found(SERVICE, SLICES))
    assert {flow.cidr for flow in found} == {
        *("10.96.0.7/32", "fd00:96::7/128", "10.244.0.5/32", "10.244.1.6/32", "fd00:244::5/128")
    }
    assert all(not flow.ports and not flow.protocol for flow in found)


def test_protocols_are_kept_apart() -> None:
    found = flows_of(peer(service={"name": "web"}, ports=[{"port": 53, "protocol": "UDP"}]), Found(SERVICE, SLICES))
    assert Flow("10.96.0.7/32", "UDP", (53,)) in found
    assert Flow("10.244.0.5/32", "UDP", (5353,)) in found
    assert not any(flow.protocol == "TCP" for flow in found)
    assert unknown_ports(peer(service={"name": "web"}, ports=[{"port": 53}]), Found(SERVICE)) != []


def test_a_headless_service_is_its_endpoints() -> None:
    headless = {"spec": {**SERVICE["spec"], "clusterIP": "None", "clusterIPs": ["None"]}}
    found = flows_of(peer(service={"name": "web"}), Found(headless, SLICES[:1]))
    assert {flow.cidr for flow in found} == {"10.244.0.5/32", "10.244.1.6/32"}
    assert flows_of(peer(service={"name": "web"}), Found(headless)) == set()


def test_a_service_is_reached_from_outside_by_more_addresses() -> None:
    balanced = {
        "spec": {**SERVICE["spec"], "externalIPs": ["192.0.2.1"]},
        "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.2"}, {"hostname": "lb.example"}]}},
    }
    found = flows_of(peer(service={"name": "web"}, ports=[{"port": 80}]), Found(balanced))
    assert {"192.0.2.1/32", "192.0.2.2/32"} <= {flow.cidr for flow in found}


def test_an_external_name_is_a_host() -> None:
    external = {"spec": {"type": "ExternalName", "externalName": "db.example"}}
    found = flows_of(peer(service={"name": "db"}, ports=[{"port": 5432}]), Found(external, addresses=("192.0.2.9",)))
    assert found == {Flow("192.0.2.9/32", "TCP", (5432,))}
    assert unknown_ports(peer(service={"name": "db"}, ports=[{"port": 5432}]), Found(external)) == []


def test_pods_that_have_ended_are_nobodys_peers() -> None:
    pods = tuple(
        {"status": {"phase": phase, "podIPs": [{"ip": ip}]}}
        for phase, ip in (("Running", "10.0.0.1"), ("Succeeded", "10.0.0.2"), ("Pending", "10.0.0.3"))
    )
    found = flows_of(peer(pods={"selector": {"matchLabels": {"a": "b"}}}), Found(pods=pods))
    assert found == {Flow("10.0.0.1/32"), Flow("10.0.0.3/32")}


def test_a_network_is_taken_as_it_is_meant() -> None:
    assert flows_of(peer(cidr="10.1.2.3/8"), Found()) == {Flow("10.0.0.0/8")}
    assert flows_of(peer(cidr="10.1.2.3", ports=[{"port": 1}, {"port": 2}]), Found()) == {
        Flow("10.1.2.3/32", "TCP", (1, 2))
    }


def test_the_order_of_flows_follows_from_what_they_are() -> None:
    flows = [Flow("fd00::/8"), Flow("10.0.0.0/8", "UDP"), Flow("9.0.0.0/8"), Flow("10.0.0.0/8", "TCP", (2,))]
    assert in_order(flows) == in_order(reversed(flows))
    assert [flow.cidr for flow in in_order(flows)] == ["9.0.0.0/8", "10.0.0.0/8", "10.0.0.0/8", "fd00::/8"]


def test_the_nodes_own_traffic_comes_from_its_addresses_and_its_gateways() -> None:
    node = {
        "metadata": {"annotations": {"network.cilium.io/ipv4-cilium-host": "10.1.0.9"}},
        "spec": {"podCIDR": "10.244.3.0/24", "podCIDRs": ["10.244.3.0/24", "fd00:244:3::/64"]},
        "status": {
            "addresses": [
                {"type": "Hostname", "address": "node-1"},
                {"type": "InternalIP", "address": "192.168.0.5"},
                {"type": "InternalIP", "address": "fd00::5"},
            ]
        },
    }
    assert own_addresses(node) == ("192.168.0.5", "fd00::5", "10.244.3.1", "fd00:244:3::1", "10.1.0.9")
    assert own_addresses({"metadata": {}, "spec": {}, "status": {}}) == ()


def test_the_cache_forgets_the_oldest_nodes() -> None:
    entries = {f"n{age}": {"at": age} for age in range(5)}
    assert newest(entries, 2) == {"n4": {"at": 4}, "n3": {"at": 3}}


def test_features_of_a_newer_agent_are_passed_over() -> None:
    assert {feature.value for feature in features(["sch_netem", "teleport"])} == {"sch_netem"}
