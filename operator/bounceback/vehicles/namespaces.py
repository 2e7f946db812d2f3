"""A whole namespace at the API server: what is in it, whether its deletion could be undone, and the way back in."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from typing import Any, Final

from bounceback.engine.namespace_contents import Way, contents, differences, served_from
from bounceback.engine.originals import copy_of
from bounceback.kube.client import Json, Kube
from bounceback.kube.errors import KubeError
from bounceback.kube.resources import NAMESPACES, Resource
from bounceback.types.objects import RBAC, Change
from bounceback.vehicles.errors import Refused, refusal

BINDINGS: Final = Resource(f"{RBAC}v1", "rolebindings")
ASKED_BY_THE_CLUSTER: Final = (
    Resource("admissionregistration.k8s.io/v1", "validatingwebhookconfigurations", namespaced=False),
    Resource("admissionregistration.k8s.io/v1", "mutatingwebhookconfigurations", namespaced=False),
    Resource("apiregistration.k8s.io/v1", "apiservices", namespaced=False),
    Resource("apiextensions.k8s.io/v1", "customresourcedefinitions", namespaced=False),
)
"""What may send requests of the whole cluster into a namespace: while nobody answers there its own deletion may hang,
and its way back may be refused."""
NEEDED: Final = frozenset({"list", "create", "delete"})
AT_ONCE: Final = 8


class Namespaces:
    """As the account of an experiment sees them. Methods raise KubeError, ClientError or TimeoutError for what may
    pass."""

    def __init__(self, acting: Kube, namespace: str, account: str) -> None:
        """`namespace` is the experiment's."""
        self._acting = acting
        self._namespace = namespace
        self._account = account
        self._who = f"service account {account} of namespace {namespace}"

    async def contents(self, name: str) -> tuple[Change, ...]:
        """What goes with the namespace and is ours to make again, the last to be made first. Raises Refused."""
        kinds = await self._kinds(name)
        turns = asyncio.Semaphore(AT_ONCE)

        async def listed(resource: Resource, kind: str) -> list[Json]:
            async with turns:
                try:
                    bodies, _ = await self._acting.list(resource, name)
                except KubeError as error:
                    if error.gone or error.unserved or error.status == 405:
                        return []  # a kind that went meanwhile
                    raise refusal(error, self._who, f"a list of {resource.plural} in {name}") or error from error
            return [{**body, "apiVersion": resource.api_version, "kind": kind} for body in bodies]

        found = await asyncio.gather(*(listed(resource, kind) for resource, kind in kinds))
        bodies = [body for each in found for body in each]
        try:
            return contents(name, bodies, Way(self._way(name, bodies)))
        except ValueError as error:
            raise Refused("", "NotBroughtBack", str(error)) from error

    async def unchanged(self, name: str, planned: Iterable[Change]) -> None:
        """Raises Refused where others have written in the namespace since it was looked at: that would be lost."""
        if told := differences(tuple(planned), await self.contents(name)):
            more = f" and {len(told) - 3} more" if len(told) > 3 else ""
            raise Refused(
                "", "ChangedMeanwhile", f"in namespace {name} since it was looked at: {', '.join(told[:3])}{more}"
            )

    async def check_undo(self, body: Json) -> None:
        """Raises Refused where the namespace could not be made again, or the right to do so is not confined to it."""
        name, binding = body["metadata"]["name"], await self._binding(body["metadata"]["name"])
        role, elsewhere = binding["roleRef"]["name"], {**binding["metadata"], "namespace": self._namespace}
        for resource, place, trial in ((NAMESPACES, None, _anew(body)), (BINDINGS, name, binding)):
            if (why := await self._refused(resource, place, trial)) is not None:
                what = f"{trial['kind']} {trial['metadata']['name']}"
                raise Refused("", "NotBroughtBack", f"{self._who} could not make {what} again: {why}")
        for resource, place, trial, what in (
            (NAMESPACES, None, copy_of(body), "other namespaces"),
            (BINDINGS, self._namespace, {**binding, "metadata": elsewhere}, f"RoleBindings to {role} elsewhere"),
        ):
            if await self._refused(resource, place, trial) is None:
                raise Refused(
                    "spec.serviceAccountName",
                    "NotConfined",
                    f"{self._who} may make {what}, which no experiment needs; confine it by the "
                    "ValidatingAdmissionPolicy that `bounceback access --cluster-objects namespaces/...` prints",
                )

    async def serves_the_cluster(self, name: str) -> str:
        """What the cluster itself asks in that namespace, in words; "": nothing. Raises Refused without the right."""
        for resource in ASKED_BY_THE_CLUSTER:
            try:
                bodies, _ = await self._acting.list(resource)
            except KubeError as error:
                raise refusal(error, self._who, f"a list of {resource.plural}") or error from error
            for body in bodies:
                if name in served_from(body):
                    return f"{resource.plural.removesuffix('s')} {body['metadata']['name']} is answered from there"
        return ""

    async def _kinds(self, name: str) -> list[tuple[Resource, str]]:
        """All that can be in a namespace, and be made there. Raises Refused where some of it cannot be seen."""
        groups = json.loads(await self._acting.raw("GET", "/apis"))["groups"]
        places = ["/api/v1", *(f"/apis/{group['preferredVersion']['groupVersion']}" for group in groups)]
        found: list[tuple[Resource, str]] = []
        for place in places:
            try:
                served: Any = json.loads(await self._acting.raw("GET", place))
            except KubeError as error:
                why = f"{place} does not answer ({error.status}), and while it does not no namespace goes for good"
                raise Refused("", "NotBroughtBack", f"namespace {name} must not be deleted: {why}") from error
            for each in served["resources"]:
                if each["namespaced"] and "/" not in each["name"] and set(each["verbs"]) >= NEEDED:
                    found.append((Resource(served["groupVersion"], each["name"]), each["kind"]))
        return found

    def _way(self, name: str, bodies: Iterable[Json]) -> str:
        """The RoleBinding by which the account may act there. Raises Refused where there is none."""
        for body in bodies:
            if body["kind"] == "RoleBinding" and self._is_way(body):
                return str(body["metadata"]["name"])
        raise Refused(
            "", "NotBroughtBack", f"namespace {name} has no RoleBinding that binds {self._who} to a ClusterRole"
        )

    def _is_way(self, binding: Json) -> bool:
        mine = {"kind": "ServiceAccount", "name": self._account, "namespace": self._namespace}
        subjects = [{key: each.get(key) for key in mine} for each in binding.get("subjects") or []]
        return binding["roleRef"]["kind"] == "ClusterRole" and mine in subjects

    async def _binding(self, name: str) -> Json:
        bodies, _ = await self._acting.list(BINDINGS, name)
        whole = [{**body, "apiVersion": BINDINGS.api_version, "kind": "RoleBinding"} for body in bodies]
        way = self._way(name, whole)
        return _anew(next(body for body in whole if body["metadata"]["name"] == way))

    async def _refused(self, resource: Resource, namespace: str | None, body: Json) -> str | None:
        """Why it could not be made; None: it could. That there is one of that name is all that is against it then."""
        try:
            await self._acting.create(resource, namespace, body, dry_run=True)
        except KubeError as error:
            if error.passing:
                raise
            return None if error.exists else error.message
        return None


def _anew(body: Json) -> Json:
    """As it is to be made again, under its own name."""
    copy = copy_of(body)
    return {**copy, "metadata": {**copy["metadata"], "name": body["metadata"]["name"]}}
