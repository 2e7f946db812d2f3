"""What a fault would do to pods, found out without touching anything: reads and server-side dry runs only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from bounceback.api.experiment import FaultTiming
from bounceback.cli.cluster import PODS, STRATEGIC, Cluster, RefusedError
from bounceback.cli.exits import CommandError
from bounceback.cli.outlook import Foreseen, Outlook
from bounceback.engine.model import NodeCapability, PodInfo
from bounceback.engine.planning import act_of, needs_guard, realm_of, rung_for
from bounceback.faults import PodRemoval
from bounceback.faults.client_fault import ClientFault
from bounceback.faults.inside import InsideFault
from bounceback.faults.tls_fault import TlsFault
from bounceback.kube import KubeError
from bounceback.types.outcome import VehicleKind
from bounceback.types.plan import Feature, Rung
from bounceback.types.realms import Realm
from bounceback.vehicles.capabilities import cache_key
from bounceback.vehicles.choice import choose_vehicle, neither_way, not_armed, not_by_admission
from bounceback.vehicles.errors import Refused, refusal
from bounceback.vehicles.node_pod import PROBE_RIGHTS
from bounceback.vehicles.pod_delete import eviction
from bounceback.vehicles.sidecar import trial_patch

OWN_RUNG: Final = {rung: rung for rung in (Rung.PROXY, Rung.NODE)}
"""Those that no feature of the kernel decides about."""
UNKNOWN: Final = "unknown: probed at the start"


class ForesightPods:
    """In the name of `acting`; `nodes` are those of which it is known what they can do."""

    def __init__(self, outlook: Outlook, acting: Cluster, nodes: Mapping[str, NodeCapability]) -> None:
        self._outlook = outlook
        self._acting = acting
        self._nodes = nodes

    def look(self, path: str, fault: FaultTiming, pods: Iterable[PodInfo]) -> Iterator[Foreseen]:
        """What becomes of each pod that is not refused; refusals are noted with `path`, the fault's."""
        kind = fault.fault
        if isinstance(kind, TlsFault) and kind.authority is not None:
            secret = kind.authority.secret_name  # its key has no business here
            self._outlook.note(f"whether Secret {secret} holds an authority is found out at the start, by the operator")
        for pod in pods:
            if isinstance(kind, ClientFault) and (fault.mechanism is Rung.ADMISSION or not pod.armed):
                found = self._by_admission(path, fault, pod)
            elif isinstance(kind, PodRemoval):
                found = self._removed(path, kind, pod)
            else:
                found = self._by_agent(path, fault, pod)
            if found is not None:
                yield found

    def _by_admission(self, path: str, fault: FaultTiming, pod: PodInfo) -> Foreseen | None:
        against = not_by_admission(fault, enabled=True)
        if against or fault.mechanism is Rung.PROXY:
            told = neither_way(pod, against) if against and fault.mechanism is None else not_armed(pod)
            self._outlook.refuse(f"{path}.{fault.fault.kind}", told)
            return None
        if pod.not_armed and not fault.mechanism:
            self._outlook.note(not_armed(pod))
        self._outlook.note("whether the operator answers for admission (admissionFaults.enabled) is seen at the start")
        return Foreseen(pod.name, pod.node, VehicleKind.ADMISSION, "writes are asked about", Rung.ADMISSION)

    def _removed(self, path: str, kind: PodRemoval, pod: PodInfo) -> Foreseen | None:
        try:
            self._try_removal(kind, pod)
        except RefusedError as error:
            if error.status == 429:
                self._outlook.refuse(f"{path}.{kind.kind}", f"pod {pod.name}: {error.words}")
            else:
                self._outlook.refuse("spec.serviceAccountName", error.words)
            return None
        return Foreseen(pod.name, pod.node, VehicleKind.POD_DELETE, "a request to the API", Rung.API)

    def _try_removal(self, kind: PodRemoval, pod: PodInfo) -> None:
        """Raises RefusedError: 429 where a PodDisruptionBudget forbids it."""
        if kind.asks:
            body = eviction(pod.namespace, pod.name, pod.uid, kind.grace_period_seconds)
            self._acting.create(PODS, body, part=f"{pod.name}/eviction", dry_run=True)
        else:
            self._acting.delete(PODS, pod.namespace, pod.name, pod.uid, dry_run=True)

    def _by_agent(self, path: str, fault: FaultTiming, pod: PodInfo) -> Foreseen | None:
        kind = fault.fault
        if isinstance(kind, InsideFault) and (obstacle := kind.obstacle(pod.containers)):
            self._outlook.refuse(f"{path}.{kind.kind}{obstacle.field}", f"pod {pod.name}: {obstacle.message}")
            return None
        rung: Rung | None = OWN_RUNG.get(kind.rungs()[0])
        realm = realm_of(kind)
        capability = self._nodes.get(cache_key(pod.node, realm)) if realm else None
        if capability and realm:
            rung, missing = rung_for(fault, capability.features)
            if rung is None:
                way_out = kind.way_out if isinstance(kind, InsideFault) else InsideFault.way_out
                cannot = f"node {pod.node} (kernel {capability.kernel}) cannot carry it out: {missing}; {way_out}"
                self._outlook.refuse(f"{path}.{kind.kind}", cannot)
                return None
        if realm is Realm.FILES and not capability:
            self._outlook.note(
                f"whether the kernel of node {pod.node} asks about accesses to files (fanotify) is probed at the "
                f"start, by a pod of ours there with {PROBE_RIGHTS[realm]}"
            )
        likely = rung or fault.mechanism or kind.rungs(fault.choice())[0]
        features = capability.features if capability else frozenset({Feature.NFT_OWNER})
        guarded = needs_guard(act_of(fault, likely), features)
        try:
            refused = self._sidecar_refused(pod, guarded, kernel=likely is not Rung.PROXY)
            from_node = isinstance(kind, ClientFault) and kind.from_node
            vehicle, why = choose_vehicle(fault.vehicle, pod, refused, likely, from_node=from_node)
        except Refused as error:
            field = error.field if error.field.startswith("spec.") else f"{path}.vehicle"
            self._outlook.refuse(field, error.message)
            return None
        return Foreseen(pod.name, pod.node, str(vehicle), why, str(rung) if rung else UNKNOWN)

    def _sidecar_refused(self, pod: PodInfo, guarded: bool, *, kernel: bool) -> Refused | None:
        """What the API server says to a dry run of the sidecar. Raises Refused or CommandError as it may say."""
        body = trial_patch(pod.uid, guarded, "bounceback", "IfNotPresent", kernel=kernel)
        place, part = self._outlook.namespace, "ephemeralcontainers"
        try:
            self._acting.patch(PODS, place, pod.name, body, subresource=part, kind=STRATEGIC, dry_run=True)
        except RefusedError as error:
            answer = KubeError(error.status, error.reason, error.words)
            told = refusal(answer, "the experiment's account", f"an agent in pod {pod.name}")
            if told is None:
                raise CommandError(
                    f"a dry run on pod {pod.name} was not answered: {error.words}", error.code
                ) from error
            return told
        return None
