"""Where resources live: the paths of the API."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from bounceback.types.objects import ClusterKind


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind of object, as its URL names it."""

    api_version: str
    plural: str
    namespaced: bool = True

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        root = f"/apis/{self.api_version}" if "/" in self.api_version else f"/api/{self.api_version}"
        parts = [root]
        if self.namespaced and namespace is not None:
            parts.append(f"namespaces/{namespace}")
        parts += [part for part in (self.plural, name, subresource) if part is not None]
        return "/".join(parts)


PODS: Final = Resource("v1", "pods")
SERVICES: Final = Resource("v1", "services")
SECRETS: Final = Resource("v1", "secrets")
CONFIG_MAPS: Final = Resource("v1", "configmaps")
SERVICE_ACCOUNTS: Final = Resource("v1", "serviceaccounts")
NODES: Final = Resource("v1", "nodes", namespaced=False)
NAMESPACES: Final = Resource("v1", "namespaces", namespaced=False)
ENDPOINT_SLICES: Final = Resource("discovery.k8s.io/v1", "endpointslices")
EVENTS: Final = Resource("v1", "events")
JOBS: Final = Resource("batch/v1", "jobs")
REPLICA_SETS: Final = Resource("apps/v1", "replicasets")
LEASES: Final = Resource("coordination.k8s.io/v1", "leases")
MUTATING_WEBHOOKS: Final = Resource(
    "admissionregistration.k8s.io/v1", "mutatingwebhookconfigurations", namespaced=False
)
VALIDATING_WEBHOOKS: Final = Resource(
    "admissionregistration.k8s.io/v1", "validatingwebhookconfigurations", namespaced=False
)
OF_CLUSTER: Final = {
    ClusterKind.VALIDATING_WEBHOOKS: VALIDATING_WEBHOOKS,
    ClusterKind.MUTATING_WEBHOOKS: MUTATING_WEBHOOKS,
    ClusterKind.NAMESPACE: NAMESPACES,
}
"""By kind: where objects without a namespace are that a policy may allow to be changed."""
EXPERIMENTS: Final = Resource("bounceback.dev/v1alpha1", "faultexperiments")
CHECKS: Final = Resource("bounceback.dev/v1alpha1", "recoverychecks")
POLICIES: Final = Resource("bounceback.dev/v1alpha1", "faultpolicies", namespaced=False)
ACCESS_REVIEWS: Final = Resource("authorization.k8s.io/v1", "selfsubjectaccessreviews", namespaced=False)
RULES_REVIEWS: Final = Resource("authorization.k8s.io/v1", "selfsubjectrulesreviews", namespaced=False)
