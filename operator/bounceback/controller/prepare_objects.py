"""What objectFault needs to know before anything is touched: which objects, what becomes of them, and the way back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from bounceback.api.experiment import FaultExperimentSpec, FaultTiming
from bounceback.api.targets import ObjectTargets
from bounceback.controller.prepare_beyond import PreparingBeyond
from bounceback.controller.settings import Settings
from bounceback.engine.model import ObjectInfo
from bounceback.engine.planning import Chosen
from bounceback.engine.targets import choose
from bounceback.faults import ObjectFault
from bounceback.faults.object_kinds.base import speaks_for
from bounceback.kube import Kube, KubeError
from bounceback.kube.client import Json
from bounceback.kube.kinds import Kinds, UnknownKindError
from bounceback.kube.resources import Resource
from bounceback.types.objects import RBAC, Change, ClusterKind, ObjectKey
from bounceback.types.outcome import VehicleKind
from bounceback.types.plan import Rung
from bounceback.vehicles.errors import Refused
from bounceback.vehicles.object_patch import ObjectPatch

READING: Final = ("get", "list", "watch")
BINDINGS: Final = Resource(f"{RBAC}v1", "rolebindings")
ANEW: Final = 10
"""How often a change is planned anew because others wrote the object between the look at it and the dry run."""


class PreparingObjects:
    """The targets of an experiment that are objects, and what its faults do to them."""

    def __init__(self, kube: Kube, settings: Settings, namespace: str, run: str, spec: FaultExperimentSpec) -> None:
        self._settings = settings
        self._namespace = namespace
        self._run = run
        self._spec = spec
        self._acting = kube.acting_as(namespace, spec.service_account_name)
        self._kinds = Kinds(kube)  # what is served is no secret, and the account may not be there yet
        account = f"the account of namespace {namespace}"
        self._patch = ObjectPatch(self._acting, self._kinds, account)
        self._beyond = PreparingBeyond(kube, settings, namespace, spec)
        self.matching: dict[str, int] = {}

    async def needs(self) -> set[str]:
        """Rights of the account in its namespace. Raises Refused for what it must not change, and what Kube raises."""
        needs: set[str] = set()
        for entry in self._spec.faults:
            if isinstance(entry.fault, ObjectFault):
                self._fits(entry)
                resource = await self._resource(entry)
                if not resource.namespaced:
                    continue
                needs |= entry.fault.verbs(_written(resource))
                if _written(resource) == f"roles.{RBAC.rstrip('/')}":
                    needs.add(f"list {_written(BINDINGS)}")  # who has it
        resources = {need.partition(" ")[2] for need in needs}
        return needs | {f"{verb} {resource}" for verb in READING for resource in resources}

    async def chosen(self, field: str, entry: FaultTiming) -> list[Chosen]:
        """What this fault does to which objects, tried as far as dry runs go. Raises Refused, and what Kube raises."""
        assert isinstance(entry.fault, ObjectFault)
        place, targets = self._target(entry)
        resource = await self._resource(entry)
        if not resource.namespaced:
            await self._beyond.check_access(targets, resource)
        found = await self._find(place, entry.fault, targets, resource)
        self.matching[entry.target] = sum(each.running for each in found)
        picked = choose(found, targets, self._spec.seed, entry.target)
        if not picked:
            raise Refused(
                f"{place}.selector",
                "NoTargets",
                f"{targets.selector} matches no {targets.kind} in {self._namespace} that is not being deleted",
            )
        field = f"{field}.{entry.fault.kind}.{entry.fault.field}"
        return [
            Chosen(
                entry,
                each,
                VehicleKind.OBJECT_PATCH,
                "requests to the API",
                Rung.API,
                changes=await self._changes(field, entry.fault, each),
            )
            for each in picked
        ]

    async def _changes(self, field: str, fault: ObjectFault, target: ObjectInfo) -> tuple[Change, ...]:
        for _ in range(ANEW):
            try:
                planned = fault.changes(target.body, self._run, self._spec.service_account_name)
                if target.key.kind == ClusterKind.NAMESPACE:
                    planned = [*await self._beyond.contents(target.name), *planned]
                return tuple([await self._patch.rehearse(change) for change in planned])
            except ValueError as error:
                raise Refused(field, "DoesNotFit", str(error)) from error
            except Refused as refused:
                raise refused.at(refused.field or field) from refused
            except UnknownKindError as error:
                raise Refused(field, "KindUnknown", str(error)) from error
            except KubeError as error:
                if not error.conflict:
                    raise
            fresh = await self._patch.read(target.key)
            if fresh is None or fresh["metadata"]["uid"] != target.uid:
                raise Refused(field, "TargetGone", f"{target.key} was deleted just now")
            target = ObjectInfo(target.key, target.uid, fresh)
        raise Refused(field, "ChangedMeanwhile", f"{target.key} is written by others all the time")

    def _fits(self, entry: FaultTiming) -> None:
        assert isinstance(entry.fault, ObjectFault)
        place, targets = self._target(entry)
        if unfit := entry.fault.unfit(targets.api_version, targets.kind):
            raise Refused(f"{place}.kind", "DoesNotFit", unfit)

    def _target(self, entry: FaultTiming) -> tuple[str, ObjectTargets]:
        index, target = next((n, t) for n, t in enumerate(self._spec.targets) if t.name == entry.target)
        assert target.objects is not None  # or the spec would not have been taken
        return f"spec.targets[{index}].objects", target.objects

    async def _resource(self, entry: FaultTiming) -> Resource:
        """Where its targets are served. Raises Refused where they are beyond the namespace and that is not allowed."""
        place, targets = self._target(entry)
        try:
            resource = await self._kinds.resource(targets.api_version, targets.kind, namespaced=False)
        except UnknownKindError as error:
            raise Refused(f"{place}.kind", "KindUnknown", str(error)) from error
        if not resource.namespaced:
            await self._beyond.refuse(place, entry, targets, resource)
        return resource

    async def _find(
        self, place: str, fault: ObjectFault, targets: ObjectTargets, resource: Resource
    ) -> list[ObjectInfo]:
        if targets.names is None:
            bodies, _ = await self._acting.list(resource, self._namespace, labels=str(targets.selector))
        else:
            bodies = [
                await self._named(f"{place}.names[{index}]", targets, resource, name)
                for index, name in enumerate(targets.names)
            ]
        return [await self._info(place, fault, targets, body) for body in bodies]

    async def _named(self, field: str, targets: ObjectTargets, resource: Resource, name: str) -> Json:
        try:
            return await self._acting.get(resource, self._namespace, name)
        except KubeError as error:
            if error.gone:
                where = f" in {self._namespace}" if resource.namespaced else ""
                message = f"there is no {targets.kind} {name}{where}"
                raise Refused(field, "NoTargets", message) from error
            raise

    async def _info(self, place: str, fault: ObjectFault, targets: ObjectTargets, body: Json) -> ObjectInfo:
        whole = {**body, "apiVersion": targets.api_version, "kind": targets.kind}  # entries of lists go without
        info = ObjectInfo(ObjectKey.of(whole), whole["metadata"]["uid"], whole)
        if info.key.namespace:
            await self._keeps_the_way_back(place, whole)
        else:
            await self._beyond.keeps_the_way_back(place, fault, whole)
        return info

    async def _keeps_the_way_back(self, place: str, body: Json) -> None:
        """Raises Refused for Roles and RoleBindings without which the account, or the operator, could undo nothing."""
        if not body["apiVersion"].startswith(RBAC) or body["kind"] not in ("Role", "RoleBinding"):
            return
        name = body["metadata"]["name"]
        bindings = [body]
        if body["kind"] == "Role":
            listed, _ = await self._acting.list(BINDINGS, self._namespace)
            bindings = [
                each for each in listed if each["roleRef"]["kind"] == "Role" and each["roleRef"]["name"] == name
            ]
        its = self._settings
        ours = ((self._namespace, self._spec.service_account_name), (its.namespace, its.account))
        if any(
            speaks_for(subject, *account)
            for each in bindings
            for subject in each.get("subjects") or []
            for account in ours
        ):
            why = "gives the experiment's account or the operator rights that putting things right may need"
            raise Refused(place, "OwnRights", f"{body['kind']} {name} {why}; name others")


def one_fault_each(chosen: Sequence[Chosen]) -> None:
    """Raises Refused where two faults want the same object: what the one puts back the other would take for a heal."""
    taken: dict[str, Chosen] = {}
    for choice in chosen:
        for change in choice.changes:
            place = f"{change.key.api_version} {change.key}"
            other = taken.setdefault(place, choice)
            if other.fault.name != choice.fault.name:
                raise Refused(
                    "spec.faults",
                    "Overlap",
                    f"{other.fault.name} and {choice.fault.name} both change {change.key}; let each have an experiment "
                    "of its own",
                )


def _written(resource: Resource) -> str:
    """As kubectl writes it: deployments.apps, configmaps."""
    group, slash, _ = resource.api_version.partition("/")
    return f"{resource.plural}.{group}" if slash else resource.plural
