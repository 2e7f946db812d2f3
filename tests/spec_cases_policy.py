"""Good and bad policies."""

from __future__ import annotations

from typing import Any, Final

from tests.spec_case import Case, Change

NAMES_OR_SELECTOR = "exactly one of names, selector must be given"
POOL = {"matchLabels": {"pool": "chaos"}}


def nodes(**fields: Any) -> Change:
    def change(spec: dict[str, Any]) -> None:
        spec["allow"]["nodes"] = {"faults": ["nodeCordon"], **fields}

    return change


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
)
