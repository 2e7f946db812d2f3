"""What an experiment would do, found out without touching anything: reads and server-side dry runs only."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from bounceback.api import API_VERSION
from bounceback.api.check import RecoveryCheckSpec
from bounceback.api.experiment import FaultExperimentSpec, FaultTiming
from bounceback.api.problems import parse
from bounceback.api.status import FaultExperimentStatus
from bounceback.cli.cluster import CHECKS, CONFIG_MAPS, EXPERIMENTS, PODS, Cluster, RefusedError
from bounceback.cli.follow import is_finished
from bounceback.cli.foresight_objects import ForesightObjects, Unforeseen
from bounceback.cli.foresight_pods import ForesightPods
from bounceback.cli.foresight_reference import compared
from bounceback.cli.foresight_workloads import foresee_workload
from bounceback.cli.freeze import FREEZE
from bounceback.cli.outlook import Foreseen, Outlook
from bounceback.engine.model import NodeCapability, PodInfo
from bounceback.engine.overlap import BY_THE_RELAY, delays_that_meet, summed
from bounceback.engine.planning import realm_of
from bounceback.engine.policy import changes_of_cluster
from bounceback.engine.repeats import begun, spec_of_run
from bounceback.engine.targets import PROTECTED, choose
from bounceback.faults import ObjectFault
from bounceback.faults.node_fault import NodeFault
from bounceback.report.course import course
from bounceback.types.outcome import VehicleKind
from bounceback.types.plan import Feature, Rung
from bounceback.vehicles.choice import beside_node_pod
from bounceback.vehicles.pods import pod_info

Json = dict[str, Any]
NODES: Final = "bounceback-nodes"
"""The ConfigMap in which the operator keeps what nodes can do."""


class Foresight:
    """Looks at one cluster, as its user and, where they may, in the experiment's account's name."""

    def __init__(
        self, cluster: Cluster, operator_namespace: str, known_checks: Mapping[tuple[str, str], RecoveryCheckSpec]
    ) -> None:
        self._cluster = cluster
        self._operator = operator_namespace
        self._known_checks = known_checks  # those that come along in the files, by (namespace, name)

    def look(self, namespace: str, name: str, spec: FaultExperimentSpec, *, is_new: bool) -> Outlook:
        outlook = Outlook(namespace, name)
        if namespace in (*PROTECTED, self._operator):
            outlook.refuse("metadata.namespace", f"experiments in {namespace} are refused")
            return outlook
        if is_new:
            self._try_to_create(outlook, spec)
        if spec.runs is not None:
            outlook.note(f"the first of up to {spec.runs.count} runs; each of the others chooses anew, by its own seed")
            spec = spec_of_run(spec, begun(spec, FaultExperimentStatus()))
        self._freeze(outlook)
        checks = self._checks(outlook, spec)
        acting = self._as_account(outlook, spec)
        for name_, check in checks.items():
            foresee_workload(outlook.note, outlook.refuse, acting, namespace, spec, name_, check)
        for told in compared(acting, namespace, spec):
            outlook.refuse(told.field, told.message) if isinstance(told, Unforeseen) else outlook.note(told)
        pods = self._pods(outlook, spec, acting)
        on_pods = ForesightPods(outlook, acting, self._nodes(outlook, spec))
        objects = ForesightObjects(acting, namespace, spec)
        for index, fault in enumerate(spec.faults):
            if isinstance(fault.fault, ObjectFault):
                outlook.faults[fault.name] = list(_objects(outlook, f"spec.faults[{index}]", fault, objects))
                continue
            chosen = pods.get(fault.target, [])
            outlook.faults[fault.name] = list(on_pods.look(f"spec.faults[{index}]", fault, chosen))
        outlook.matching |= objects.matching
        self._busy(outlook, {pod.uid: pod.name for chosen in pods.values() for pod in chosen} | objects.picked)
        outlook.nouns = {target.name: target.noun for target in spec.targets}
        outlook.course = list(course(spec))
        outlook.on = {fault.name: fault.target for fault in spec.faults}
        if any(isinstance(fault.fault, NodeFault) for fault in spec.faults):
            outlook.note("which nodes are hit, and whether a FaultPolicy allows it, is seen at the start")
        for name in changes_of_cluster(spec):
            outlook.note(f"{name}: whether a FaultPolicy allows it, and Bounceback can bear it, is seen at the start")
        if spec.repair is not None and spec.repair.job is not None:
            outlook.note(
                "a Job repairs; whether the account may make it, and the API server takes it, is seen at the start"
            )
        one_vehicle_foreseen(outlook, {pod.name: pod for chosen in pods.values() for pod in chosen})
        foresee_sums(outlook, spec)
        return outlook

    def _try_to_create(self, outlook: Outlook, spec: FaultExperimentSpec) -> None:
        """The author's own rights, and all that admission has to say."""
        metadata = {"generateName": f"{outlook.name[:200]}-", "namespace": outlook.namespace}
        body = {"apiVersion": API_VERSION, "kind": "FaultExperiment", "metadata": metadata, "spec": spec.to_json()}
        try:
            self._cluster.create(EXPERIMENTS, body, dry_run=True)
        except RefusedError as error:
            for path, message in error.causes or (("", error.words),):
                outlook.refuse(path or "the API server", message)

    def _freeze(self, outlook: Outlook) -> None:
        try:
            freeze = self._cluster.get(CONFIG_MAPS, self._operator, FREEZE)
        except RefusedError as error:
            outlook.notes.append(f"whether experiments are frozen cannot be seen: {error.words}")
            return
        if freeze is not None:
            reason = (freeze.get("data") or {}).get("reason") or "no reason given"
            outlook.refuse("the operator", f"all experiments are frozen: {reason}")

    def _checks(self, outlook: Outlook, spec: FaultExperimentSpec) -> dict[str, RecoveryCheckSpec]:
        """By name, those that can be seen."""
        seen = {}
        for index, reference in enumerate(spec.checks):
            if (known := self._known_checks.get((outlook.namespace, reference.name))) is not None:
                seen[reference.name] = known
                continue
            try:
                body = self._cluster.get(CHECKS, outlook.namespace, reference.name)
            except RefusedError as error:
                outlook.notes.append(f"RecoveryCheck {reference.name} cannot be seen: {error.words}")
                continue
            if body is None:
                path = f"spec.checks[{index}].name"
                outlook.refuse(path, f"there is no RecoveryCheck {reference.name} in {outlook.namespace}")
            elif (check := parse(RecoveryCheckSpec, body.get("spec") or {})[0]) is not None:
                seen[reference.name] = check
        return seen

    def _as_account(self, outlook: Outlook, spec: FaultExperimentSpec) -> Cluster:
        """In the account's name; as the user, with a note, where they may not."""
        acting = self._cluster.acting_as(f"system:serviceaccount:{outlook.namespace}:{spec.service_account_name}")
        try:
            acting.list(PODS, outlook.namespace, "bounceback.dev/role=none")
        except RefusedError as error:
            if error.status != 403:
                raise
            if "impersonate" in error.words:
                outlook.notes.append(
                    f"you may not act as {spec.service_account_name}, so this was found out with your own rights"
                )
                return self._cluster
            outlook.refuse("spec.serviceAccountName", error.words)
            return self._cluster
        return acting

    def _pods(self, outlook: Outlook, spec: FaultExperimentSpec, acting: Cluster) -> dict[str, list[PodInfo]]:
        found = {}
        for index, target in enumerate(spec.targets):
            if target.pods is None:
                continue
            selector = target.pods.selector
            try:
                pods = [pod_info(pod) for pod in acting.list(PODS, outlook.namespace, str(selector))]
            except RefusedError as error:
                outlook.refuse("spec.serviceAccountName", error.words)
                continue
            chosen = choose(pods, target.pods, spec.seed, target.name)
            outlook.matching[target.name] = sum(pod.running for pod in pods)
            if not chosen:
                path = f"spec.targets[{index}].pods.selector"
                outlook.refuse(
                    path, f"{selector} matches {len(pods)} pods in {outlook.namespace}, none of them running"
                )
            found[target.name] = chosen
        return found

    def _busy(self, outlook: Outlook, wanted: Mapping[str, str]) -> None:
        """Targets, by UID, that another experiment holds now."""
        for other in self._cluster.list(EXPERIMENTS, outlook.namespace):
            if is_finished(other) or other["metadata"]["name"] == outlook.name:
                continue
            injections = (other.get("status") or {}).get("injections") or []
            held = {(i.get("object") or {}).get("uid") or i.get("podUid") for i in injections}
            if both := [wanted[uid] for uid in wanted if uid in held]:
                are = "is" if len(both) == 1 else "are"
                words = f"{', '.join(both[:5])} {are} held by {other['metadata']['name']}, which still runs"
                outlook.refuse("spec.targets", words)

    def _nodes(self, outlook: Outlook, spec: FaultExperimentSpec) -> dict[str, NodeCapability]:
        """By `cache_key`."""
        if not any(realm_of(fault.fault) for fault in spec.faults):
            return {}
        try:
            cache = self._cluster.get(CONFIG_MAPS, self._operator, NODES)
        except RefusedError as error:
            outlook.notes.append(f"what the nodes' kernels can do cannot be seen: {error.words}")
            return {}
        entries = {node: json.loads(text) for node, text in ((cache or {}).get("data") or {}).items()}
        known = {feature.value: feature for feature in Feature}
        return {
            node: NodeCapability(
                node, entry["kernel"], frozenset(known[name] for name in entry["features"] if name in known)
            )
            for node, entry in entries.items()
        }


