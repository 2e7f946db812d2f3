"""Peers as traffic: which addresses and ports stand for a Service, for pods, for a host. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bounceback.kube.client import Json
from bounceback.types.plan import Flow
from bounceback.types.selectors import Peer, PeerPort
from bounceback.vehicles.errors import Refused

PEER_NOT_FOUND: Final = "PeerNotFound"
PORT_NOT_FOUND: Final = "PeerPortNotFound"


@dataclass(frozen=True, slots=True)
class Found:
    """What is known about one peer."""

    service: Json | None = None
    slices: tuple[Json, ...] = ()
    pods: tuple[Json, ...] = ()
    addresses: tuple[str, ...] = ()


def flows_of(peer: Peer, found: Found) -> set[Flow]:
    """The traffic with one peer, from what is known about it; empty where it has no address."""
    if peer.service is not None:
        return _service_flows(peer, found)
    if peer.pods is not None:
        live = [pod for pod in found.pods if (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed")]
        return _flows([ip["ip"] for pod in live for ip in pod["status"].get("podIPs") or []], peer.ports)
    return _flows([peer.cidr] if peer.cidr is not None else found.addresses, peer.ports)


def in_order(flows: Iterable[Flow]) -> tuple[Flow, ...]:
    """By family, address, protocol, ports."""

    def rank(flow: Flow) -> tuple[int, int, int, str, tuple[int, ...]]:
        network = ipaddress.ip_network(flow.cidr)
        return network.version, int(network.network_address), network.prefixlen, flow.protocol, flow.ports

    return tuple(sorted(flows, key=rank))


def unknown_ports(peer: Peer, found: Found) -> list[PeerPort]:
    """The asked ports that the Service does not have."""
    offered = {(each["port"], each.get("protocol", "TCP")) for each in _service_ports(found)}
    if is_external(found):
        return []
    return [each for each in peer.ports if (each.port, each.protocol.value) not in offered]


def is_external(found: Found) -> bool:
    """A Service that only stands for a host name."""
    return found.service is not None and found.service["spec"].get("type") == "ExternalName"


def _service_flows(peer: Peer, found: Found) -> set[Flow]:
    """The Service's own addresses with its ports, and its endpoints' with the ports that those lead to."""
    if found.service is None:
        return set()
    spec = found.service["spec"]
    if is_external(found):
        return _flows(found.addresses, peer.ports)
    balancers = ((found.service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
    own = [ip for ip in spec.get("clusterIPs") or [spec.get("clusterIP") or "None"] if ip not in ("None", "")]
    own += [*(spec.get("externalIPs") or []), *(each["ip"] for each in balancers if each.get("ip"))]
    endpoints = [flow for each in found.slices for flow in _endpoint_flows(peer, found, each)]
    return _flows(own, peer.ports).union(endpoints)


def _endpoint_flows(peer: Peer, found: Found, endpoints: Json) -> set[Flow]:
    """What one EndpointSlice adds: its ports have the names of the Service's, and the numbers behind those."""
    if endpoints["addressType"] == "FQDN":
        return set()
    addresses = [address for each in endpoints.get("endpoints") or [] for address in each["addresses"]]
    if not peer.ports:
        return _flows(addresses, ())
    asked = {(each.port, each.protocol.value) for each in peer.ports}
    offered = [(each, each.get("protocol", "TCP")) for each in _service_ports(found)]
    names = {(each.get("name") or "", protocol) for each, protocol in offered if (each["port"], protocol) in asked}
    behind: dict[str, set[int]] = {}
    for port in endpoints.get("ports") or []:
        protocol = port.get("protocol") or "TCP"
        if (port.get("name") or "", protocol) in names and port.get("port"):
            behind.setdefault(protocol, set()).add(port["port"])
    return _on_ports(addresses, behind)


def _service_ports(found: Found) -> list[Json]:
    return (found.service["spec"].get("ports") or []) if found.service is not None else []


def _flows(cidrs: Iterable[str], ports: Sequence[PeerPort]) -> set[Flow]:
    if not ports:
        return {Flow(_cidr(each)) for each in cidrs}
    by_protocol: dict[str, set[int]] = {}
    for port in ports:
        by_protocol.setdefault(port.protocol.value, set()).add(port.port)
    return _on_ports(cidrs, by_protocol)


def _on_ports(cidrs: Iterable[str], ports: Mapping[str, set[int]]) -> set[Flow]:
    return {
        Flow(_cidr(each), protocol, tuple(sorted(numbers))) for each in cidrs for protocol, numbers in ports.items()
    }


def _cidr(address: str) -> str:
    return str(ipaddress.ip_network(address, strict=False))


def nobody(peer: Peer, found: Found, namespace: str, field: str) -> Refused:
    if peer.service is not None:
        name = peer.service.name
        if found.service is None:
            message = f"Service {name} does not exist in namespace {namespace}; name one of that namespace, or a cidr"
        else:
            message = f"Service {name} has neither a cluster IP nor an endpoint; wait until it has one, or name a cidr"
        return Refused(f"{field}.service", PEER_NOT_FOUND, message)
    if peer.pods is not None:
        message = f"no pod of namespace {namespace} with an address matches {peer.pods.selector}"
        return Refused(f"{field}.pods", PEER_NOT_FOUND, f"{message}; name labels of pods that run there")
    message = f"host {peer.host} has no address for the operator's resolver; use the full name, or a cidr"
    return Refused(f"{field}.host", PEER_NOT_FOUND, message)


def no_such_port(peer: Peer, found: Found, unknown: Sequence[PeerPort], field: str) -> Refused:
    offered = ", ".join(f"{each['port']}/{each.get('protocol', 'TCP')}" for each in _service_ports(found)) or "none"
    asked = ", ".join(f"{each.port}/{each.protocol}" for each in unknown)
    name = peer.service.name if peer.service is not None else ""
    return Refused(f"{field}.ports", PORT_NOT_FOUND, f"Service {name} has no port {asked}; it has {offered}")
