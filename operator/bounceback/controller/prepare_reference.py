"""What a reference run needs of the account: to read what is compared."""

from __future__ import annotations

from bounceback.api.experiment import FaultExperimentSpec
from bounceback.kube.client import Kube
from bounceback.kube.kinds import Kinds, UnknownKindError
from bounceback.vehicles.errors import Refused


async def compared_resources(acting: Kube, spec: FaultExperimentSpec) -> list[str]:
    """As kubectl writes them. Raises Refused for a kind that is not served here, and what Kube raises."""
    kinds, found = Kinds(acting), []
    for index, entry in enumerate(spec.reference.objects if spec.reference else ()):
        try:
            resource = await kinds.resource(entry.api_version, entry.kind)
        except UnknownKindError as error:
            raise Refused(f"spec.reference.objects[{index}].kind", "KindUnknown", str(error)) from error
        group, slash, _ = resource.api_version.partition("/")
        found.append(f"{resource.plural}.{group}" if slash else resource.plural)
    return found


def reading(resources: list[str]) -> set[str]:
    """Needs, as vehicles/access.py has them."""
    return {f"{verb} {resource}" for resource in resources for verb in ("list", "watch")}
