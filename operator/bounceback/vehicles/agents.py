"""Agents, wherever they run: as a sidecar of the target, in the account's name, or as a pod of ours on its node."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

import aiohttp

from bounceback.engine.model import AgentEnd, AgentRef, PodInfo
from bounceback.kube.client import STRATEGIC_PATCH, Json, Kube
from bounceback.kube.errors import KubeError
from bounceback.kube.resources import PODS
from bounceback.types.instants import Span
from bounceback.types.outcome import VehicleKind
from bounceback.types.plan import Flow, Plan
from bounceback.types.told import Line
from bounceback.vehicles import control
from bounceback.vehicles.containers import Noted
from bounceback.vehicles.errors import TARGET_GONE, Refused, refusal
from bounceback.vehicles.evidence import Listener
from bounceback.vehicles.node_pod import AGENT, VERIFY_SECONDS, agent_pod, verify_pod
from bounceback.vehicles.sidecar import patch_for, trial_patch


class Agents:
    """`own` acts for the operator itself: NodePods in `namespace`. All else is done by the `acting` that is passed.

    Where nothing else is said, methods raise KubeError, aiohttp.ClientError or TimeoutError when the API server does
    not do as asked for reasons that may pass; all of them can simply be called again.
    """

    def __init__(self, own: Kube, namespace: str, image: str, pull_policy: str) -> None:
        self._own = own
        self._namespace = namespace
        self._image = image
        self._pull_policy = pull_policy

    async def sidecar_refused(
        self, acting: Kube, pod: PodInfo, guarded: bool, *, kernel: bool = True
    ) -> Refused | None:
        """What the API server, asked by a dry run, has against the agent in that pod; None: it would be taken.

        `kernel`: the agent is to do something to the pod's network.
        """
        body = trial_patch(pod.uid, guarded, self._image, self._pull_policy, kernel=kernel)
        try:
            await self._add(acting, pod.namespace, pod.name, body, dry_run=True)
        except KubeError as error:
            if refused := _sidecar_refusal(error, pod.namespace, pod.name):
                return refused
            raise
        return None

    def ref(self, plan: Plan, vehicle: VehicleKind, place: PodInfo | str) -> AgentRef:
        """Where that plan's agent runs: in the pod `place`, or on the node `place`."""
        if isinstance(place, PodInfo) and vehicle is VehicleKind.SIDECAR:
            return AgentRef(vehicle, place.namespace, place.name, plan.agent, place.node, plan.guarded)
        node = place.node if isinstance(place, PodInfo) else place
        return AgentRef(vehicle, self._namespace, plan.agent, AGENT, node, plan.guarded)

    async def start(self, acting: Kube, ref: AgentRef, plan: Plan) -> None:
        """Have the agent started; one that is there already is left as it is. Raises Refused."""
        if ref.vehicle is VehicleKind.NODE_POD:
            body = agent_pod(plan, ref.node, self._namespace, self._image, self._pull_policy, time.time())
            await self._create(body)
            return
        body = patch_for(plan, self._image, self._pull_policy)
        try:
            await self._add(acting, ref.namespace, ref.pod, body)
        except KubeError as error:
            # "existing ephemeral containers may not be changed": one of this name was given another plan before.
            if error.status in (409, 422) and await _carries(acting, ref, plan.orders[0].pod_uid):
                return
            if refused := _sidecar_refusal(error, ref.namespace, ref.pod):
                raise refused from error
            raise

    async def evidence(
        self, acting: Kube, ref: AgentRef, *, guard: bool = False
    ) -> AsyncGenerator[Line | AgentEnd, None]:
        """All that the agent (or its guard) tells, each line once, from the start of its log; an AgentEnd is the last.

        Cut connections are taken up again. NEVER_STARTED is told only when nothing can come of it any more: the
        kubelet goes on trying to pull an image, but an agent that starts after startBefore refuses.
        """
        container = ref.guard if guard else ref.container
        ours = ref.vehicle is VehicleKind.NODE_POD
        listener = Listener(self._for(acting, ref), ref.namespace, ref.pod, container, ours=ours)
        async with aclosing(listener.listen()) as told:
            async for each in told:
                yield each

    async def stop(self, acting: Kube, ref: AgentRef) -> None:
        """As control.stop."""
        await control.stop(self._for(acting, ref), ref)

    async def amend(self, acting: Kube, ref: AgentRef, flows: Mapping[str, tuple[Flow, ...]]) -> None:
        """As control.amend."""
        await control.amend(self._for(acting, ref), ref, flows)

    async def begin(self, acting: Kube, ref: AgentRef, starts: Mapping[str, control.Start | None]) -> None:
        """As control.begin."""
        await control.begin(self._for(acting, ref), ref, starts)

    async def ping(self, acting: Kube, ref: AgentRef) -> Span:
        """As control.ping."""
        return await control.ping(self._for(acting, ref), ref)

    async def verify(self, plan: Plan, node: str, notes: Noted) -> list[Line]:
        """Look on that node for what the plan's agent may have left; [] when nobody could look.

        What is left of the injections that `notes` name, which were in force, is undone.
        """
        ref = AgentRef(VehicleKind.NODE_POD, self._namespace, f"{plan.agent}-verify", AGENT, node, False)
        by = time.time() + VERIFY_SECONDS
        try:
            await self._create(verify_pod(plan, node, self._namespace, self._image, self._pull_policy, notes))
            listener = Listener(self._own, ref.namespace, ref.pod, AGENT, ours=True, by=by)
            seen = [each async for each in listener.listen() if isinstance(each, Line)]
            await self.remove(ref)
        except (Refused, KubeError, aiohttp.ClientError, TimeoutError):
            return []  # the pod, if there is one, ends by its own deadline
        return seen

    async def remove(self, ref: AgentRef) -> None:
        """A NodePod is deleted, its agent reverting on its way out; a sidecar stays, as it must."""
        if ref.vehicle is not VehicleKind.NODE_POD:
            return
        try:
            await self._own.delete(PODS, ref.namespace, ref.pod)
        except KubeError as error:
            if not error.gone:
                raise

    def _for(self, acting: Kube, ref: AgentRef) -> Kube:
        return self._own if ref.vehicle is VehicleKind.NODE_POD else acting

    async def _create(self, body: Json) -> None:
        try:
            await self._own.create(PODS, self._namespace, body)
        except KubeError as error:
            if error.exists:
                return
            if refused := refusal(error, "the operator", f"a NodePod in namespace {self._namespace}"):
                raise refused.at("vehicle") from error
            raise

    async def _add(self, acting: Kube, namespace: str, pod: str, body: Json, *, dry_run: bool = False) -> None:
        await acting.patch(
            PODS,
            namespace,
            pod,
            body,
            subresource="ephemeralcontainers",
            content_type=STRATEGIC_PATCH,
            dry_run=dry_run,
        )


async def _carries(acting: Kube, ref: AgentRef, uid: str) -> bool:
    """Whether that very pod has the agent's container already."""
    pod = await acting.get(PODS, ref.namespace, ref.pod)
    declared = pod["spec"].get("ephemeralContainers") or []
    return pod["metadata"]["uid"] == uid and any(each["name"] == ref.container for each in declared)


def _sidecar_refusal(error: KubeError, namespace: str, pod: str) -> Refused | None:
    if error.conflict or "metadata.uid" in error.message:
        return Refused("", TARGET_GONE, f"pod {pod} was replaced by another of the same name")
    return refusal(error, f"the account of namespace {namespace}", f"an agent in pod {pod}")
