"""Good and bad policies, and faults on nodes, which take one."""

from __future__ import annotations

from typing import Any, Final

from bounceback.api.experiment import ONLY_PODS_FOLLOWED, SORT_OF_TARGET
from bounceback.api.policy import FOR_ITS_KIND, SOMETHING
from bounceback.faults.base import NO_PATTERN
from tests.spec_case import Case, Change, with_fault

NAMES_OR_SELECTOR = "exactly one of names, selector must be given"
POOL = {"matchLabels": {"pool": "chaos"}}


def nodes(**fields: Any) -> Change:
    def change(spec: dict[str, Any]) -> None:
        spec["allow"]["nodes"] = {"faults": ["nodeCordon"], **fields}

    return change


def objects(beside: bool = False, **fields: Any) -> Change:
    def change(spec: dict[str, Any]) -> None:
        faults = ["webhookFailurePolicyChanged"]
        entry = {"kind": "ValidatingWebhookConfiguration", "faults": faults, **fields}
        spec["allow"] = {**(spec["allow"] if beside else {}), "objects": [entry]}

    return change


def nothing(spec: dict[str, Any]) -> None:
    spec["allow"] = {}


def namespaces(**fields: Any) -> Change:
    def change(spec: dict[str, Any]) -> None:
        spec["experiments"]["namespaces"] = fields

    return change


POLICIES: Final = (
    Case("the plain policy", "FaultPolicy", nodes(names=["node-1"])),
    Case("nodes by label, one at a time", "FaultPolicy", nodes(selector=POOL, maxCount=1)),
    Case("no nodes at all", "FaultPolicy", nodes(), NAMES_OR_SELECTOR, "spec.allow.nodes"),
    Case("nodes in two ways", "FaultPolicy", nodes(names=["a"], selector=POOL), NAMES_OR_SELECTOR, "spec.allow.nodes"),
    Case("nobody's", "FaultPolicy", namespaces(), NAMES_OR_SELECTOR, "spec.experiments.namespaces"),
    Case(
        "an unknown fault",
        "FaultPolicy",
        nodes(names=["a"], faults=["nodeExplode"]),
        "must be one of nodeCordon, nodeDrain, nodeNotReady",
        "spec.allow.nodes.faults[0]",
        "Unsupported value",
    ),
    Case("an object without a namespace, by name", "FaultPolicy", objects(names=["guard"])),
    Case("a namespace", "FaultPolicy", objects(names=["shop"], kind="Namespace", faults=["deleted"])),
    Case(
        "a namespace that is changed",
        "FaultPolicy",
        objects(names=["shop"], kind="Namespace", faults=["webhookFailurePolicyChanged"]),
        FOR_ITS_KIND,
        "spec.allow.objects[0].faults",
    ),
    Case("such objects by label, and nodes", "FaultPolicy", objects(beside=True, selector=POOL)),
    Case("nothing at all", "FaultPolicy", nothing, SOMETHING, "spec.allow"),
    Case("objects in no way", "FaultPolicy", objects(), NAMES_OR_SELECTOR, "spec.allow.objects[0]"),
    Case(
        "a change that takes the right to delete them",
        "FaultPolicy",
        objects(names=["guard"], faults=["deleted"]),
        FOR_ITS_KIND,
        "spec.allow.objects[0].faults",
    ),
)

ON_NODES = {"name": "web", "nodes": {"ofPods": {"matchLabels": {"app": "web"}}}}
CORDON = {"name": "slow", "target": "web", "nodeCordon": {}}
NODE_WAYS = "exactly one of names, selector, ofPods must be given"


def on_nodes(nodes: dict[str, Any] | None = None, **fields: Any) -> Change:
    """A cordon of nodes, with these fields beside."""

    def change(spec: dict[str, Any]) -> None:
        spec["targets"] = [{**ON_NODES, **({"nodes": nodes} if nodes is not None else {})}]
        fault = {**CORDON, **fields}
        spec["faults"] = [{name: value for name, value in fault.items() if value is not None}]

    return change


NODES: Final = (
    Case("nodes that pods run on", "FaultExperiment", on_nodes()),
    Case("a kubelet that is stopped", "FaultExperiment", on_nodes(nodeCordon=None, nodeNotReady={"mode": "Stop"})),
    Case(
        "a mode that there is not",
        "FaultExperiment",
        on_nodes(nodeCordon=None, nodeNotReady={"mode": "Kill"}),
        "must be one of Freeze, Stop",
        "spec.faults[0].nodeNotReady.mode",
        "Unsupported value",
    ),
    Case("one node of a pool", "FaultExperiment", on_nodes({"selector": POOL, "mode": "One"})),
    Case("nodes in no way", "FaultExperiment", on_nodes({}), NODE_WAYS, "spec.targets[0].nodes"),
    Case(
        "nodes by name and by label",
        "FaultExperiment",
        on_nodes({"names": ["a"], "selector": POOL}),
        NODE_WAYS,
        "spec.targets[0].nodes",
    ),
    Case("a cordon of pods", "FaultExperiment", with_fault(nodeCordon={}), SORT_OF_TARGET, "spec.faults"),
    Case(
        "replacements of nodes",
        "FaultExperiment",
        on_nodes(followReplacements=True),
        ONLY_PODS_FOLLOWED,
        "spec.faults[0].followReplacements",
    ),
    Case(
        "a cordon by a sidecar",
        "FaultExperiment",
        on_nodes(vehicle="Sidecar"),
        "vehicle must be Auto or ObjectPatch for nodeCordon",
        "spec.faults[0].vehicle",
    ),
    *(
        Case(
            f"{kind} in turns",
            "FaultExperiment",
            on_nodes(
                **{"nodeCordon": None, kind: {}}, pattern={"onOff": {"onMilliseconds": 500, "offMilliseconds": 500}}
            ),
            NO_PATTERN.format(kind),
            "spec.faults[0].pattern",
        )
        for kind in ("nodeCordon", "nodeDrain")
    ),
    *(
        Case(
            f"{kind} by nft",
            "FaultExperiment",
            on_nodes(**{"nodeCordon": None, kind: {}}, mechanism="Nft"),
            f"mechanism must be {way}, or unset, for {kind}",
            "spec.faults[0].mechanism",
        )
        for kind, way in (("nodeCordon", "Api"), ("nodeDrain", "Api"), ("nodeNotReady", "Node"))
    ),
)
