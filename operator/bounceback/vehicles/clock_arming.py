"""Pods whose containers have a wall clock that can be changed: they are started with our library preloaded. Pure.

A program loads what LD_PRELOAD names as it starts, so a pod is armed at its creation or never. An init container lays
the library out, in a volume in memory, in a folder for each of the others; until a fault asks for it nothing is
different but that time is told by way of it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Final

from bounceback.kube.client import Json
from bounceback.types.clock import CONTAINERS_VARIABLE, FOLDER, LIBRARY, PRELOAD_VARIABLE
from bounceback.types.inside import OURS
from bounceback.vehicles.arming import (
    PROXY,
    TOKEN_PLACE,
    Arming,
    ArmSettings,
    labels_of,
    on_windows,
    patch_of,
    where_the_image_lacks,
    without_pull_secret,
)
from bounceback.vehicles.containers import USER

CLOCK: Final = "bounceback-clock"
"""The init container, and the volume."""
ARM_CLOCK_LABEL: Final = "bounceback.dev/arm-clock"
NO_CLOCK: Final = "bounceback.dev/clock-not-armed"
"""Annotation of a pod that was to be armed and is not: why."""
NOTHING: Final = "_none"
"""A folder of the volume that no container can have: none has such a name."""
RESOURCES: Final[Json] = {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "64Mi"}}


def arm_clock(pod: Json, settings: ArmSettings) -> Arming:
    """What makes an armed pod of this one, which is about to be created and whose label asks for it."""
    if labels_of(pod).get(ARM_CLOCK_LABEL) != "enabled":
        return Arming([])
    if refused := next((words for ask in QUESTIONS if (words := ask(pod, settings))), ""):
        noted = copy.deepcopy(pod)
        noted["metadata"]["annotations"] = {**(pod["metadata"].get("annotations") or {}), NO_CLOCK: refused}
        return Arming(patch_of(pod, noted), refused)
    return Arming(patch_of(pod, _armed(pod, settings)))


def has_clock(container: Json) -> bool:
    """Of a container in a pod's specification."""
    return any(mount["name"] == CLOCK for mount in container.get("volumeMounts") or [])


def _on_the_nodes_network(pod: Json, _: ArmSettings) -> str:
    if pod["spec"].get("hostNetwork"):
        return "it is on the network of its node (hostNetwork), and no fault is carried to such a pod"
    return ""


def _with_our_name(pod: Json, _: ArmSettings) -> str:
    if any(container["name"] == CLOCK for container in pod["spec"].get("containers") or []):
        return f"a container of its own is named {CLOCK}"
    return ""


def _with_a_mount_there(pod: Json, _: ArmSettings) -> str:
    for container in _programs(pod):
        for mount in container.get("volumeMounts") or []:
            if mount["name"] != CLOCK and f"{mount['mountPath']}/".startswith(f"{FOLDER}/"):
                return f"its container {container['name']} mounts {mount['mountPath']}, which is the clock's place"
    return ""


def _with_a_preload_from_elsewhere(pod: Json, _: ArmSettings) -> str:
    for container in _programs(pod):
        for variable in container.get("env") or []:
            if variable["name"] == PRELOAD_VARIABLE and "valueFrom" in variable:
                return f"its container {container['name']} takes {PRELOAD_VARIABLE} from elsewhere (valueFrom)"
    return ""


QUESTIONS: Final[tuple[Callable[[Json, ArmSettings], str], ...]] = (
    _on_the_nodes_network,
    on_windows,
    _with_our_name,
    _with_a_mount_there,
    _with_a_preload_from_elsewhere,
    without_pull_secret,
    where_the_image_lacks,
)
"""What speaks against it; the first with an answer decides."""


def _armed(pod: Json, settings: ArmSettings) -> Json:
    armed = copy.deepcopy(pod)
    spec = armed["spec"]
    (armed["metadata"].get("annotations") or {}).pop(NO_CLOCK, None)
    programs = _programs(armed)
    for container in programs:
        _preload(container)
    before = [container for container in spec.get("initContainers") or [] if container["name"] != CLOCK]
    first = sum(container["name"] == PROXY for container in before[:1])
    names = [container["name"] for container in programs]
    spec["initContainers"] = [
        *before[:first],
        _layer(settings, names, limited=not spec.get("resources")),
        *before[first:],
    ]
    others = [volume for volume in spec.get("volumes") or [] if volume["name"] != CLOCK]
    spec["volumes"] = [*others, {"name": CLOCK, "emptyDir": {"medium": "Memory", "sizeLimit": "4Mi"}}]
    return armed


def _programs(pod: Json) -> list[Json]:
    """The pod's own containers that run for as long as it does."""
    spec = pod["spec"]
    sidecars = [each for each in spec.get("initContainers") or [] if each.get("restartPolicy") == "Always"]
    return [each for each in (*sidecars, *(spec.get("containers") or [])) if not OURS.fullmatch(each["name"])]


def _preload(container: Json) -> None:
    """Before what it preloads by itself. What its image says of the variable is not known here, and does not hold."""
    variables = [each for each in container.get("env") or [] if each["name"] != PRELOAD_VARIABLE]
    own = [each.get("value", "") for each in container.get("env") or [] if each["name"] == PRELOAD_VARIABLE]
    others = [path for path in own[-1].replace(":", " ").split() if path != LIBRARY] if own else []
    container["env"] = [{"name": PRELOAD_VARIABLE, "value": ":".join([LIBRARY, *others])}, *variables]
    mounts = [mount for mount in container.get("volumeMounts") or [] if mount["name"] != CLOCK]
    container["volumeMounts"] = [*mounts, {"name": CLOCK, "mountPath": FOLDER, "subPath": container["name"]}]


def _layer(settings: ArmSettings, names: list[str], *, limited: bool) -> Json:
    """It ends before the others begin. Nothing is where a token would be put: it needs none.

    Unless `limited`, the pod as a whole has bounds.
    """
    return {
        "name": CLOCK,
        "image": settings.image,
        "imagePullPolicy": settings.pull_policy,
        "command": ["python3", "-m", "bounceback.agent", "clock"],
        "env": [{"name": CONTAINERS_VARIABLE, "value": ",".join(names)}],
        **({"resources": RESOURCES} if limited else {}),
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": [
            {"name": CLOCK, "mountPath": FOLDER},
            {"name": CLOCK, "mountPath": TOKEN_PLACE, "subPath": NOTHING, "readOnly": True},
        ],
    }