def _objects(outlook: Outlook, path: str, fault: FaultTiming, objects: ForesightObjects) -> Iterator[Foreseen]:
    for each in objects.look(path, fault):
        if isinstance(each, Unforeseen):
            outlook.refuse(each.field, each.message)
        else:
            yield Foreseen(str(each.key), "", VehicleKind.OBJECT_PATCH, "requests to the API", Rung.API)


def foresee_sums(outlook: Outlook, spec: FaultExperimentSpec) -> None:
    """Delays on the same packets; whether peers that are named in different ways are the same is seen at the start."""
    for one, other in delays_that_meet(spec.faults):
        on, others = ({each.pod: each.rung for each in outlook.faults[entry.name]} for entry in (one, other))
        both = [pod for pod in on if pod in others]
        if by_netem := [pod for pod in both if on[pod] == others[pod] == Rung.NETEM]:
            path = f"spec.faults[{[entry.name for entry in spec.faults].index(other.name)}]"
            outlook.refuse(path, f"{summed(one, other, by_netem)} {BY_THE_RELAY}")
        elif both:
            outlook.note(f"{summed(one, other, both)} {BY_THE_RELAY}")


def one_vehicle_foreseen(outlook: Outlook, known: Mapping[str, PodInfo]) -> None:
    """All faults on one pod travel together: where one needs a NodePod, the others take it too, or are refused."""
    on_node = {each.pod for pods in outlook.faults.values() for each in pods if each.vehicle == VehicleKind.NODE_POD}
    for fault, pods in outlook.faults.items():
        for each in pods:
            if each.rung == Rung.PROXY and each.pod in on_node and known[each.pod].own_users:
                outlook.refuse("spec.faults", beside_node_pod(known[each.pod]))
        outlook.faults[fault] = [
            replace(each, vehicle=str(VehicleKind.NODE_POD), why="another fault on this pod needs it")
            if each.vehicle == VehicleKind.SIDECAR and each.pod in on_node
            else each
            for each in pods
        ]
