"""Policies, asked before a run touches anything beyond its namespace, and watched for as long as it does."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import aclosing
from typing import Final

import aiohttp

from bounceback.api.experiment import FaultExperimentSpec
from bounceback.api.policy import FaultPolicySpec
from bounceback.api.problems import parse
from bounceback.api.status import InjectionStatus
from bounceback.controller.carry import Injections
from bounceback.controller.way import Way
from bounceback.engine.evidence import DONE
from bounceback.engine.policy import Labelled, NodeUse, ObjectUse, Policy, Use, changes_of_cluster, withheld
from bounceback.faults import ObjectFault
from bounceback.faults.node_fault import NodeFault, NodeFaultKind
from bounceback.kube import Kube, KubeError
from bounceback.kube.client import Json
from bounceback.kube.resources import NAMESPACES, NODES, OF_CLUSTER, POLICIES
from bounceback.kube.watching import mirror
from bounceback.types.objects import ClusterKind
from bounceback.vehicles.errors import Refused

PASSING: Final = (KubeError, aiohttp.ClientError, TimeoutError)
AGAIN: Final = 2.0
"""Seconds until policies that could not be read are read again."""
log = logging.getLogger(__name__)


async def policies(kube: Kube) -> list[Policy]:
    """All of the cluster; none where it does not know them. Raises what Kube raises."""
    try:
        found, _ = await kube.list(POLICIES)
    except KubeError as error:
        if error.gone:
            return []
        raise
    return list(_in_order(found))


async def labelled_namespace(kube: Kube, name: str) -> Labelled:
    body = await kube.get(NAMESPACES, None, name)
    return Labelled(name, body["metadata"].get("labels") or {})


async def labelled_node(kube: Kube, name: str) -> Labelled:
    body = await kube.get(NODES, None, name)
    return Labelled(name, body["metadata"].get("labels") or {})


async def refuse_withheld(kube: Kube, namespace: str, spec: FaultExperimentSpec, uses: Sequence[Use]) -> None:
    """Raises Refused at the first of them that no policy allows, and what Kube raises."""
    there = await policies(kube)
    if (found := withheld(there, await labelled_namespace(kube, namespace), uses)) is not None:
        index, entry = next((n, each) for n, each in enumerate(spec.faults) if each.name == found.use.entry)
        field = f".{entry.fault.field}" if isinstance(entry.fault, ObjectFault) else ""
        raise Refused(f"spec.faults[{index}].{entry.fault.kind}{field}", "NotAllowed", found.words)


class Policing(Way):
    """Whether what a run does beyond its namespace is still allowed. Nothing of it is in force by this way."""

    def __init__(
        self,
        kube: Kube,
        namespace: str,
        spec: FaultExperimentSpec,
        injections: Injections,
        changed: Callable[[], None],
    ) -> None:
        self._kube = kube
        self._namespace = namespace
        self._acting = kube.acting_as(namespace, spec.service_account_name)
        self._kinds = {e.name: e.fault.node_kind for e in spec.faults if isinstance(e.fault, NodeFault)}
        beyond = changes_of_cluster(spec)
        self._changed_of_cluster = {
            e.name: e.fault.field for e in spec.faults if isinstance(e.fault, ObjectFault) and e.name in beyond
        }
        self._injections = injections
        self._changed = changed
        self.withdrawn: str | None = None  # what is no longer allowed, in words

    async def carry(self) -> None:
        watching = asyncio.create_task(self._watch())
        try:
            await self._injections.until(lambda each: not self._open(each))
        finally:
            watching.cancel()

    def _open(self, injections: Iterable[InjectionStatus]) -> list[InjectionStatus]:
        return [i for i in injections if self._is_asked_for(i) and i.state not in DONE]

    def _is_asked_for(self, injection: InjectionStatus) -> bool:
        return injection.fault in self._changed_of_cluster or self._kind(injection) is not None

    def _kind(self, injection: InjectionStatus) -> NodeFaultKind | None:
        """What policies call it; None: it is done to no node."""
        if injection.host_network:
            return NodeFaultKind.HOST_NETWORK
        return self._kinds.get(injection.fault) if injection.object is not None else None

    async def _watch(self) -> None:
        while True:
            try:
                async with aclosing(mirror(self._kube, POLICIES, None)) as told:
                    async for found in told:
                        await self._judge(list(_in_order(found)))
            except PASSING as error:
                log.warning("policies cannot be watched: %s", error)
            await asyncio.sleep(AGAIN)

    async def _judge(self, there: Sequence[Policy]) -> None:
        """Labels are read anew with each change of a policy. Raises what Kube raises."""
        uses = [use for each in self._open(self._injections.all()) if (use := await self._use(each)) is not None]
        found = withheld(there, await labelled_namespace(self._kube, self._namespace), uses)
        if found is not None:
            self.withdrawn = found.words
            self._changed()

    async def _use(self, injection: InjectionStatus) -> Use | None:
        """None: what it is done to is not there any more, and there is nothing to be protected."""
        if (field := self._changed_of_cluster.get(injection.fault)) is not None:
            on = await self._object(injection)
            return ObjectUse(injection.fault, field, injection.object.kind, on) if injection.object and on else None
        kind, node = self._kind(injection), await self._node(injection.node)
        return NodeUse(injection.fault, kind, node) if kind is not None and node is not None else None

    async def _object(self, injection: InjectionStatus) -> Labelled | None:
        """As the account sees it: the operator itself has no right to look."""
        on = injection.object
        if on is None:
            return None
        try:
            body = await self._acting.get(OF_CLUSTER[ClusterKind(on.kind)], None, on.name)
        except KubeError as error:
            if error.gone:
                return None
            if error.status == 403:
                return Labelled(on.name, {})  # who withdrew the right may have left the policy
            raise
        return Labelled(on.name, body["metadata"].get("labels") or {})

    async def _node(self, name: str) -> Labelled | None:
        try:
            return await labelled_node(self._kube, name)
        except KubeError as error:
            if error.gone:
                return None
            raise


def _in_order(found: Iterable[Json]) -> Iterable[Policy]:
    """Those that can be understood: one that cannot allows nothing."""
    for body in found:
        name = body["metadata"]["name"]
        spec, problems = parse(FaultPolicySpec, body.get("spec") or {})
        if spec is None:
            log.warning("FaultPolicy %s allows nothing: %s", name, problems[0])
        else:
            yield Policy(name, spec)
