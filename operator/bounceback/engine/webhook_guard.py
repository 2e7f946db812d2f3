"""Which webhook configurations no experiment may change, whatever a policy says: the way back may lead through them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

from bounceback.engine.namespace_contents import service_namespace
from bounceback.engine.policy import Labelled
from bounceback.engine.targets import PROTECTED
from bounceback.faults import ObjectFault
from bounceback.faults.object_kinds.base import named
from bounceback.faults.object_kinds.rights import FailurePolicy, WebhookFailurePolicyChanged
from bounceback.types.selectors import LabelSelector

Json = Mapping[str, Any]
OURS: Final = "bounceback.dev"
CHART: Final = {"app.kubernetes.io/name": "bounceback"}
AT_HOME: Final = (("", "secrets"), ("", "configmaps"), ("", "pods"), ("coordination.k8s.io", "leases"))
"""What is written in the operator's namespace while a run goes on: the journal, notes, rollback pods, the lease."""
OF_RUNS: Final = ((OURS, "faultexperiments"),)
"""And in the experiment's: its status, finalizers."""


def kept_from(
    configuration: Json, fault: ObjectFault, home: Labelled, place: Labelled, ours: Collection[str] = ()
) -> str:
    """Why that fault must leave it alone; "" where it need not.

    `home` is the operator's namespace, `place` the experiment's; `ours` are names of configurations of the operator.
    """
    change = fault.done
    if not isinstance(change, WebhookFailurePolicyChanged):
        return ""
    metadata, webhooks = configuration["metadata"], list(configuration.get("webhooks") or [])
    labels = metadata.get("labels") or {}
    if metadata["name"] in ours or CHART.items() <= labels.items() or any(_is_ours(each, home) for each in webhooks):
        return f"{named(configuration)} must not be a target: it belongs to Bounceback"
    if theirs := next((name for each in webhooks if (name := _served_from(each)) in PROTECTED), ""):
        return f"{named(configuration)} must not be a target: it is the cluster's own, and answered from {theirs}"
    if change.failure_policy is not FailurePolicy.FAIL:
        return ""
    hit = [each for each in webhooks if not change.names or each["name"] in change.names]
    asked = next((words for each in hit for words in _asked_about_us(each, home, place)), "")
    return asked and f"{named(configuration)} must not come to refuse requests that it cannot be asked about: {asked}"


def _is_ours(webhook: Json, home: Labelled) -> bool:
    return str(webhook["name"]).endswith(f".{OURS}") or _served_from(webhook) == home.name


def _served_from(webhook: Json) -> str:
    return service_namespace(webhook.get("clientConfig"))


def _asked_about_us(webhook: Json, home: Labelled, place: Labelled) -> Iterator[str]:
    """In words; finer conditions (objectSelector, matchConditions) are not weighed: they may change."""
    for namespace, written in ((home, AT_HOME), (place, OF_RUNS)):
        if not _selects(webhook, namespace):
            continue
        for group, plural in written:
            if any(_names(rule, group, plural) for rule in webhook.get("rules") or []):
                resource = f"{plural}.{group}" if group else plural
                yield (
                    f"{webhook['name']} is asked about {resource} in namespace {namespace.name}, which Bounceback "
                    "writes there; name other webhooks, or give it a namespaceSelector or rules that leave those out"
                )


def _selects(webhook: Json, namespace: Labelled) -> bool:
    selector = webhook.get("namespaceSelector")
    if not selector:
        return True  # an empty one selects all
    try:
        return LabelSelector.model_validate(selector).matches(namespace.labels)
    except ValueError:
        return True  # longer than ours may be


def _names(rule: Json, group: str, plural: str) -> bool:
    """Subresources count as their resource."""
    resources = {str(each).partition("/")[0] for each in rule.get("resources") or []}
    groups = set(rule.get("apiGroups") or [])
    return bool({"*", group} & groups and {"*", plural} & resources) and rule.get("scope") != "Cluster"
