"""The pod that puts changed objects right when the operator cannot: it waits for their time, and then does it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from bounceback.engine.naming import digest
from bounceback.kube.client import MERGE_PATCH, Json, Kube
from bounceback.kube.errors import KubeError
from bounceback.kube.resources import CONFIG_MAPS, PODS
from bounceback.vehicles.containers import NO_RIGHTS, ROLE_LABEL, RUN_LABEL, TELLS_ITS_END, state_of
from bounceback.vehicles.errors import refusal

CONTAINER: Final = "rollback"
GRACE: Final = 5.0
"""Seconds after an injection's end that the operator is left to put things right itself."""
PATIENCE: Final = 3600
"""Seconds for which the pod goes on trying once its time has come."""
READY_FILE: Final = "/tmp/ready"  # in a volume of the pod's own
RESOURCES: Final[Json] = {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "192Mi"}}


class RollbackPod:
    """That of one run, in the operator's namespace. Methods raise KubeError, ClientError or TimeoutError."""

    def __init__(
        self,
        own: Kube,
        namespace: str,
        image: str,
        pull_policy: str,
        account: str,
        run: str,
        tolerations: Sequence[Json] = (),
    ) -> None:
        """`account` is the operator's own service account: it may act as those of experiments, and read the journal.

        `tolerations` are the operator's own: where it may run this may, but not on nodes that are to be emptied.
        """
        self._own = own
        self._namespace = namespace
        self._image = image
        self._pull_policy = pull_policy
        self._account = account
        self._tolerations = tolerations
        self._run = run
        self.name = f"bb-rollback-{digest(run)}"

    async def ensure(self, until: float, now: float) -> str:
        """Have it there; "" once it is ready, else why it is not yet. `until`: UTC seconds of the last undo. Raises
        Refused."""
        try:
            pod = await self._own.get(PODS, self._namespace, self.name)
        except KubeError as error:
            if not error.gone:
                raise
            return await self._create(until, now)
        status = pod.get("status") or {}
        if pod["metadata"].get("deletionTimestamp"):
            return "it is being deleted"
        if status.get("phase") in ("Failed", "Succeeded"):
            await self._own.delete(PODS, self._namespace, self.name, uid=pod["metadata"]["uid"])
            return f"it ended: {status.get('message') or status.get('reason') or status['phase']}"
        ready = any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions") or [])
        state = state_of(pod, CONTAINER)
        return "" if ready else getattr(state, "words", "it has not got hold of its journal yet")

    async def remove(self) -> None:
        for resource, name in ((PODS, self.name), (CONFIG_MAPS, notes_name(self._run))):
            try:
                await self._own.delete(resource, self._namespace, name)
            except KubeError as error:
                if not error.gone:
                    raise

    async def notes(self) -> dict[str, float]:
        """By injection: UTC seconds when it began to put that right."""
        try:
            found = await self._own.get(CONFIG_MAPS, self._namespace, notes_name(self._run))
        except KubeError as error:
            if error.gone:
                return {}
            raise
        return {name: float(at) for name, at in (found.get("data") or {}).items()}

    async def _create(self, until: float, now: float) -> str:
        seconds = max(1, math.ceil(until + GRACE - now)) + PATIENCE
        body = rollback_pod(
            self.name,
            self._namespace,
            self._image,
            self._pull_policy,
            self._account,
            self._run,
            seconds,
            self._tolerations,
        )
        try:
            await self._own.create(PODS, self._namespace, body)
        except KubeError as error:
            if error.exists:
                return "it is there already"
            if refused := refusal(error, "the operator", f"a rollback pod in namespace {self._namespace}"):
                raise refused from error
            raise
        return "it was made just now"


async def take_note(own: Kube, namespace: str, run: str, injection: str, at: float) -> None:
    """Write down that this injection is about to be undone by the rollback pod."""
    name = notes_name(run)
    labels = {"app.kubernetes.io/managed-by": "bounceback", RUN_LABEL: run, ROLE_LABEL: CONTAINER}
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": labels}}
    try:
        await own.create(CONFIG_MAPS, namespace, body)
    except KubeError as error:
        if not error.exists:
            raise
    await own.patch(CONFIG_MAPS, namespace, name, {"data": {injection: f"{at:.3f}"}}, content_type=MERGE_PATCH)


def notes_name(run: str) -> str:
    return f"bounceback-rollback-{run}"


def rollback_pod(
    name: str,
    namespace: str,
    image: str,
    pull_policy: str,
    account: str,
    run: str,
    seconds: int,
    tolerations: Sequence[Json] = (),
) -> Json:
    """It runs again when its process dies, and as far from the operator as there is room."""
    beside = {"labelSelector": {"matchLabels": {"app.kubernetes.io/component": "operator"}}}
    apart = [{"weight": 1, "podAffinityTerm": {**beside, "topologyKey": "kubernetes.io/hostname"}}]
    container = {
        "name": CONTAINER,
        "image": image,
        "imagePullPolicy": pull_policy,
        "command": ["python3", "-m", "bounceback.rollback", run],
        "env": [{"name": "BOUNCEBACK_NAMESPACE", "value": namespace}],
        **TELLS_ITS_END,
        "readinessProbe": {
            "exec": {"command": ["sh", "-c", f"[ -e {READY_FILE} ]"]},
            "periodSeconds": 1,
            "timeoutSeconds": 5,
            "failureThreshold": 10,
        },
        "resources": RESOURCES,
        "securityContext": {**NO_RIGHTS, "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True},
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {"app.kubernetes.io/managed-by": "bounceback", ROLE_LABEL: CONTAINER, RUN_LABEL: run},
        },
        "spec": {
            "restartPolicy": "OnFailure",
            "serviceAccountName": account,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": 30,
            "activeDeadlineSeconds": seconds,
            "tolerations": list(tolerations),
            "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": apart}},
            "containers": [container],
            "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "16Mi"}}],
        },
    }
