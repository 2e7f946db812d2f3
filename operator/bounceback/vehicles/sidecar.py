"""The agent as an ephemeral container of the target pod: what is asked of the API server. Pure."""

from __future__ import annotations

from typing import Final

from bounceback.kube.client import Json
from bounceback.types.plan import ApiRules, Plan
from bounceback.vehicles.containers import GUARD, NO_RIGHTS, RUN, TELLS_ITS_END, command, plan_variable, rights

TRIAL: Final = "bb-0000000000"  # the name in a dry run


def patch_for(plan: Plan, image: str, pull_policy: str) -> Json:
    """A strategic merge patch of pods/ephemeralcontainers, for the very pod that the plan speaks of."""
    environment = plan_variable(plan)
    held = _rights(kernel=any(not isinstance(order.act, ApiRules) for order in plan.orders))
    containers = [_container(plan.agent, RUN, image, pull_policy, environment, held)]
    if plan.guarded:
        containers.append(_container(f"{plan.agent}-guard", GUARD, image, pull_policy, environment, held))
    return {"metadata": {"uid": plan.orders[0].pod_uid}, "spec": {"ephemeralContainers": containers}}


def trial_patch(uid: str, guarded: bool, image: str, pull_policy: str, *, kernel: bool = True) -> Json:
    """The same for a dry run; `kernel`: it is to do something to the pod's network."""
    held = _rights(kernel=kernel)
    containers = [_container(TRIAL, RUN, image, pull_policy, [], held)]
    if guarded:
        containers.append(_container(f"{TRIAL}-guard", GUARD, image, pull_policy, [], held))
    return {"metadata": {"uid": uid}, "spec": {"ephemeralContainers": containers}}


def _rights(*, kernel: bool) -> Json:
    return rights("NET_ADMIN") if kernel else NO_RIGHTS


def _container(name: str, mode: str, image: str, pull_policy: str, environment: list[Json], held: Json) -> Json:
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": pull_policy,
        "command": command(mode),
        "env": environment,
        **TELLS_ITS_END,
        "securityContext": {**held, "privileged": False, "allowPrivilegeEscalation": False},
    }
