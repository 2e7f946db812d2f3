"""What an experiment and the workloads of its checks have against each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from bounceback.api.check import RecoveryCheckSpec
from bounceback.api.experiment import FaultExperimentSpec
from bounceback.api.problems import Problem


def against_workloads(spec: FaultExperimentSpec, checks: Mapping[str, RecoveryCheckSpec]) -> Iterator[Problem]:
    """Limits that are over before what a workload needs; `checks` are those that are known, by name."""
    for name, check in checks.items():
        workload, asked = check.workload, check.performance
        if workload is not None and workload.baseline_seconds >= spec.steady_state.timeout_seconds:
            told = f"must be above the {workload.baseline_seconds} s of the workload's baselineSeconds in {name}"
            yield Problem(("spec", "steadyState", "timeoutSeconds"), told)
        needed = max((each.start_after_seconds + each.duration_seconds for each in spec.faults), default=0)
        if workload is not None and workload.seconds < needed + workload.baseline_seconds:
            told = (
                f"the workload of {name} may end before the faults do: its seconds are {workload.seconds}, and these "
                f"take {needed} after its baseline"
            )
            yield Problem(("spec", "faults"), told)
        if asked is not None and spec.recovery_timeout_seconds < asked.within_seconds + check.recovered.stable_seconds:
            told = (
                f"{name} asks for performance.withinSeconds {asked.within_seconds}: a run that ends before that, and "
                f"stableSeconds more, cannot say that it was not kept"
            )
            yield Problem(("spec", "recoveryTimeoutSeconds"), told)
