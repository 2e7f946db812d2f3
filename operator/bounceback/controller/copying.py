"""The checks of an experiment, copied as it starts; what would keep them from working is told then."""

from __future__ import annotations

from bounceback.api.check import RecoveryCheckSpec
from bounceback.api.experiment import FaultExperimentSpec
from bounceback.api.problems import dotted, parse
from bounceback.api.status import CheckCopy
from bounceback.engine.invariants import expression_problems
from bounceback.kube import Kube, KubeError
from bounceback.kube.resources import CHECKS
from bounceback.recovery.errors import CannotLookError
from bounceback.recovery.needs import JOB_NEEDS, PROBER_NEEDS, needs_of
from bounceback.recovery.secrets import Secrets
from bounceback.vehicles.access import check_access
from bounceback.vehicles.errors import Refused


async def copy_checks(kube: Kube, acting: Kube, namespace: str, spec: FaultExperimentSpec) -> tuple[CheckCopy, ...]:
    """Raises Refused where one is not there, is not in order, or may not look as it wants; KubeError."""
    copies = []
    secrets = Secrets(acting, namespace)
    for index, reference in enumerate(spec.checks):
        field = f"spec.checks[{index}].name"
        try:
            body = await kube.get(CHECKS, namespace, reference.name)
        except KubeError as error:
            if error.gone:
                raise Refused(
                    field, "CheckNotFound", f"there is no RecoveryCheck {reference.name} in {namespace}"
                ) from error
            raise
        check, problems = parse(RecoveryCheckSpec, body.get("spec") or {})
        if check is None:
            raise Refused(field, "CheckInvalid", f"RecoveryCheck {reference.name}: {problems[0]}")
        await can_look(acting, namespace, spec.service_account_name, field, reference.name, check, secrets)
        metadata = body["metadata"]
        copies.append(
            CheckCopy(name=reference.name, uid=metadata["uid"], generation=metadata["generation"], spec=check)
        )
    return tuple(copies)


async def can_look(
    acting: Kube, namespace: str, account: str, field: str, name: str, check: RecoveryCheckSpec, secrets: Secrets
) -> None:
    """Raises Refused, at `field`, where what keeps the check from looking as it wants can be told beforehand."""
    _expressions_compile(field, name, check)
    needs = needs_of(check)
    if needs or any(probe.kubernetes for _, _, probe in check.sections()):
        objects = [name for name, of in (("jobs.batch", JOB_NEEDS), ("pods", PROBER_NEEDS)) if needs >= of]
        await check_access(acting, namespace, account, needs=needs, objects=objects)
    await _secrets_are_there(field, name, check, secrets)


def _expressions_compile(field: str, check: str, spec: RecoveryCheckSpec) -> None:
    for path, problem in expression_problems(spec):
        raise Refused(field, "ExpressionInvalid", f"RecoveryCheck {check}, {dotted(('spec', *path))}: {problem}")


async def _secrets_are_there(field: str, check: str, spec: RecoveryCheckSpec, secrets: Secrets) -> None:
    for path, name, key in spec.secrets():
        try:
            await secrets.value(name, key)
        except CannotLookError as error:
            where = dotted(("spec", *path))
            raise Refused(field, "SecretInvalid", f"RecoveryCheck {check}, {where}: {error}") from error
