"""Everything that can be found out before anything is touched: checks, rights, pods, nodes, vehicles, peers."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from bounceback.api.experiment import FaultExperimentSpec, FaultTiming
from bounceback.api.problems import dotted
from bounceback.api.status import CheckCopy
from bounceback.api.targets import PodTargets
from bounceback.controller.copying import copy_checks
from bounceback.controller.office import Office
from bounceback.controller.policing import labelled_node, refuse_withheld
from bounceback.controller.prepare_nodes import PreparingNodes
from bounceback.controller.prepare_objects import PreparingObjects, one_fault_each
from bounceback.controller.prepare_reference import compared_resources, reading
from bounceback.controller.repairing import check_repair
from bounceback.controller.signing import leaf_for
from bounceback.engine.following import watched
from bounceback.engine.model import NodeCapability, PodInfo
from bounceback.engine.overlap import overlapping
from bounceback.engine.planning import Chosen, Preparation, act_of, needs_guard, realm_of, rung_for
from bounceback.engine.policy import NodeUse
from bounceback.engine.starting import unseen
from bounceback.engine.state import Refusal
from bounceback.engine.targets import PROTECTED, choose
from bounceback.faults import ObjectFault, PodRemoval
from bounceback.faults.base import NetworkFault
from bounceback.faults.client_fault import ClientFault
from bounceback.faults.inside import InsideFault
from bounceback.faults.node_drain import NodeDrain
from bounceback.faults.node_fault import NodeFault, NodeFaultKind
from bounceback.faults.tls_fault import TlsFault
from bounceback.types.names import Leaf
from bounceback.types.outcome import VehicleKind
from bounceback.types.plan import BY_OPERATOR, Flow, Rung
from bounceback.types.realms import Realm
from bounceback.types.run_names import experiment_of
from bounceback.vehicles.access import AGENT_NEEDS, DELETE_NEEDS, EVICT_NEEDS, PEER_NEEDS, PODS_NEEDS, check_access
from bounceback.vehicles.choice import (
    OWN_USERS,
    against_host_network,
    choose_vehicle,
    neither_way,
    not_armed,
    not_by_admission,
    only_sidecar,
)
from bounceback.vehicles.errors import BUDGET, Refused
from bounceback.vehicles.owners import Owners
from bounceback.vehicles.peers import resolve
from bounceback.vehicles.pod_delete import try_eviction
from bounceback.vehicles.pods import list_pods

Capabilities = Mapping[Realm, Mapping[str, NodeCapability]]
"""By realm and node: of what was asked about."""


class Preparing:
    """One run's preparation. `run` gives what was found, or the first reason why it cannot begin."""

    def __init__(
        self,
        office: Office,
        namespace: str,
        run: str,
        spec: FaultExperimentSpec,
        known_checks: Sequence[CheckCopy] = (),
    ) -> None:
        self._office = office
        self._namespace = namespace
        self._holder = experiment_of(run)
        self._spec = spec
        self._checks = tuple(known_checks)  # copied once: what they say at the start is what counts
        self._matching: dict[str, int] = {}
        self._bystanders: dict[str, tuple[str, ...]] = {}  # by target: UIDs of pods that match and are not chosen
        self._refusals: dict[tuple[str, bool, bool], Refused | None] = {}  # dry runs: pod, with a guard, with rights
        self._acting = office.kube.acting_as(namespace, spec.service_account_name)
        self._owners = Owners(self._acting, namespace)
        self._objects = PreparingObjects(office.kube, office.settings, namespace, run, spec)
        self._nodes = PreparingNodes(office.kube, namespace, spec)

    async def run(self) -> Preparation | Refusal:
        """Raises KubeError, aiohttp.ClientError or TimeoutError when the API server cannot be asked."""
        if self._namespace in (*PROTECTED, self._office.settings.namespace):
            return Refusal(
                "metadata.namespace",
                "ProtectedNamespace",
                f"experiments in {self._namespace} are refused; run it in the namespace of the system under test",
                final=True,
            )
        try:
            if not self._checks:
                await self._check_access()
                self._checks = await copy_checks(self._office.kube, self._acting, self._namespace, self._spec)
                self._refuse_unseen()
            chosen = await self._choose()
        except Refused as refused:
            return Refusal(refused.field, refused.reason, refused.message)
        busy = self._office.locks.take(self._holder, (each for c in chosen for each in c.holds))
        if busy:
            names = sorted({c.on.name for c in chosen if busy.keys() & set(c.holds)})
            other = ", ".join(sorted(set(busy.values())))
            return Refusal(
                "spec.targets",
                "TargetBusy",
                f"{', '.join(names[:5])} are held by another experiment ({other})",
                final=True,
            )
        exempt = await self._exempt(chosen)
        return Preparation(
            tuple(chosen),
            self._checks,
            exempt,
            at=time.time(),
            matching=dict(self._matching),
            bystanders=self._bystanders,
        )

    def _refuse_unseen(self) -> None:
        """Faults that wait for what nobody looks at. Raises Refused."""
        for path, told in unseen(self._spec, {check.name: check.spec for check in self._checks}):
            raise Refused(dotted(("spec", *path)), "CheckInvalid", told)

    async def _check_access(self) -> None:
        account = self._spec.service_account_name
        of_objects, seen = await self._objects.needs(), await compared_resources(self._acting, self._spec)
        await check_access(
            self._acting,
            self._namespace,
            account,
            needs=_needs(self._spec) | of_objects | reading(seen),
            objects={need.partition(" ")[2] for need in of_objects},
            read=seen,
        )
        await check_repair(self._acting, self._namespace, self._holder, self._spec)

    async def _choose(self) -> list[Chosen]:
        await self._nodes.look()
        pods = {
            target.name: await self._pods_of(index, target.name, target.pods)
            for index, target in enumerate(self._spec.targets)
            if target.pods is not None
        }
        capabilities = await self._capabilities((fault, pods.get(fault.target, ())) for fault in self._spec.faults)
        chosen: list[Chosen] = []
        for index, fault in enumerate(self._spec.faults):
            field = f"spec.faults[{index}]"
            if isinstance(fault.fault, ObjectFault):
                chosen += await self._objects.chosen(field, fault)
            elif isinstance(fault.fault, NodeFault):
                chosen += await self._nodes.chosen(field, fault)
            else:
                chosen += await self._carry(field, fault, pods[fault.target], capabilities)
        self._matching |= self._objects.matching | self._nodes.matching
        self._refuse_overlap(chosen)
        await self._refuse_withheld(chosen)
        return one_vehicle_each([await self._owned(choice) for choice in chosen])

    async def _capabilities(self, planned: Iterable[tuple[FaultTiming, Sequence[PodInfo]]]) -> Capabilities:
        """Of the nodes of those pods, in the realms that the faults on them need, and in no other."""
        nodes: dict[Realm, set[str]] = {}
        for entry, pods in planned:
            if pods and (realm := realm_of(entry.fault)) is not None:
                nodes.setdefault(realm, set()).update(pod.node for pod in pods)
        return {realm: await self._office.nodes.capabilities(names, realm) for realm, names in nodes.items()}

    async def _owned(self, choice: Chosen) -> Chosen:
        """With the owner, where it matters who takes the pod's place."""
        if not isinstance(choice.on, PodInfo) or not watched(choice.fault):
            return choice
        return replace(choice, owner=await self._owners.root(choice.on))

    async def again(self, entry: FaultTiming, replaces: str, pod: PodInfo) -> Preparation:
        """For a pod that took the place of that injection's target. Raises Refused, and as `run` does."""
        field = f"spec.faults[{next(n for n, each in enumerate(self._spec.faults) if each.name == entry.name)}]"
        capabilities = await self._capabilities([(entry, [pod])])
        found = [await self._owned(each) for each in await self._carry(field, entry, [pod], capabilities)]
        await self._refuse_withheld(found)
        if self._office.locks.take_more(self._holder, (each for choice in found for each in choice.holds)):
            raise Refused(field, "TargetBusy", f"pod {pod.name} is held by another experiment")
        exempt = await self._exempt(found)
        return Preparation(tuple(replace(each, replaces=replaces) for each in found), exempt=exempt, at=time.time())

    async def _refuse_withheld(self, chosen: Sequence[Chosen]) -> None:
        """What is hit with a pod because it is the node's takes a policy. Raises Refused, and what Kube raises."""
        names = {choice.node: choice.fault.name for choice in chosen if choice.host_network}
        if not names:
            return
        kind = NodeFaultKind.HOST_NETWORK
        uses = [NodeUse(fault, kind, await labelled_node(self._office.kube, node)) for node, fault in names.items()]
        await refuse_withheld(self._office.kube, self._namespace, self._spec, uses)

    def _refuse_overlap(self, chosen: Sequence[Chosen]) -> None:
        one_fault_each(chosen)
        one_pod_each(chosen)
        if (both := overlapping(chosen)) is None:
            return
        one, other = both
        index = next(n for n, entry in enumerate(self._spec.faults) if entry.name == other.fault.name)
        raise Refused(
            f"spec.faults[{index}]",
            "Overlap",
            f"{other.fault.name} and {one.fault.name} want the same packets of pod {other.pod.name} at the same time, "
            f"and {other.rung} gives a packet to one of them only; name other peers or ports, a later "
            "startAfterSeconds, startWhen.cleared, or a mechanism that composes (Nft, Relay)",
        )

    async def _pods_of(self, index: int, name: str, targets: PodTargets) -> list[PodInfo]:
        selector = targets.selector
        found = await list_pods(self._acting, self._namespace, selector)
        pods = choose(found, targets, self._spec.seed, name)
        self._matching[name] = sum(pod.running for pod in found)
        self._bystanders[name] = tuple(sorted({pod.uid for pod in found} - {pod.uid for pod in pods}))
        if not pods:
            raise Refused(
                f"spec.targets[{index}].pods.selector",
                "NoTargets",
                f"{selector} matches {len(found)} pods in {self._namespace}, none of them running",
            )
        return pods

    async def _carry(
        self, field: str, fault: FaultTiming, pods: Sequence[PodInfo], capabilities: Capabilities
    ) -> list[Chosen]:
        kind = fault.fault
        if isinstance(kind, PodRemoval):
            if kind.asks:
                await self._try_eviction(f"{field}.{kind.kind}", kind, pods)
            return [Chosen(fault, pod, VehicleKind.POD_DELETE, "a request to the API", Rung.API) for pod in pods]
        if isinstance(kind, ClientFault):
            return [await self._for_client(field, fault, kind, pod) for pod in pods]
        if isinstance(kind, InsideFault):
            able = capabilities.get(Realm.FILES, {}) if kind.needs() else {}
            return [await self._inside(field, fault, kind, pod, able.get(pod.node)) for pod in pods]
        assert isinstance(kind, NetworkFault)
        flows = await resolve(self._acting, self._namespace, kind.peers, f"{field}.{kind.kind}.peers")
        leaf = await self._sign(f"{field}.{kind.kind}", kind)
        able = capabilities.get(Realm.NETWORK, {})
        chosen = [await self._place(field, fault, kind, pod, flows, able[pod.node]) for pod in pods]
        return [replace(each, leaf=leaf) for each in chosen]

    async def _try_eviction(self, field: str, kind: PodRemoval, pods: Sequence[PodInfo]) -> None:
        try:
            await try_eviction(self._acting, pods, kind.grace_period_seconds)
        except Refused as refused:
            way_out = ", or respectBudgets: false" if refused.reason == BUDGET else ""
            raise Refused(refused.field or field, refused.reason, refused.message + way_out) from refused

    async def _for_client(self, field: str, fault: FaultTiming, kind: ClientFault, pod: PodInfo) -> Chosen:
        if fault.mechanism is Rung.ADMISSION or not (pod.armed or fault.mechanism):
            against = not_by_admission(fault, enabled=bool(self._office.settings.admission))
            if not against:
                why = "as asked" if fault.mechanism else "the pod is not armed, and writes can be asked about"
                return Chosen(fault, pod, VehicleKind.ADMISSION, why, Rung.ADMISSION)
            if fault.mechanism:
                raise Refused(f"{field}.mechanism", "NoAdmission", against)
            raise Refused(f"{field}.{kind.kind}", "NotArmed", neither_way(pod, against))
        if not pod.armed:
            raise Refused(f"{field}.{kind.kind}", "NotArmed", not_armed(pod))
        vehicle, why = await self._vehicle(field, fault, pod, guarded=False, rung=Rung.PROXY, from_node=kind.from_node)
        return Chosen(fault, pod, vehicle, why, Rung.PROXY)

    async def _inside(
        self, field: str, fault: FaultTiming, kind: InsideFault, pod: PodInfo, capability: NodeCapability | None
    ) -> Chosen:
        if obstacle := kind.obstacle(pod.containers):
            raise Refused(f"{field}.{kind.kind}", obstacle.reason, f"pod {pod.name}: {obstacle.message}")
        if capability is not None:
            _possible(field, fault, pod, capability, kind.way_out)
        guarded = needs_guard(act_of(fault, Rung.NODE), frozenset())
        vehicle, why = await self._vehicle(field, fault, pod, guarded=guarded, rung=Rung.NODE)
        return Chosen(fault, pod, vehicle, why, Rung.NODE, guarded=guarded)

    async def _sign(self, field: str, kind: NetworkFault) -> Leaf | None:
        if not isinstance(kind, TlsFault):
            return None
        return await leaf_for(self._acting, self._namespace, self._spec.service_account_name, kind, field)

    async def _place(
        self,
        field: str,
        fault: FaultTiming,
        kind: NetworkFault,
        pod: PodInfo,
        flows: tuple[Flow, ...],
        capability: NodeCapability,
    ) -> Chosen:
        rung = _possible(field, fault, pod, capability, InsideFault.way_out, flows)
        guarded = needs_guard(act_of(fault, rung), capability.features)
        if pod.host_network and (against := against_host_network(pod, rung, peers=bool(flows))):
            raise Refused(f"{field}.{kind.kind}", "HostNetwork", against)
        vehicle, why = await self._vehicle(field, fault, pod, guarded=guarded, rung=rung)
        return Chosen(fault, pod, vehicle, why, rung, flows, guarded)

    async def _vehicle(
        self, field: str, fault: FaultTiming, pod: PodInfo, *, guarded: bool, rung: Rung, from_node: bool = False
    ) -> tuple[VehicleKind, str]:
        kernel = rung is not Rung.PROXY
        key = (pod.uid, guarded, kernel)
        if key not in self._refusals:
            asked = self._office.agents.sidecar_refused(self._acting, pod, guarded, kernel=kernel)
            self._refusals[key] = await asked
        try:
            return choose_vehicle(fault.vehicle, pod, self._refusals[key], rung, from_node=from_node)
        except Refused as refused:
            raise refused.at(refused.field if refused.field.startswith("spec.") else f"{field}.vehicle") from refused

    async def _exempt(self, chosen: Iterable[Chosen]) -> dict[str, tuple[str, ...]]:
        """By node: its own addresses (kubelet probes come from there) and those of Bounceback's probes."""
        nodes = {c.node for c in chosen if c.rung not in BY_OPERATOR}
        ours = self._office.settings.own_addresses
        return {node: (*ours, *await self._office.nodes.addresses(node)) for node in sorted(nodes)}


