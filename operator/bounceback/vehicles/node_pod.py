"""Our own pods on a node: the agent beside its targets, probes of kernel and image, looks for leftovers. Pure."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from bounceback.kube.client import Json
from bounceback.types.inside import InsideAct
from bounceback.types.plan import ApiRules, Plan, Redirect
from bounceback.types.realms import Realm
from bounceback.vehicles.containers import (
    AGENT_ACCOUNT,
    GUARD,
    NO_RIGHTS,
    PROBE,
    ROLE_LABEL,
    RUN,
    RUN_LABEL,
    TELLS_ITS_END,
    VERIFY,
    Noted,
    command,
    notes_variable,
    plan_variable,
    rights,
)

AGENT: Final = "agent"
"""The container's name; its guard is `agent-guard`."""
SLACK: Final = 30
"""Seconds after the last notAfter until the kubelet ends the pod: it stands behind the agent's own deadline."""
PROBE_SECONDS: Final = 60
PULL_SECONDS: Final = 180
"""For our image, where it is not on the node yet."""
VERIFY_SECONDS: Final = 60
PROBE_RIGHTS: Final = {Realm.NETWORK: "NET_ADMIN", Realm.FILES: "SYS_ADMIN"}
RESOURCES: Final[Json] = {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "64Mi"}}
RELAY_MIB: Final = 64
"""Of memory for each relay: 27 to 40 MiB at rest (measured), the rest for what its connections hold."""


def agent_pod(plan: Plan, node: str, namespace: str, image: str, pull_policy: str, now: float) -> Json:
    """The NodePod of that plan; `now` is UTC seconds."""
    seconds = max(1, math.ceil(max(order.not_after for order in plan.orders) - now)) + SLACK
    environment = plan_variable(plan)
    more = capabilities(plan)
    containers = [_beside(AGENT, RUN, image, pull_policy, environment, extra=_memory(plan), more=more)]
    if plan.guarded:
        containers.append(_beside(f"{AGENT}-guard", GUARD, image, pull_policy, environment, more=more))
    labels = {ROLE_LABEL: "agent", RUN_LABEL: plan.run}
    return _pod(plan.agent, namespace, node, labels, containers, seconds, host_pid=True)


def relays(plan: Plan) -> int:
    """How many of its orders need a process of their own."""
    return sum(isinstance(order.act, Redirect) for order in plan.orders)


def _memory(plan: Plan) -> int:
    """MiB that its orders take beside what every agent has."""
    acts = (order.act for order in plan.orders)
    return RELAY_MIB * relays(plan) + sum(act.mebibytes for act in acts if isinstance(act, InsideAct))


def capabilities(plan: Plan) -> list[str]:
    """What its orders take beside what every NodePod has."""
    acts = (order.act for order in plan.orders)
    return sorted({each for act in acts if isinstance(act, ApiRules | InsideAct) for each in act.capabilities})


def verify_pod(plan: Plan, node: str, namespace: str, image: str, pull_policy: str, notes: Noted) -> Json:
    """Looks for what an agent that vanished, a sidecar too, may have left, and undoes it where it was in force."""
    environment = [*plan_variable(replace(plan, on_node=True)), notes_variable(notes)]
    containers = [_beside(AGENT, VERIFY, image, pull_policy, environment, more=capabilities(plan))]
    labels = {ROLE_LABEL: "verify", RUN_LABEL: plan.run}
    return _pod(f"{plan.agent}-verify", namespace, node, labels, containers, VERIFY_SECONDS, host_pid=True)


def probe_pod(node: str, boot: str, realm: Realm, namespace: str, image: str, pull_policy: str) -> Json:
    """Asks the node's kernel, in a network namespace of its own; one name for one boot, one image and one realm.

    It has the right that this realm takes and no other, so that nobody gets SYS_ADMIN for a fault on packets.
    """
    name = f"bb-probe-{hashlib.sha256(f'{node} {boot} {realm} {image}'.encode()).hexdigest()[:10]}"
    container = {
        "name": AGENT,
        "image": image,
        "imagePullPolicy": pull_policy,
        "command": [*command(PROBE), str(realm)],
        "resources": RESOURCES,
        "securityContext": {**rights(PROBE_RIGHTS[realm]), "allowPrivilegeEscalation": False},
    }
    return _pod(name, namespace, node, {ROLE_LABEL: "probe"}, [container], PROBE_SECONDS, host_pid=False)


def image_pod(node: str, uid: str, namespace: str, image: str, pull_policy: str) -> Json:
    """Runs where our image can be had, and ends at once; with the user of the API proxy, and no right."""
    name = f"bb-image-{hashlib.sha256(f'{uid} {image}'.encode()).hexdigest()[:10]}"
    container = {
        "name": AGENT,
        "image": image,
        "imagePullPolicy": pull_policy,
        "command": ["python3", "-c", ""],
        **TELLS_ITS_END,
        "resources": RESOURCES,
        "securityContext": {**NO_RIGHTS, "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True},
    }
    return _pod(name, namespace, node, {ROLE_LABEL: "image"}, [container], PULL_SECONDS, host_pid=False)


def _beside(
    name: str,
    mode: str,
    image: str,
    pull_policy: str,
    environment: list[Json],
    extra: int = 0,
    more: Iterable[str] = (),
) -> Json:
    """A container that finds the targets' processes in /proc and enters their network namespaces."""
    limits = {"memory": f"{64 + extra}Mi"}
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": pull_policy,
        "command": command(mode),
        "env": environment,
        **TELLS_ITS_END,
        "resources": {**RESOURCES, "limits": limits},
        # AppArmor's default profile forbids ptrace across profiles, and with it /proc/PID/ns of the targets.
        "securityContext": {
            **rights("NET_ADMIN", "SYS_ADMIN", "SYS_PTRACE", *more),
            "appArmorProfile": {"type": "Unconfined"},
        },
    }


def _pod(
    name: str, namespace: str, node: str, labels: Json, containers: list[Json], seconds: int, *, host_pid: bool
) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {"app.kubernetes.io/managed-by": "bounceback", **labels},
        },
        "spec": {
            "nodeName": node,
            "hostPID": host_pid,
            "restartPolicy": "Never",
            "serviceAccountName": AGENT_ACCOUNT,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": 10,
            "activeDeadlineSeconds": seconds,
            "tolerations": [{"operator": "Exists"}],
            "containers": containers,
        },
    }
