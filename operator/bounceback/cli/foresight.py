"""What an experiment would do, found out without touching anything: reads and server-side dry runs only."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from bounceback.api import API_VERSION
from bounceback.api.check import RecoveryCheckSpec
from bounceback.api.experiment import FaultExperimentSpec, FaultTiming
from bounceback.api.problems import parse
from bounceback.api.status import FaultExperimentStatus
from bounceback.cli.cluster import CHECKS, CONFIG_MAPS, EXPERIMENTS, PODS, STRATEGIC, Cluster, RefusedError
from bounceback.cli.exits import CommandError
from bounceback.cli.follow import is_finished
from bounceback.cli.foresight_objects import ForesightObjects, Unforeseen
from bounceback.cli.foresight_reference import compared
from bounceback.cli.foresight_workloads import foresee_workload
from bounceback.cli.freeze import FREEZE
from bounceback.engine.model import NodeCapability, PodInfo
from bounceback.engine.planning import act_of, needs_guard, realm_of, rung_for
from bounceback.engine.policy import changes_of_cluster
from bounceback.engine.repeats import begun, spec_of_run
from bounceback.engine.targets import PROTECTED, choose
from bounceback.faults import ObjectFault, PodRemoval
from bounceback.faults.client_fault import ClientFault
from bounceback.faults.inside import InsideFault
from bounceback.faults.node_fault import NodeFault
from bounceback.faults.tls_fault import TlsFault
from bounceback.kube import KubeError
from bounceback.report.course import course
from bounceback.types.outcome import VehicleKind
from bounceback.types.plan import Feature, Rung
from bounceback.types.realms import Realm
from bounceback.vehicles.capabilities import cache_key
from bounceback.vehicles.choice import beside_node_pod, choose_vehicle, not_armed, not_by_admission
from bounceback.vehicles.errors import Refused, refusal
from bounceback.vehicles.node_pod import PROBE_RIGHTS
from bounceback.vehicles.pod_delete import eviction
from bounceback.vehicles.pods import pod_info
from bounceback.vehicles.sidecar import trial_patch

Json = dict[str, Any]
NODES: Final = "bounceback-nodes"
"""The ConfigMap in which the operator keeps what nodes can do."""
OWN_RUNG: Final = {rung: rung for rung in (Rung.PROXY, Rung.NODE)}
"""Those that no feature of the kernel decides about."""
UNKNOWN: Final = "unknown: probed at the start"


@dataclass(frozen=True, slots=True)
class Foreseen:
    """One fault on one pod, or on another object, whose kind and name are `pod` then."""

    pod: str
    node: str
    vehicle: str
    why: str
    rung: str


@dataclass
class Outlook:
    """What would happen, and what stands against it."""

    namespace: str
    name: str
    matching: dict[str, int] = field(default_factory=dict)  # by target: how many match (of pods: that run)
    nouns: dict[str, str] = field(default_factory=dict)  # by target: what they are, in a word
    on: dict[str, str] = field(default_factory=dict)  # by fault: its target
    faults: dict[str, list[Foreseen]] = field(default_factory=dict)
    course: list[str] = field(default_factory=list)  # a line for each fault, where one waits for something
    refusals: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def note(self, told: str) -> None:
        if told not in self.notes:
            self.notes.append(told)

    def refuse(self, path: str, message: str) -> None:
        told = f"{path}: {message}"
        if told not in self.refusals:
            self.refusals.append(told)


class Foresight:
    """Looks at one cluster, as its user and, where they may, in the experiment's account's name."""

    def __init__(
        self, cluster: Cluster, operator_namespace: str, known_checks: Mapping[tuple[str, str], RecoveryCheckSpec]
    ) -> None:
        self._cluster = cluster
        self._operator = operator_namespace
        self._known_checks = (
            known_checks  # by (namespace, name), thosenamespace, name) of those that come along in the files
        )

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
        nodes = self._nodes(outlook, spec)
        objects = ForesightObjects(acting, namespace, spec)
        for index, fault in enumerate(spec.faults):
            if isinstance(fault.fault, ObjectFault):
                outlook.faults[fault.name] = list(_objects(outlook, f"spec.faults[{index}]", fault, objects))
                continue
            chosen = pods.get(fault.target, [])
            outlook.faults[fault.name] = list(
                self._fault(outlook, f"spec.faults[{index}]", fault, chosen, nodes, acting)
            )
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

    def _fault(
        self,
        outlook: Outlook,
        path: str,
        fault: FaultTiming,
        pods: Iterable[PodInfo],
        nodes: Mapping[str, NodeCapability],
        acting: Cluster,
    ) -> Iterator[Foreseen]:
        kind = fault.fault
        if isinstance(kind, TlsFault) and kind.authority is not None:
            secret = kind.authority.secret_name  # its key has no business here
            outlook.notes.append(
                f"whether Secret {secret} holds an authority is found out at the start, by the operator"
            )
        for pod in pods:
            if isinstance(kind, ClientFault) and (fault.mechanism is Rung.ADMISSION or not pod.armed):
                against = not_by_admission(fault, enabled=True)
                if against or fault.mechanism is Rung.PROXY:
                    outlook.refuse(f"{path}.{kind.kind}", not_armed(pod))
                    continue
                if pod.not_armed and not fault.mechanism:
                    outlook.note(not_armed(pod))
                outlook.note(
                    "whether the operator answers for admission (admissionFaults.enabled) is seen at the start"
                )
                yield Foreseen(pod.name, pod.node, VehicleKind.ADMISSION, "writes are asked about", Rung.ADMISSION)
                continue
            if isinstance(kind, PodRemoval):
                try:
                    _try_removal(acting, kind, pod)
                except RefusedError as error:
                    if error.status == 429:
                        outlook.refuse(f"{path}.{kind.kind}", f"pod {pod.name}: {error.words}")
                    else:
                        outlook.refuse("spec.serviceAccountName", error.words)
                    continue
                yield Foreseen(pod.name, pod.node, VehicleKind.POD_DELETE, "a request to the API", Rung.API)
                continue
            if isinstance(kind, InsideFault) and (obstacle := kind.obstacle(pod.containers)):
                outlook.refuse(f"{path}.{kind.kind}", f"pod {pod.name}: {obstacle.message}")
                continue
            rung: Rung | None = OWN_RUNG.get(kind.rungs()[0])
            realm = realm_of(kind)
            capability = nodes.get(cache_key(pod.node, realm)) if realm else None
            if capability and realm:
                rung, missing = rung_for(fault, capability.features)
                if rung is None:
                    way_out = kind.way_out if isinstance(kind, InsideFault) else InsideFault.way_out
                    outlook.refuse(
                        f"{path}.{kind.kind}",
                        f"node {pod.node} (kernel {capability.kernel}) cannot carry it out: {missing}; {way_out}",
                    )
                    continue
            if realm is Realm.FILES and not capability:
                outlook.note(
                    f"whether the kernel of node {pod.node} asks about accesses to files (fanotify) is probed at the "
                    f"start, by a pod of ours there with {PROBE_RIGHTS[realm]}"
                )
            likely = rung or fault.mechanism or kind.rungs(fault.choice())[0]
            features = capability.features if capability else frozenset({Feature.NFT_OWNER})
            guarded = needs_guard(act_of(fault, likely), features)
            try:
                refused = self._sidecar_refused(
                    acting, outlook.namespace, pod, guarded, kernel=likely is not Rung.PROXY
                )
                from_node = isinstance(kind, ClientFault) and kind.from_node
                vehicle, why = choose_vehicle(fault.vehicle, pod, refused, likely, from_node=from_node)
            except Refused as error:
                outlook.refuse(error.field if error.field.startswith("spec.") else f"{path}.vehicle", error.message)
                continue
            yield Foreseen(pod.name, pod.node, str(vehicle), why, str(rung) if rung else UNKNOWN)

    def _sidecar_refused(
        self, acting: Cluster, namespace: str, pod: PodInfo, guarded: bool, *, kernel: bool
    ) -> Refused | None:
        """What the API server says to a dry run of the sidecar. Raises Refused or CommandError as it may say."""
        body = trial_patch(pod.uid, guarded, "bounceback", "IfNotPresent", kernel=kernel)
        try:
            acting.patch(
                PODS, namespace, pod.name, body, subresource="ephemeralcontainers", kind=STRATEGIC, dry_run=True
            )
        except RefusedError as error:
            answer = KubeError(error.status, error.reason, error.words)
            told = refusal(answer, "the experiment's account", f"an agent in pod {pod.name}")
            if told is None:
                raise CommandError(
                    f"a dry run on pod {pod.name} was not answered: {error.words}", error.code
                ) from error
            return told
        return None


def _try_removal(acting: Cluster, kind: PodRemoval, pod: PodInfo) -> None:
    """Raises RefusedError: 429 where a PodDisruptionBudget forbids it."""
    if kind.asks:
        body = eviction(pod.namespace, pod.name, pod.uid, kind.grace_period_seconds)
        acting.create(PODS, body, part=f"{pod.name}/eviction", dry_run=True)
    else:
        acting.delete(PODS, pod.namespace, pod.name, pod.uid, dry_run=True)


def _objects(outlook: Outlook, path: str, fault: FaultTiming, objects: ForesightObjects) -> Iterator[Foreseen]:
    for each in objects.look(path, fault):
        if isinstance(each, Unforeseen):
            outlook.refuse(each.field, each.message)
        else:
            yield Foreseen(str(each.key), "", VehicleKind.OBJECT_PATCH, "requests to the API", Rung.API)


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
