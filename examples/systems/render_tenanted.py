"""The sample system `tenanted`: a keeper of a namespace for a tenant, and of all that is in it."""

from typing import Any, Final

from examples.systems.render_kept import (
    PASSWORD,
    RBAC,
    VERBS,
    binding,
    deployment,
    keeper,
    page,
    role,
    rule,
    service,
)

VARIANTS: Final = {
    "tenanted": ("", "It keeps its promises."),
    "tenanted-once": ("once", "It makes the tenant's namespace when it starts, and never looks again."),
}
ABOUT: Final = "a tenant's namespace, shop-tenant, and a keeper of it; for the namespace shop, whose name is in it"
NAMESPACE: Final = "shop"
TENANT: Final = "shop-tenant"
"""The namespace that is kept, and the keeper's rights beyond its own."""
AT_HOME: Final = (
    rule("", ["configmaps"], VERBS, names=["release"]),
    rule("apps", ["deployments"], ["get"], names=["keeper"]),
    rule("coordination.k8s.io", ["leases"], VERBS),
)
# A RoleBinding in the tenant's namespace goes with it, and the right to make it again would be one in all namespaces,
# too. So this is of the whole cluster, and each object is named: of what a server-side apply makes the API server knows
# the name beforehand, so there is no other namespace that the keeper could make. Objects of these names in others it
# could write, as it could with that right.
APPLIED: Final = ["create", "patch"]
BEYOND: Final = (
    rule("", ["namespaces"], APPLIED, names=[TENANT]),
    rule("", ["configmaps"], APPLIED, names=["plan"]),
    rule("", ["secrets"], APPLIED, names=["password"]),
    rule("", ["services"], APPLIED, names=["web"]),
    rule("apps", ["deployments"], APPLIED, names=["web"]),
)
Object = dict[str, Any]


def system(flaw: str, image: str) -> list[Object]:
    return keeper(
        flaw,
        image,
        wanted(image),
        role("keeper", *AT_HOME),
        binding("keeper", "keeper"),
        {"apiVersion": f"{RBAC}/v1", "kind": "ClusterRole", "metadata": {"name": TENANT}, "rules": list(BEYOND)},
        {
            "apiVersion": f"{RBAC}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": TENANT},
            "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": TENANT},
            "subjects": [{"kind": "ServiceAccount", "name": "keeper", "namespace": NAMESPACE}],
        },
    )


def wanted(image: str) -> list[Object]:
    """The namespace before what is in it."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    inside = [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "plan"}, "data": {"seats": "10"}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "password"}, "data": {"password": PASSWORD}},
        deployment("web", 1, page(image)),
        service("web", 80),
    ]
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": TENANT, "labels": labels}},
        *({**each, "metadata": {**each["metadata"], "namespace": TENANT}} for each in inside),
    ]
