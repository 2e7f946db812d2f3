"""What objectFault needs to know of objects that have no namespace: who allows it, the rights, the way back."""

from __future__ import annotations

from bounceback.api.experiment import FaultExperimentSpec, FaultTiming
from bounceback.api.targets import ObjectTargets
from bounceback.controller.policing import labelled_namespace, refuse_withheld
from bounceback.controller.settings import Settings
from bounceback.engine.policy import Labelled, ObjectUse
from bounceback.engine.targets import PROTECTED
from bounceback.engine.webhook_guard import kept_from
from bounceback.faults import ObjectFault
from bounceback.kube import Kube, KubeError
from bounceback.kube.client import Json
from bounceback.kube.resources import Resource
from bounceback.types.objects import Change, ClusterKind, of_cluster
from bounceback.vehicles.cluster_access import check_cluster_access
from bounceback.vehicles.errors import Refused
from bounceback.vehicles.namespaces import Namespaces


class PreparingBeyond:
    """Targets of an experiment that are objects of the whole cluster. They are looked at as its account."""

    def __init__(self, kube: Kube, settings: Settings, namespace: str, spec: FaultExperimentSpec) -> None:
        self._kube = kube
        self._settings = settings
        self._namespace = namespace
        self._spec = spec
        self._acting = kube.acting_as(namespace, spec.service_account_name)
        self._namespaces = Namespaces(self._acting, namespace, spec.service_account_name)

    async def refuse(self, place: str, entry: FaultTiming, targets: ObjectTargets, resource: Resource) -> None:
        """Raises Refused where no policy allows it, and what Kube raises."""
        assert isinstance(entry.fault, ObjectFault)
        if not of_cluster(targets.api_version, targets.kind):
            raise Refused(
                f"{place}.kind",
                "ClusterScoped",
                f"{targets.kind} is of the whole cluster; an experiment touches its own namespace only",
            )
        uses = [
            ObjectUse(entry.name, entry.fault.field, targets.kind, await self._labelled(resource, name))
            for name in targets.names or ()
        ]
        await refuse_withheld(self._kube, self._namespace, self._spec, uses)

    async def contents(self, name: str) -> tuple[Change, ...]:
        """What goes with that namespace, the last to be made again first. Raises Refused, and what Kube raises."""
        return await self._namespaces.contents(name)

    async def check_access(self, targets: ObjectTargets, resource: Resource) -> None:
        """Raises Refused where the account may not change all of them, and what Kube raises."""
        account = self._spec.service_account_name
        await check_cluster_access(self._acting, self._namespace, account, resource, targets.names or ())

    async def keeps_the_way_back(self, place: str, fault: ObjectFault, body: Json) -> None:
        """Raises Refused for those that Bounceback, or the cluster itself, may depend on, and what Kube raises."""
        its = self._settings
        if body["kind"] == ClusterKind.NAMESPACE:
            await self._may_go(place, body)
            return
        home = await labelled_namespace(self._kube, its.namespace)
        own = await labelled_namespace(self._kube, self._namespace)
        if why := kept_from(body, fault, home, own, [name for name in (its.arming, its.admission) if name]):
            raise Refused(place, "OwnRights", why)

    async def _may_go(self, place: str, namespace: Json) -> None:
        name = namespace["metadata"]["name"]
        if name in (*PROTECTED, "default", self._settings.namespace):
            raise Refused(place, "ProtectedNamespace", f"namespace {name} must not be deleted: the cluster needs it")
        if name == self._namespace:
            raise Refused(
                place, "OwnNamespace", f"namespace {name} must not be deleted: the experiment itself is in it"
            )
        if why := await self._namespaces.serves_the_cluster(name):
            raise Refused(place, "ProtectedNamespace", f"namespace {name} must not be deleted: {why}")
        await self._namespaces.check_undo(namespace)

    async def _labelled(self, resource: Resource, name: str) -> Labelled:
        """Without labels where the account may not look: then a policy must name it."""
        try:
            body = await self._acting.get(resource, None, name)
        except KubeError as error:
            if error.gone or error.status == 403:
                return Labelled(name, {})
            raise
        return Labelled(name, body["metadata"].get("labels") or {})
