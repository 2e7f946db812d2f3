"""Pods as the engine knows them, read once or watched."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from decimal import Decimal
from typing import Final

from bounceback.engine.model import Controller, PodInfo
from bounceback.kube.client import Json, Kube
from bounceback.kube.resources import PODS
from bounceback.kube.watching import DELETED, LISTED, changes
from bounceback.types.inside import Container
from bounceback.types.selectors import LabelSelector
from bounceback.vehicles.arming import NOT_ARMED, PROXY
from bounceback.vehicles.clock_arming import NO_CLOCK, has_clock

AGENT_CONTAINER: Final = re.compile(r"bb-[0-9a-f]{10}")
SUFFIXES: Final = {
    "": 1,
    "k": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "P": 10**15,
    "E": 10**18,
    "m": Decimal("0.001"),
    **{f"{letter}i": 1024**power for power, letter in enumerate("KMGTPE", 1)},
}
QUANTITY: Final = re.compile(r"([0-9.]+(?:[eE][+-]?[0-9]+)?)([a-zA-Z]*)")


def pod_info(pod: Json) -> PodInfo:
    """What the engine wants to know of a Pod object."""
    metadata, spec, status = pod["metadata"], pod["spec"], pod.get("status") or {}
    given = [entry["ip"] for entry in status.get("podIPs") or []]
    annotations = metadata.get("annotations") or {}
    ips = given or [status["podIP"]] if given or status.get("podIP") else []
    return PodInfo(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        node=spec.get("nodeName") or "",
        labels=metadata.get("labels") or {},
        ips=tuple(ips),
        host_network=bool(spec.get("hostNetwork")),
        running=status.get("phase") == "Running" and "deletionTimestamp" not in metadata,
        finished_agents=sum(_is_finished_agent(entry) for entry in status.get("ephemeralContainerStatuses") or []),
        memory_limit=memory_limit(spec),
        armed=any(each["name"] == PROXY for each in spec.get("initContainers") or []),
        containers=tuple(
            _container(each, spec, annotations) for each in (*(spec.get("containers") or []), *_sidecars(spec))
        ),
        controller=_controller(metadata),
        restarts=sum(each.get("restartCount") or 0 for each in _statuses(status)),
        not_armed=annotations.get(NOT_ARMED, ""),
        own_users=spec.get("hostUsers") is False,
    )


def _controller(metadata: Json) -> Controller | None:
    for each in metadata.get("ownerReferences") or []:
        if each.get("controller"):
            return Controller(each["kind"], each["name"], each["uid"])
    return None


def _statuses(status: Json) -> list[Json]:
    return [*(status.get("containerStatuses") or []), *(status.get("initContainerStatuses") or [])]


def _sidecars(spec: Json) -> list[Json]:
    return [each for each in spec.get("initContainers") or [] if each.get("restartPolicy") == "Always"]


def _container(spec: Json, pod: Json, annotations: Json) -> Container:
    """`pod`: its specification. Limits of the pod as a whole (PodLevelResources) hold its containers to them, too."""
    cpu, memory = (_limit(spec, what) or _limit(pod, what) for what in ("cpu", "memory"))
    return Container(
        spec["name"],
        None if memory is None else in_bytes(memory),
        None if cpu is None else int(in_units(cpu) * 1000),
        clock=has_clock(spec),
        no_clock=annotations.get(NO_CLOCK, ""),
    )


def memory_limit(spec: Json) -> int | None:
    """Bytes that the pod as a whole may use, or None without a bound: some container has none, nor has the pod.

    As the kubelet reckons it: what runs side by side adds up, an ordinary init container runs alone.
    """
    if whole := _memory(spec):
        return whole
    containers = [_memory(each) for each in spec.get("containers") or []]
    init = spec.get("initContainers") or []
    beside = [_memory(each) for each in _sidecars(spec)]
    before = [_memory(each) for each in init if each.get("restartPolicy") != "Always"]
    if not all((*containers, *beside, *before)):
        return None
    together = sum(limit or 0 for limit in (*containers, *beside))
    return max([together, *(limit or 0 for limit in before)])


def in_bytes(quantity: str | int | float) -> int:
    """A Kubernetes quantity: 64Mi, 1.5G, 128000, 1e9. Raises ValueError for anything else."""
    return int(in_units(quantity))


def in_units(quantity: str | int | float) -> Decimal:
    """The same without rounding: 250m is 0.25. Raises ValueError."""
    found = QUANTITY.fullmatch(str(quantity))
    if found is None or found[2] not in SUFFIXES:
        raise ValueError(f"{quantity!r} is not a quantity")
    number: Decimal = Decimal(found[1]) * SUFFIXES[found[2]]
    return number


async def list_pods(acting: Kube, namespace: str, selector: LabelSelector) -> list[PodInfo]:
    """All that match, ordered by name. Raises KubeError."""
    pods, _ = await acting.list(PODS, namespace, labels=str(selector))
    return sorted(map(pod_info, pods), key=lambda pod: pod.name)


async def watch_pods(
    acting: Kube, namespace: str, selector: LabelSelector
) -> AsyncGenerator[tuple[str, PodInfo], None]:
    """Those that match, as ADDED first, then each change that shows in PodInfo; never ends by itself.

    Raises KubeError only where the first list is refused.
    """
    known: dict[str, PodInfo] = {}
    async with aclosing(changes(acting, PODS, namespace, labels=str(selector))) as told:
        async for kind, pod in told:
            if kind == LISTED:
                continue
            info = pod_info(pod)
            if kind == DELETED:
                known.pop(info.uid, None)
            elif known.get(info.uid) == info:
                continue
            else:
                known[info.uid] = info
            yield kind, info


def _memory(holder: Json) -> int | None:
    limit = _limit(holder, "memory")
    return in_bytes(limit) if limit is not None else None


def _limit(holder: Json, what: str) -> str | None:
    """A container's or a pod's own, by their specifications; a quantity."""
    limit = ((holder.get("resources") or {}).get("limits") or {}).get(what)
    return None if limit is None else str(limit)


def _is_finished_agent(status: Json) -> bool:
    return bool(AGENT_CONTAINER.fullmatch(status["name"])) and "terminated" in (status.get("state") or {})
