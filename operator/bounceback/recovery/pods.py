"""The pods that a probe looks into."""

from __future__ import annotations

from bounceback.api.looks_inside import PodChoice
from bounceback.kube.client import Json
from bounceback.kube.errors import KubeError
from bounceback.kube.resources import PODS
from bounceback.recovery.errors import CannotLookError, UnansweredError
from bounceback.recovery.means import Means


async def chosen_pods(means: Means, choice: PodChoice) -> list[Json]:
    """Ordered by name. Raises KubeError, or what else Kube raises."""
    fields = f"metadata.name={choice.name}" if choice.name else ""
    found, _ = await means.acting.list(PODS, means.namespace, labels=str(choice.selector or ""), fields=fields)
    return sorted(found, key=lambda pod: str(pod["metadata"]["name"]))


def first_container(pod: Json) -> str:
    return str(pod["spec"]["containers"][0]["name"])


def is_ready(pod: Json) -> bool:
    conditions = pod.get("status", {}).get("conditions") or []
    ready = any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
    return ready and "deletionTimestamp" not in pod["metadata"]


def cannot(what: str, error: KubeError) -> CannotLookError:
    """For what the API server refuses: a right that is lacking is told, its own trouble is only waited out."""
    if error.status in (401, 403):
        return CannotLookError(f"the service account may not {what}: {error.message}")
    return UnansweredError(f"cannot {what}: {error.message}")
