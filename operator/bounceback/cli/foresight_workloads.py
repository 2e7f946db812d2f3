"""What a check's workload would do, and whether its prober pod would be taken: by a dry run."""

from __future__ import annotations

from collections.abc import Callable

from bounceback.api.check import RecoveryCheckSpec
from bounceback.api.experiment import FaultExperimentSpec
from bounceback.cli.cluster import PODS, Cluster, RefusedError
from bounceback.engine.working import prober_name
from bounceback.vehicles.access import way_out
from bounceback.vehicles.errors import Refused
from bounceback.vehicles.prober_pod import prober_pod


def foresee_workload(
    note: Callable[[str], None],
    refuse: Callable[[str, str], None],
    acting: Cluster,
    namespace: str,
    spec: FaultExperimentSpec,
    name: str,
    check: RecoveryCheckSpec,
) -> None:
    """`note` and `refuse` are told; nothing is touched."""
    workload = check.workload
    if workload is None:
        return
    note(
        f"{name}: a prober pod makes operations on {workload.address} ({workload.model}), from before the fault to the "
        "end of the run; what they wrote stays there"
    )
    try:
        pod = prober_pod(
            prober_name("", name),
            workload,
            run="",
            number=1,
            not_after=float(spec.deadline_seconds),
            now=0.0,
            owner=None,
            account=spec.service_account_name,
            image="bounceback",
            pull_policy="IfNotPresent",
        )
        pod["metadata"]["namespace"] = namespace
        acting.create(PODS, pod, dry_run=True)
    except Refused as refused:
        refuse(f"RecoveryCheck {name}: spec.{refused.field}", refused.message)
    except RefusedError as error:
        way = way_out(namespace, spec.service_account_name, objects=["pods"]) if error.status == 403 else ""
        refuse("spec.serviceAccountName", f"the prober pod of {name}: {error.words}{way and f'; {way}'}")
