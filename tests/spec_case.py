"""One good or bad spec, and how it is made from a plain one."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from bounceback.api.probes import LOOKS
from bounceback.faults import KINDS as FAULT_KINDS

Json = dict[str, Any]
Change = Callable[[Json], None]

EXPERIMENT: Final[Json] = {
    "targets": [{"name": "web", "pods": {"selector": {"matchLabels": {"app": "web"}}}}],
    "faults": [{"name": "slow", "target": "web", "networkDelay": {"delayMilliseconds": 200}}],
    "checks": [{"name": "web-healthy"}],
}
CHECK: Final[Json] = {
    "probes": [{"name": "home", "http": {"url": "http://web.shop.svc/"}, "periodMilliseconds": 200}],
}
POLICY: Final[Json] = {
    "experiments": {"namespaces": {"names": ["shop"]}},
    "allow": {"nodes": {"names": ["node-1"], "faults": ["nodeCordon"]}},
}
BASES: Final = {"FaultExperiment": EXPERIMENT, "RecoveryCheck": CHECK, "FaultPolicy": POLICY}


@dataclass(frozen=True)
class Case:
    """A spec made from the plain one by `change`; `message` is what both must say of it, "" if it is good.

    `field` is where the API server puts it. `schema_says` is given where its words are not ours: bounds and types.
    """

    name: str
    kind: str
    change: Change
    message: str = ""
    field: str = ""
    schema_says: str = ""

    @property
    def spec(self) -> Json:
        spec = copy.deepcopy(BASES[self.kind])
        self.change(spec)
        return spec


def with_fault(**fields: Any) -> Change:
    """The only fault has these fields instead of its kind."""

    def change(spec: Json) -> None:
        spec["faults"] = [{"name": "slow", "target": "web", **fields}]

    return change


def pattern(**fields: Any) -> Change:
    return with_fault(networkDelay={"delayMilliseconds": 200}, pattern=fields)


def peer(**fields: Any) -> Change:
    return with_fault(networkPartition={"peers": [fields]})


def pods(**fields: Any) -> Change:
    def change(spec: Json) -> None:
        spec["targets"][0]["pods"].update(fields)

    return change


def having(**fields: Any) -> Change:
    def change(spec: Json) -> None:
        spec.update(fields)

    return change


def probe(**fields: Any) -> Change:
    return having(probes=[{"name": "home", **fields}])


def watched(**fields: Any) -> Change:
    return probe(kubernetes={"apiVersion": "v1", "kind": "Pod", "expression": "true", **fields})


ONE_FAULT = f"exactly one of {', '.join(kind.kind for kind in FAULT_KINDS)} must be given"
ONE_PATTERN = "exactly one of onOff, intermittent, ramp must be given"
TURNS = {
    "shortestOnMilliseconds": 200,
    "longestOnMilliseconds": 900,
    "shortestOffMilliseconds": 200,
    "longestOffMilliseconds": 900,
}
ONE_PEER = "exactly one of pods, service, cidr, host must be given"
ONE_LOOK = f"exactly one of {', '.join(LOOKS)} must be given"
VALUES = "values must be given with In and NotIn, and with these only"
JITTER = "jitterMilliseconds must not exceed delayMilliseconds"
NAME_OR_SELECTOR = "name and selector must not both be given"
CIDR = "cidr must be an IP network or address"
URL = {"http": {"url": "http://web/"}}
SELECTOR = {"matchLabels": {"app": "web"}}
READ = {"name": "orders", "http": {"url": "http://web/orders"}}
INVARIANT = {"name": "kept", "expression": "after.orders.count >= before.orders.count"}