def _possible(
    field: str, fault: FaultTiming, pod: PodInfo, capability: NodeCapability, way_out: str, flows: tuple[Flow, ...] = ()
) -> Rung:
    """The best rung of that pod's node. Raises Refused."""
    if capability.problem:
        raise Refused(field, "NodeUnknown", f"node {pod.node} could not be probed: {capability.problem}")
    rung, missing = rung_for(fault, capability.features, flows)
    if rung is None:
        raise Refused(
            f"{field}.{fault.fault.kind}",
            "KernelCannot",
            f"node {pod.node} (kernel {capability.kernel}) cannot carry it out: {missing}; {way_out}",
        )
    return rung


def one_vehicle_each(chosen: list[Chosen]) -> list[Chosen]:
    """All faults on one pod travel together: where one needs a NodePod, the others take it too."""
    on_node = {c.on.uid for c in chosen if c.vehicle is VehicleKind.NODE_POD}
    for choice in chosen:
        if choice.rung is Rung.PROXY and choice.on.uid in on_node and choice.pod.own_users:
            words = (
                f"{only_sidecar(choice.pod)}; another fault on it takes a NodePod: put them in experiments of their own"
            )
            raise Refused("spec.faults", OWN_USERS, words)
    return [
        replace(c, vehicle=VehicleKind.NODE_POD, vehicle_reason="another fault on this pod needs it")
        if c.vehicle is VehicleKind.SIDECAR and c.pod.uid in on_node
        else c
        for c in chosen
    ]


