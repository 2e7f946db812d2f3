"""Good and bad specs. The models and the API server are both held to this one table."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from bounceback.faults import KINDS as FAULT_KINDS
from tests.spec_cases_connections import CONNECTIONS
from tests.spec_cases_names import NAMES
from tests.spec_cases_packets import PACKETS

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
BASES: Final = {"FaultExperiment": EXPERIMENT, "RecoveryCheck": CHECK}


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


def _fault(**fields: Any) -> Change:
    """The only fault has these fields instead of its kind."""

    def change(spec: Json) -> None:
        spec["faults"] = [{"name": "slow", "target": "web", **fields}]

    return change


def _pattern(**fields: Any) -> Change:
    return _fault(networkDelay={"delayMilliseconds": 200}, pattern=fields)


def _peer(**fields: Any) -> Change:
    return _fault(networkPartition={"peers": [fields]})


def _pods(**fields: Any) -> Change:
    def change(spec: Json) -> None:
        spec["targets"][0]["pods"].update(fields)

    return change


def _with(**fields: Any) -> Change:
    def change(spec: Json) -> None:
        spec.update(fields)

    return change


def _probe(**fields: Any) -> Change:
    return _with(probes=[{"name": "home", **fields}])


def _watched(**fields: Any) -> Change:
    return _probe(kubernetes={"apiVersion": "v1", "kind": "Pod", "expression": "true", **fields})


ONE_FAULT = f"exactly one of {', '.join(kind.kind for kind in FAULT_KINDS)} must be given"
ONE_PATTERN = "exactly one of onOff, intermittent, ramp must be given"
TURNS = {
    "shortestOnMilliseconds": 200,
    "longestOnMilliseconds": 900,
    "shortestOffMilliseconds": 200,
    "longestOffMilliseconds": 900,
}
ONE_PEER = "exactly one of pods, service, cidr, host must be given"
ONE_LOOK = "exactly one of http, tcp, kubernetes must be given"
VALUES = "values must be given with In and NotIn, and with these only"
JITTER = "jitterMilliseconds must not exceed delayMilliseconds"
NAME_OR_SELECTOR = "name and selector must not both be given"
CIDR = "cidr must be an IP network or address"
URL = {"http": {"url": "http://web/"}}
SELECTOR = {"matchLabels": {"app": "web"}}
READ = {"name": "orders", "http": {"url": "http://web/orders"}}
INVARIANT = {"name": "kept", "expression": "after.orders.count >= before.orders.count"}

EXPERIMENTS: Final = (
    Case("the plain experiment", "FaultExperiment", _with()),
    Case("a fault without a kind", "FaultExperiment", _fault(), ONE_FAULT, "spec.faults[0]"),
    Case(
        "a fault of two kinds",
        "FaultExperiment",
        _fault(networkDelay={"delayMilliseconds": 1}, podDelete={}),
        ONE_FAULT,
        "spec.faults[0]",
    ),
    Case("every kind of peer", "FaultExperiment", _peer(service={"name": "db"}, ports=[{"port": 5432}])),
    Case("a peer by network", "FaultExperiment", _peer(cidr="10.0.0.0/8")),
    Case("a peer by network with host bits", "FaultExperiment", _peer(cidr="10.1.2.3/8")),
    Case("a peer by address", "FaultExperiment", _peer(cidr="2001:db8::1")),
    Case("a peer by labels", "FaultExperiment", _peer(pods={"selector": SELECTOR})),
    Case("a peer of no kind", "FaultExperiment", _peer(), ONE_PEER, "spec.faults[0].networkPartition.peers[0]"),
    Case(
        "a peer of two kinds",
        "FaultExperiment",
        _peer(cidr="10.0.0.0/8", host="db.example.com"),
        ONE_PEER,
        "spec.faults[0].networkPartition.peers[0]",
    ),
    *(
        Case(f"a peer's network is {cidr!r}", "FaultExperiment", _peer(cidr=cidr), CIDR, "peers[0].cidr")
        for cidr in ("nonsense", "10.0.0.0/33", "10.0.0.0/255.0.0.0", "fe80::1%eth0", "10.0.0", "")
    ),
    Case(
        "a selector that selects everything",
        "FaultExperiment",
        _pods(selector={}),
        "matchLabels or matchExpressions must name at least one label",
        "spec.targets[0].pods.selector",
    ),
    Case(
        "a condition on a label",
        "FaultExperiment",
        _pods(selector={"matchExpressions": [{"key": "app", "operator": "In", "values": ["web"]}]}),
    ),
    Case(
        "a condition without its values",
        "FaultExperiment",
        _pods(selector={"matchExpressions": [{"key": "app", "operator": "NotIn"}]}),
        VALUES,
        "selector.matchExpressions[0].values",
    ),
    Case(
        "a condition with values that it does not take",
        "FaultExperiment",
        _pods(selector={"matchExpressions": [{"key": "app", "operator": "Exists", "values": ["web"]}]}),
        VALUES,
        "selector.matchExpressions[0].values",
    ),
    Case(
        "a label's key that is too long",
        "FaultExperiment",
        _pods(selector={"matchLabels": {"k" * 318: "web"}}),
        "must have 1 to 317 characters",
        "selector.matchLabels",
    ),
    Case("half of the pods", "FaultExperiment", _pods(mode="Percent", value=50)),
    Case(
        "Percent without a value",
        "FaultExperiment",
        _pods(mode="Percent"),
        "value must be given with mode Fixed or Percent, and with these only",
        "spec.targets[0].pods.value",
    ),
    Case(
        "All with a value",
        "FaultExperiment",
        _pods(mode="All", value=1),
        "value must be given with mode Fixed or Percent, and with these only",
        "spec.targets[0].pods.value",
    ),
    Case(
        "more than all of them",
        "FaultExperiment",
        _pods(mode="Percent", value=101),
        "value must be 1 to 100 for mode Percent",
        "spec.targets[0].pods.value",
    ),
    Case(
        "jitter as long as the delay",
        "FaultExperiment",
        _fault(networkDelay={"delayMilliseconds": 9, "jitterMilliseconds": 9}),
    ),
    Case(
        "more jitter than delay",
        "FaultExperiment",
        _fault(networkDelay={"delayMilliseconds": 9, "jitterMilliseconds": 10}),
        JITTER,
        "spec.faults[0].networkDelay.jitterMilliseconds",
    ),
    Case(
        "a distribution of nothing",
        "FaultExperiment",
        _fault(networkDelay={"delayMilliseconds": 9, "distribution": "Normal"}),
        "jitterMilliseconds must be above 0 for a distribution other than Uniform",
        "spec.faults[0].networkDelay.jitterMilliseconds",
    ),
    Case(
        "correlated total loss",
        "FaultExperiment",
        _fault(networkLoss={"lossPercent": 100, "correlationPercent": 1}),
        "correlationPercent must be 0 when every packet is lost",
        "spec.faults[0].networkLoss.correlationPercent",
    ),
    Case("loss by nft", "FaultExperiment", _fault(networkLoss={"lossPercent": 5}, mechanism="Nft")),
    Case(
        "correlated loss by nft",
        "FaultExperiment",
        _fault(networkLoss={"lossPercent": 5, "correlationPercent": 5}, mechanism="Nft"),
        "mechanism must be Netem or Relay, or unset, for networkLoss",
        "spec.faults[0].mechanism",
    ),
    Case(
        "loss by a request",
        "FaultExperiment",
        _fault(networkLoss={"lossPercent": 5}, mechanism="Api"),
        "mechanism must be Netem or Nft or Relay, or unset, for networkLoss",
        "spec.faults[0].mechanism",
    ),
    Case(
        "a delay by nft",
        "FaultExperiment",
        _fault(networkDelay={"delayMilliseconds": 5}, mechanism="Nft"),
        "mechanism must be Netem or Relay, or unset, for networkDelay",
        "spec.faults[0].mechanism",
    ),
    Case(
        "a partition by netem",
        "FaultExperiment",
        _fault(networkPartition={}, mechanism="Netem"),
        "mechanism must be Nft or Relay, or unset, for networkPartition",
        "spec.faults[0].mechanism",
    ),
    Case(
        "a deletion by netem",
        "FaultExperiment",
        _fault(podDelete={}, mechanism="Netem"),
        "mechanism must be Api, or unset, for podDelete",
        "spec.faults[0].mechanism",
    ),
    *(
        Case(
            f"{kind} by PodDelete",
            "FaultExperiment",
            _fault(**{kind: fault}, vehicle="PodDelete"),
            f"vehicle must be Auto or Sidecar or NodePod for {kind}",
            "spec.faults[0].vehicle",
        )
        for kind, fault in (
            ("networkPartition", {}),
            ("networkDelay", {"delayMilliseconds": 5}),
            ("networkLoss", {"lossPercent": 5}),
        )
    ),
    Case("a deletion by request", "FaultExperiment", _fault(podDelete={"gracePeriodSeconds": 0}, vehicle="PodDelete")),
    Case(
        "a deletion by sidecar",
        "FaultExperiment",
        _fault(podDelete={}, vehicle="Sidecar"),
        "vehicle must be Auto or PodDelete for podDelete",
        "spec.faults[0].vehicle",
    ),
    Case("a fault in turns", "FaultExperiment", _pattern(onOff={"onMilliseconds": 2000, "offMilliseconds": 500})),
    Case("a fault in random turns", "FaultExperiment", _pattern(intermittent=TURNS)),
    Case("a fault that grows", "FaultExperiment", _pattern(ramp={"fromPercent": 10, "toPercent": 100, "steps": 10})),
    Case("a pattern of no kind", "FaultExperiment", _pattern(), ONE_PATTERN, "spec.faults[0].pattern"),
    Case(
        "turns that are longer at least than at most",
        "FaultExperiment",
        _pattern(intermittent={**TURNS, "longestOnMilliseconds": 100}),
        "longestOnMilliseconds must not be below shortestOnMilliseconds",
        "spec.faults[0].pattern.intermittent.longestOnMilliseconds",
    ),
    Case(
        "pauses that are longer at least than at most",
        "FaultExperiment",
        _pattern(intermittent={**TURNS, "longestOffMilliseconds": 100}),
        "longestOffMilliseconds must not be below shortestOffMilliseconds",
        "spec.faults[0].pattern.intermittent.longestOffMilliseconds",
    ),
    Case(
        "a deletion that comes and goes",
        "FaultExperiment",
        _fault(podDelete={}, pattern={"onOff": {"onMilliseconds": 2000, "offMilliseconds": 500}}),
        "pattern must be unset for podDelete",
        "spec.faults[0].pattern",
    ),
    Case(
        "a target that is not there",
        "FaultExperiment",
        lambda spec: spec["faults"][0].update(target="db"),
        "must be one of spec.targets",
        "spec.faults",
    ),
    Case("a bound on a check", "FaultExperiment", _with(abortWhen=[{"check": "web-healthy", "failingSeconds": 30}])),
    Case(
        "a bound on a check that is not there",
        "FaultExperiment",
        _with(abortWhen=[{"check": "db-healthy", "failingSeconds": 30}]),
        "must be one of spec.checks",
        "spec.abortWhen",
    ),
    Case("just enough time", "FaultExperiment", _with(deadlineSeconds=36)),
    Case(
        "too little time",
        "FaultExperiment",
        _with(deadlineSeconds=35),
        "deadlineSeconds must be above the time that the faults",
        "spec.deadlineSeconds",
    ),
    Case(
        "two targets of one name",
        "FaultExperiment",
        lambda spec: spec["targets"].append(spec["targets"][0]),
        "names must be unique; found more than once: web",
        "spec.targets[1]",
        schema_says="Duplicate value",
    ),
    Case(
        "no fault", "FaultExperiment", _with(faults=[]), "a list of 1 to 20 entries", "spec.faults", "at least 1 items"
    ),
    Case(
        "no check", "FaultExperiment", _with(checks=[]), "a list of 1 to 10 entries", "spec.checks", "at least 1 items"
    ),
    Case(
        "a number in quotes",
        "FaultExperiment",
        _with(seed="7"),
        'must be a whole number from 0 to 2147483647; found "7"',
        "spec.seed",
        "must be of type integer",
    ),
    Case(
        "an unknown outcome",
        "FaultExperiment",
        _with(expect="Survive"),
        'must be one of Recover, FailSafe; found "Survive"',
        "spec.expect",
        "Unsupported value",
    ),
    Case(
        "a delay out of bounds",
        "FaultExperiment",
        _fault(networkDelay={"delayMilliseconds": 60_001}),
        "must be a whole number from 1 to 60000; found 60001",
        "spec.faults[0].networkDelay.delayMilliseconds",
        "less than or equal to 60000",
    ),
    Case(
        "an unknown field",
        "FaultExperiment",
        _fault(networkDelay={"delayMilliseconds": 5, "jitterMillisecond": 1}),
        "did you mean jitterMilliseconds?",
        "spec.faults[0].networkDelay.jitterMillisecond",
        "unknown field",
    ),
    Case(
        "a name in capitals",
        "FaultExperiment",
        _with(checks=[{"name": "Web"}]),
        "lower-case letters",
        "spec.checks[0].name",
        "should match",
    ),
)

CHECKS: Final = (
    Case("the plain check", "RecoveryCheck", _with()),
    Case("a probe that looks at nothing", "RecoveryCheck", _probe(), ONE_LOOK, "spec.probes[0]"),
    Case(
        "a probe that looks twice",
        "RecoveryCheck",
        _probe(**URL, tcp={"host": "web", "port": 80}),
        ONE_LOOK,
        "spec.probes[0]",
    ),
    Case("a watched object", "RecoveryCheck", _watched(name="web")),
    Case("watched objects", "RecoveryCheck", _watched(selector=SELECTOR)),
    Case(
        "a watch by name and labels",
        "RecoveryCheck",
        _watched(name="web", selector=SELECTOR),
        NAME_OR_SELECTOR,
        "kubernetes.selector",
    ),
    Case(
        "a check that looks at nothing",
        "RecoveryCheck",
        _with(probes=[]),
        "probes or invariants must name at least one",
        "spec.probes",
    ),
    Case("an invariant", "RecoveryCheck", _with(observations=[READ], invariants=[INVARIANT])),
    Case(
        "an invariant of nothing",
        "RecoveryCheck",
        _with(invariants=[INVARIANT]),
        "invariants need observations to speak of",
        "spec.observations",
    ),
    Case(
        "an observation of nothing",
        "RecoveryCheck",
        _with(observations=[{"name": "orders"}]),
        "exactly one of http, kubernetes must be given",
        "spec.observations[0]",
    ),
    Case(
        "an observation by name and labels",
        "RecoveryCheck",
        _with(
            observations=[
                {"name": "all", "kubernetes": {"apiVersion": "v1", "kind": "Pod", "name": "a", "selector": SELECTOR}}
            ]
        ),
        NAME_OR_SELECTOR,
        "kubernetes.selector",
    ),
    *(
        Case(
            f"one name in {one} and {other}",
            "RecoveryCheck",
            _with(**{one: [{"name": "twin", **URL}], other: [{"name": "twin", **URL}]}),
            "names must be unique",
            f"spec.{other}",
        )
        for one, other in (("probes", "detection"), ("probes", "errorState"), ("detection", "errorState"))
    ),
    Case(
        "two probes of one name",
        "RecoveryCheck",
        lambda spec: spec["probes"].append(spec["probes"][0]),
        "names must be unique",
        "spec.probes[1]",
        "Duplicate value",
    ),
    Case(
        "a budget of one period",
        "RecoveryCheck",
        _with(probes=[{"name": "home", **URL, "periodMilliseconds": 2000}], budgets={"detectSeconds": 2}),
    ),
    *(
        Case(
            f"{budget} below the period",
            "RecoveryCheck",
            _with(probes=[{"name": "home", **URL, "periodMilliseconds": 2001}], budgets={budget: 2}),
            f"budgets.{budget} must not be below the sampling period of the slowest probe",
            f"spec.budgets.{budget}",
        )
        for budget in ("detectSeconds", "recoverSeconds", "outageSeconds")
    ),
    Case(
        "an address that is none",
        "RecoveryCheck",
        _probe(http={"url": "web.shop"}),
        "must be text of 1 to 2048 characters",
        "spec.probes[0].http.url",
        "should match",
    ),
    Case(
        "a port out of range",
        "RecoveryCheck",
        _probe(tcp={"host": "web", "port": 65536}),
        "must be a whole number from 1 to 65535; found 65536",
        "spec.probes[0].tcp.port",
        "less than or equal to 65535",
    ),
)

_PACKETS: Final = tuple(
    Case(name, "FaultExperiment", _fault(**entry), message, f"spec.faults[0]{field}" if message else "")
    for name, entry, message, field in (*PACKETS, *CONNECTIONS)
)
_NAMES: Final = tuple(
    Case(name, "FaultExperiment", _fault(**entry), message, f"spec.faults[0]{field}" if message else "", *says)
    for name, entry, message, field, *says in NAMES
)
CASES: Final = (*EXPERIMENTS, *_PACKETS, *_NAMES, *CHECKS)
