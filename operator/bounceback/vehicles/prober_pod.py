"""The pod that carries out a check's workload in the experiment's namespace: as it is made. Pure."""

from __future__ import annotations

import json
import math
from typing import Final

from bounceback.api.check_workload import CheckWorkload
from bounceback.engine.working import accounting_seconds
from bounceback.kube.client import Json
from bounceback.types.prober import ORDERS
from bounceback.vehicles.containers import LONGEST_PLAN, NO_RIGHTS, ROLE_LABEL, RUN_LABEL, TELLS_ITS_END
from bounceback.vehicles.errors import Refused

CONTAINER: Final = "prober"
WORK: Final = ["python3", "-m", "bounceback.prober", "work"]
CONTROL: Final = ["python3", "-m", "bounceback.prober", "control"]
AT_REST: Final = 128
"""MiB that it takes with its connections, before it knows of any operation."""
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
    image: str,
    pull_policy: str,
) -> Json:
    """`owner` is the experiment, with which it goes; `number` tells its values from those of other runs, `not_after`
    is when its load ends though nobody says so. Raises Refused where its orders are too long.

    It runs once: a ledger that is lost is not begun again.
    """
    orders = json.dumps({"workload": workload.to_json(), "run": number, "notAfter": not_after})
    if len(orders) > LONGEST_PLAN:
        told = f"it takes {len(orders):,} bytes of at most {LONGEST_PLAN:,}: shorten its bodies and headers"
        raise Refused("workload", "WorkloadTooLarge", told)
    mebibytes = AT_REST + workload.most_operations * OPERATION_BYTES // (1 << 20)
    container = {
        "name": CONTAINER,
        "image": image,
        "imagePullPolicy": pull_policy,
        "command": WORK,
        "env": [{"name": ORDERS, "value": orders}],
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
            "labels": {"app.kubernetes.io/managed-by": "bounceback", ROLE_LABEL: CONTAINER, RUN_LABEL: run},
            **({"ownerReferences": [owner]} if owner else {}),
        },
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": 1,
            "activeDeadlineSeconds": max(1, math.ceil(not_after - now + accounting_seconds(workload))),
            "containers": [container],
            "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "16Mi"}}],
        },
    }
