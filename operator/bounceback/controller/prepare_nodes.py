"""What faults on nodes need to know before anything is touched: which nodes, who allows it, the way back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from bounceback.api.experiment import FaultExperimentSpec, FaultTiming
from bounceback.api.targets import NodeTargets
from bounceback.controller.policing import refuse_withheld
from bounceback.engine.model import ObjectInfo
from bounceback.engine.planning import Chosen, act_of, needs_guard
from bounceback.engine.policy import Labelled, NodeUse
from bounceback.engine.targets import choose
from bounceback.faults.node_drain import NodeDrain
from bounceback.faults.node_fault import CordonFault, NodeFault
from bounceback.kube import Kube, KubeError
from bounceback.kube.client import Json
from bounceback.kube.kinds import Kinds
from bounceback.kube.resources import NODES, PODS
from bounceback.types.objects import Change, ObjectKey
from bounceback.types.outcome import VehicleKind
from bounceback.types.plan import Rung
from bounceback.vehicles.errors import Refused, refusal
from bounceback.vehicles.node_access import check_node_access, may_change
from bounceback.vehicles.object_patch import ObjectPatch
from bounceback.vehicles.pod_delete import try_eviction
from bounceback.vehicles.pods import list_pods, pod_info

ANEW: Final = 3
"""How often a cordon is planned anew because others wrote the node between the look at it and the dry run."""
MIRROR: Final = "kubernetes.io/config.mirror"


class PreparingNodes:
    """The targets of an experiment that are nodes. They are looked at in the operator's name, for it to know them."""

    def __init__(self, kube: Kube, namespace: str, spec: FaultExperimentSpec) -> None:
        self._kube = kube
        self._namespace = namespace
        self._spec = spec
        self._acting = kube.acting_as(namespace, spec.service_account_name)
        self._account = f"the account of namespace {namespace}"
        self._patch = ObjectPatch(self._acting, Kinds(kube), self._account)
        self._found: dict[str, list[ObjectInfo]] = {}  # by target: those that are hit
        self.matching: dict[str, int] = {}

    async def look(self) -> None:
        """Find them, and ask whether it is allowed. Raises Refused, and what Kube raises."""
        if not any(target.nodes for target in self._spec.targets):
            return
        for index, target in enumerate(self._spec.targets):
            if target.nodes is not None:
                place = f"spec.targets[{index}].nodes"
                found = await self._find(place, target.nodes)
                self.matching[target.name] = len(found)
                self._found[target.name] = choose(found, target.nodes, self._spec.seed, target.name)
        await self._refuse_withheld()
        await check_node_access(self._acting, self._namespace, self._spec.service_account_name)

    async def chosen(self, field: str, entry: FaultTiming) -> list[Chosen]:
        """What this fault does to which nodes, tried as far as dry runs go. Raises Refused, and what Kube raises."""
        field, nodes = f"{field}.{entry.fault.kind}", self._found[entry.target]
        if isinstance(entry.fault, NodeDrain):
            pods = await self._evicted(field, entry, entry.fault, nodes)
            return [*[await self._cordoned(field, entry, entry.fault, node) for node in nodes], *pods]
        if isinstance(entry.fault, CordonFault):
            return [await self._cordoned(field, entry, entry.fault, node) for node in nodes]
        return [await self._by_agent(field, entry, node) for node in nodes]

    async def _cordoned(self, field: str, entry: FaultTiming, fault: CordonFault, node: ObjectInfo) -> Chosen:
        for _ in range(ANEW):  # the kubelet writes the node's status again and again
            try:
                changes = tuple([_slim(await self._patch.rehearse(change)) for change in fault.changes(node.body)])
            except ValueError as error:
                raise Refused(field, "DoesNotFit", str(error)) from error
            except Refused as refused:
                raise refused.at(refused.field or field) from refused
            except KubeError as error:
                if not error.conflict:
                    raise
                node = _info(await self._named(field, node.name))
                continue
            return Chosen(entry, node, VehicleKind.OBJECT_PATCH, "requests to the API", Rung.API, changes=changes)
        raise Refused(field, "ChangedMeanwhile", f"{node.key} is written by others all the time")

    async def _evicted(
        self, field: str, entry: FaultTiming, fault: NodeDrain, nodes: Sequence[ObjectInfo]
    ) -> list[Chosen]:
        """The pods that are to go. Raises Refused where a budget lets none go, or the account may not do it."""
        labels, names = str(fault.pods or ""), {node.name for node in nodes}
        found, _ = await self._acting.list(PODS, self._namespace, labels=labels)
        pods = [pod_info(body) for body in found if drained(body) and body["spec"].get("nodeName") in names]
        try:
            await try_eviction(self._acting, pods, fault.grace_period_seconds)
        except Refused as refused:
            raise refused.at(refused.field or field) from refused
        why = "evicted from its node"
        return [Chosen(entry, pod, VehicleKind.POD_DELETE, why, Rung.API, beside=True) for pod in pods]

    async def _by_agent(self, field: str, entry: FaultTiming, node: ObjectInfo) -> Chosen:
        try:
            await may_change(self._acting, node.name, node.uid)
        except KubeError as error:
            if (refused := refusal(error, self._account, f"a change of {node.key}")) is None:
                raise
            raise refused.at(refused.field or field) from error
        why = "its kubelet is reached from the node only"
        guarded = needs_guard(act_of(entry, Rung.NODE), frozenset())
        return Chosen(entry, node, VehicleKind.NODE_POD, why, Rung.NODE, guarded=guarded)

    async def _refuse_withheld(self) -> None:
        uses = [
            NodeUse(entry.name, entry.fault.node_kind, _labelled(node))
            for entry in self._spec.faults
            if isinstance(entry.fault, NodeFault)
            for node in self._found[entry.target]
        ]
        await refuse_withheld(self._kube, self._namespace, self._spec, uses)

    async def _find(self, place: str, targets: NodeTargets) -> list[ObjectInfo]:
        names: Sequence[str]
        if targets.selector is not None:
            bodies, _ = await self._kube.list(NODES, labels=str(targets.selector))
            if not bodies:
                raise Refused(f"{place}.selector", "NoTargets", f"no node has the labels {targets.selector}")
            return [_info(body) for body in bodies]
        if targets.of_pods is not None:
            pods = await list_pods(self._acting, self._namespace, targets.of_pods)
            names = sorted({pod.node for pod in pods if pod.running})
            if not names:
                words = f"{targets.of_pods} matches {len(pods)} pods in {self._namespace}, none of them running"
                raise Refused(f"{place}.ofPods", "NoTargets", words)
        else:
            names = targets.names or ()
        return [_info(await self._named(place, name)) for name in names]

    async def _named(self, place: str, name: str) -> Json:
        try:
            return await self._kube.get(NODES, None, name)
        except KubeError as error:
            if error.gone:
                raise Refused(f"{place}.names", "NoTargets", f"there is no node {name}") from error
            raise


def _info(body: Json) -> ObjectInfo:
    whole = {**body, "apiVersion": "v1", "kind": "Node"}  # entries of lists go without
    return ObjectInfo(ObjectKey.of(whole), whole["metadata"]["uid"], whole)


def drained(pod: Json) -> bool:
    """As `kubectl drain` chooses: not those of a DaemonSet, of the kubelet itself, or that are over."""
    metadata = pod["metadata"]
    owners = [owner["kind"] for owner in metadata.get("ownerReferences") or [] if owner.get("controller")]
    over = (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed") or "deletionTimestamp" in metadata
    return not over and "DaemonSet" not in owners and MIRROR not in (metadata.get("annotations") or {})


def _labelled(node: ObjectInfo) -> Labelled:
    return Labelled(node.name, node.body["metadata"].get("labels") or {})


def _slim(change: Change) -> Change:
    """Without what is neither changed nor put back, and long: a node's status lists its images."""
    assert change.after is not None
    return replace(change, after={key: value for key, value in change.after.items() if key != "status"})
