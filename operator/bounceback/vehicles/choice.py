"""Which vehicle carries a fault to a pod."""

from __future__ import annotations

from typing import Final

from bounceback.api.experiment import FaultTiming
from bounceback.engine.model import PodInfo
from bounceback.faults.api_fault import ALL_THE_TIME, NO_VEHICLE, ApiFault
from bounceback.faults.auth_fault import AuthFault
from bounceback.faults.base import Fault
from bounceback.types.outcome import VehicleKind
from bounceback.types.plan import Rung
from bounceback.vehicles.errors import POD_SECURITY, UNSUPPORTED, Refused

MOST_AGENTS: Final = 3
"""A pod keeps every ephemeral container that it ever got: from this many on its spec is spared another."""
ROOM: Final = 64 * 1024 * 1024
"""Bytes: an agent in a pod with a lower limit could get the pod's own processes killed."""
ROOM_WITH_RELAY: Final = 192 * 1024 * 1024
"""The same for an agent whose fault takes a relay."""
OWN_USERS: Final = "OwnUsers"
OWN_PACKETS: Final = (Rung.NFT, Rung.SOCKETS)
"""What meets the packets that a network sends and gets itself, not those that pass through it."""


def choose_vehicle(
    asked: VehicleKind, pod: PodInfo, refused: Refused | None, rung: Rung | None = None, *, from_node: bool = False
) -> tuple[VehicleKind, str]:
    """The vehicle and why; `refused` is what a dry run of the sidecar was answered, None if it would be taken.

    `from_node`: a sidecar could not do it, whatever its mechanism.

    Raises Refused where the asked one is impossible, and where the account may not change the pod at all: a NodePod
    runs with the operator's rights and must not give an experiment's author more than they have.
    """
    if asked is VehicleKind.POD_DELETE:
        return asked, "the fault is a request to the API"
    if refused is not None and refused.reason not in (POD_SECURITY, UNSUPPORTED):
        raise refused
    room = ROOM_WITH_RELAY if rung is Rung.RELAY else ROOM
    against = _against_sidecar(pod, refused, room)
    if rung is Rung.PROXY and pod.own_users:
        _need_sidecar(asked, pod, against, from_node=from_node)
    if rung is Rung.NODE or from_node:
        return VehicleKind.NODE_POD, "a pod's processes and files are reached from its node"
    match asked:
        case VehicleKind.NODE_POD:
            return asked, "as asked"
        case VehicleKind.AUTO if against is not None:
            return VehicleKind.NODE_POD, against
        case VehicleKind.AUTO:
            return VehicleKind.SIDECAR, "needs the fewest rights"
    if refused is not None:
        raise Refused("vehicle", refused.reason, f"{refused.message}; vehicle: NodePod or Auto would do")
    if pod.memory_limit is not None and pod.memory_limit < room:
        raise Refused("vehicle", "NoRoom", f"{against}; vehicle: NodePod or Auto would do")
    return VehicleKind.SIDECAR, "as asked"


def only_sidecar(pod: PodInfo) -> str:
    """Why no agent but a sidecar brings rules to the API proxy of a pod with users of its own."""
    return (
        f"pod {pod.name} has users of its own (hostUsers: false): to its API proxy an agent from the node is nobody, "
        "and only a sidecar's is root"
    )


def _need_sidecar(asked: VehicleKind, pod: PodInfo, against: str | None, *, from_node: bool) -> None:
    """Raises Refused where it would not be one."""
    if from_node:
        way_out = "clients can be killed in pods without hostUsers: false, or by `bounceback proxy -- COMMAND`"
        raise Refused("", OWN_USERS, f"{only_sidecar(pod)}; {way_out}")
    if asked is VehicleKind.NODE_POD:
        raise Refused("vehicle", OWN_USERS, f"{only_sidecar(pod)}; vehicle: Sidecar or Auto would do")
    if asked is VehicleKind.AUTO and against is not None:
        raise Refused("vehicle", OWN_USERS, f"{only_sidecar(pod)}, but {against}")


def _against_sidecar(pod: PodInfo, refused: Refused | None, room: int) -> str | None:
    """The first reason not to put an agent into that pod."""
    if refused is not None:
        what = "Pod Security refuses" if refused.reason == POD_SECURITY else "the API server does not take"
        return f"{what} a sidecar in pod {pod.name}"
    if pod.memory_limit is not None and pod.memory_limit < room:
        return f"the memory limit of pod {pod.name} ({pod.memory_limit >> 20} MiB) leaves no room for an agent"
    if pod.finished_agents >= MOST_AGENTS:
        return f"pod {pod.name} carries {pod.finished_agents} finished agents already, and keeps them"
    return None


def against_host_network(pod: PodInfo, rung: Rung, *, peers: bool) -> str:
    """Why a fault is not carried out in the network that a pod shares with its node, or nothing."""
    shared = f"pod {pod.name} has the network of its node {pod.node} (hostNetwork: true), and all of that would be hit"
    if rung not in OWN_PACKETS:
        ways = " and ".join(OWN_PACKETS)
        return f"{shared}, with what passes through for other pods: {rung} cannot tell them apart; {ways} can"
    if not peers:
        return f"{shared}: name the peers, or the node is cut off from everything"
    return ""


def not_armed(pod: PodInfo) -> str:
    """Why a fault on a client of the Kubernetes API cannot be carried to that pod, and what to do."""
    if pod.not_armed:
        return f"pod {pod.name} has no API proxy: {pod.not_armed}"
    return (
        f"pod {pod.name} has no API proxy: install the chart with arming.enabled, label its namespace or its template "
        "bounceback.dev/arm=enabled, and have the pod made anew; or use `bounceback proxy` for clients outside"
    )


def _instead(fault: Fault) -> str:
    """What would do to a pod without a proxy the same as this."""
    if isinstance(fault, AuthFault) and fault.permission_denied is not None:
        return "; for the API server's own 403 take the right away: objectFault with subjectsCleared on its RoleBinding"
    return ""


def neither_way(pod: PodInfo, against: str) -> str:
    """Why that fault can be carried to that pod by no proxy, and `against` admission."""
    return f"{not_armed(pod)}. Nor by admission: {against}"


def not_by_admission(entry: FaultTiming, *, enabled: bool) -> str:
    """Why the API server cannot be had to ask us about it, or nothing; `enabled`: the operator answers at all."""
    fault = entry.fault
    if not isinstance(fault, ApiFault):
        return f"{fault.kind} cannot be carried out by admission{_instead(fault)}"
    if against := fault.not_by_admission():
        return against
    if entry.pattern is not None:
        return ALL_THE_TIME
    if entry.vehicle is not VehicleKind.AUTO:
        return NO_VEHICLE
    return "" if enabled else "the operator was installed without it (the chart's admissionFaults.enabled)"
