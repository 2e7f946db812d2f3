"""Prober pods in the experiment's namespace, that carry out workloads or look: as they are made. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Final

from bounceback.api.check_workload import CheckWorkload
from bounceback.api.probes import Probe
from bounceback.engine.working import accounting_seconds
from bounceback.kube.client import Json
from bounceback.types.prober import AUTHORITIES, ORDERS, PASSWORD
from bounceback.vehicles.arming import ARM_LABEL, DISABLED
from bounceback.vehicles.containers import LONGEST_PLAN, NO_RIGHTS, ROLE_LABEL, RUN_LABEL, TELLS_ITS_END
from bounceback.vehicles.errors import Refused

CONTAINER: Final = "prober"
WORK: Final = ["python3", "-m", "bounceback.prober", "work"]
LOOK: Final = ["python3", "-m", "bounceback.prober", "look"]
CONTROL: Final = ["python3", "-m", "bounceback.prober", "control"]
AT_REST: Final = 128
"""MiB that it takes with its connections, before it knows of any operation."""
SLACK: Final = 30
"""Seconds after its own deadline until the kubelet ends it."""
OPERATION_BYTES: Final = 100
"""Of memory, for each that is in its ledger and is checked."""


def prober_pod(
    name: str,
    workload: CheckWorkload,
    *,
    run: str,
    number: int,
    not_after: float,
    now: float,
    owner: Json | None,
    account: str,
    image: str,
    pull_policy: str,
) -> Json:
    """`owner` is the experiment, with which it goes; `number` tells its values from those of other runs, `not_after`
    is when its load ends though nobody says so. Raises Refused where its orders are too long.

    It has a token of `account`, the experiment's, only where its operations are requests to the Kubernetes API.

    It runs once: a ledger that is lost is not begun again.
    """
    orders = {"workload": workload.to_json(), "run": number, "notAfter": not_after}
    mebibytes = AT_REST + workload.most_operations * OPERATION_BYTES // (1 << 20)
    seconds = not_after - now + accounting_seconds(workload)
    pod = _pod(name, "workload", WORK, orders, run, owner, image, pull_policy, mebibytes, seconds)
    for variable, source in ((PASSWORD, workload.password_from), (AUTHORITIES, workload.authorities)):
        if source is not None:
            secret = {"secretKeyRef": {"name": source.secret_name, "key": source.key}}
            pod["spec"]["containers"][0]["env"].append({"name": variable, "valueFrom": secret})
    if workload.kubernetes is not None:
        pod["spec"] |= {"serviceAccountName": account, "automountServiceAccountToken": True}
    return pod


def lookout_pod(
    name: str,
    probes: Mapping[str, Probe],
    *,
    namespace: str,
    run: str,
    not_after: float,
    now: float,
    owner: Json | None,
    image: str,
    pull_policy: str,
) -> Json:
    """The one from which probes look, by their keys. Raises Refused where there are too many for it."""
    asked = {key: _plain(probe) for key, probe in probes.items()}
    orders = {"probes": asked, "namespace": namespace, "notAfter": not_after}
    return _pod(name, "probes", LOOK, orders, run, owner, image, pull_policy, AT_REST, not_after - now + SLACK)


def _plain(probe: Probe) -> Json:
    """Of a signal what every probe has."""
    return {name: value for name, value in probe.to_json().items() if name != "category"}


def _pod(
    name: str,
    field: str,
    command: list[str],
    orders: Json,
    run: str,
    owner: Json | None,
    image: str,
    pull_policy: str,
    mebibytes: int,
    seconds: float,
) -> Json:
    text = json.dumps(orders)
    if len(text) > LONGEST_PLAN:
        told = f"it takes {len(text):,} bytes of at most {LONGEST_PLAN:,}: shorten its bodies and headers"
        raise Refused(field, "WorkloadTooLarge", told)
    container = {
        "name": CONTAINER,
        "image": image,
        "imagePullPolicy": pull_policy,
        "command": command,
        "env": [{"name": ORDERS, "value": text}],
        **TELLS_ITS_END,
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": f"{mebibytes}Mi"}},
        "securityContext": {**NO_RIGHTS, "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True},
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "labels": {
                "app.kubernetes.io/managed-by": "bounceback",
                ROLE_LABEL: CONTAINER,
                RUN_LABEL: run,
                ARM_LABEL: DISABLED,
            },
            **({"ownerReferences": [owner]} if owner else {}),
        },
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": 1,
            "activeDeadlineSeconds": max(1, math.ceil(seconds)),
            "containers": [container],
            "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "16Mi"}}],
        },
    }