def one_pod_each(chosen: Sequence[Chosen]) -> None:
    """Of a node's own network. Raises Refused."""
    seen: dict[str, str] = {}
    for choice in (each for each in chosen if each.host_network):
        if (other := seen.setdefault(choice.node, choice.on.name)) != choice.on.name:
            words = f"pods {other} and {choice.on.name} share the network of node {choice.node}: choose one of them"
            raise Refused("spec.targets", "HostNetwork", words)


def _needs(spec: FaultExperimentSpec) -> set[str]:
    """Rights of the account that the experiment will use; whoever may not change a pod may not break it either."""
    needs = set(PODS_NEEDS) if any(target.pods for target in spec.targets) else set()
    for entry in spec.faults:
        if isinstance(entry.fault, NodeDrain):
            needs |= EVICT_NEEDS
        if isinstance(entry.fault, ObjectFault | NodeFault):
            continue  # those depend on where a kind is served, or are of no namespace
        if isinstance(entry.fault, PodRemoval):
            needs |= EVICT_NEEDS if entry.fault.asks else DELETE_NEEDS
            continue
        needs |= AGENT_NEEDS
        peers = entry.fault.peers if isinstance(entry.fault, NetworkFault) else ()
        if any(peer.service or peer.pods for peer in peers):
            needs |= PEER_NEEDS
    return needs
