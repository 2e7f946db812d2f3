"""What a sample system has outside its namespace: each that a test sets up has its own."""

from __future__ import annotations

import re
from typing import Any, Final

from bounceback.vehicles.cluster_access import ROLE
from bounceback.vehicles.namespace_access import contents_role, policy_name
from tests.commands import Commands

OBJECTS: Final = {
    "guarded": "validatingwebhookconfigurations.admissionregistration.k8s.io/{}-guard",
    "tenanted": "namespaces/{}-tenant",
}
"""What experiments may change there, by system, variants of it included."""
NAMED: Final = re.compile(r"^shop$|\bshop(?=-(guard|tenant)\b)")
"""The namespace for which examples are written, as a whole and in names and addresses of what it has outside."""
ACCOUNT: Final = "bounceback"
OF_CLUSTER: Final = (
    "clusterrolebindings,clusterroles,faultpolicies,validatingwebhookconfigurations,"
    "validatingadmissionpolicybindings,validatingadmissionpolicies"
)


def beyond(system: str, namespace: str) -> str:
    """As `bounceback access --cluster-objects` has it; "": nothing."""
    return OBJECTS.get(system.partition("-")[0], "").format(namespace)


def placed(value: Any, namespace: str) -> Any:
    """What is written for the namespace shop, for this one."""
    if isinstance(value, dict):
        return {key: placed(each, namespace) for key, each in value.items()}
    if isinstance(value, list):
        return [placed(each, namespace) for each in value]
    return NAMED.sub(namespace, value) if isinstance(value, str) else value


def cleared(commands: Commands, objects: str, namespace: str) -> None:
    """Nothing of it is left: rights first, or who keeps a namespace would make it again."""
    resource, _, name = objects.partition("/")
    rights = (f"{ROLE}:{namespace}:{ACCOUNT}", contents_role(namespace, ACCOUNT), policy_name(namespace, ACCOUNT))
    commands.kubectl("delete", "--ignore-not-found", OF_CLUSTER, name, *rights)
    if resource == "namespaces":
        commands.kubectl("delete", "--ignore-not-found", "--wait=false", resource, name)
