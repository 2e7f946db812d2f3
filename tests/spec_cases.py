"""Good and bad specs. The models and the API server are both held to this one table."""

from __future__ import annotations

from typing import Final

from bounceback.api import client_behavior
from tests.spec_case import (
    CIDR,
    INVARIANT,
    JITTER,
    NAME_OR_SELECTOR,
    ONE_FAULT,
    ONE_LOOK,
    ONE_PATTERN,
    ONE_PEER,
    READ,
    SELECTOR,
    TURNS,
    URL,
    VALUES,
    Case,
    having,
    pattern,
    peer,
    pods,
    probe,
    watched,
    with_fault,
)
from tests.spec_cases_api import API
from tests.spec_cases_connections import CONNECTIONS
from tests.spec_cases_manual import MANUAL
from tests.spec_cases_names import NAMES
from tests.spec_cases_objects import OBJECTS
from tests.spec_cases_packets import PACKETS
from tests.spec_cases_policy import NODES, POLICIES
from tests.spec_cases_pressure import PRESSURE
from tests.spec_cases_probes import ONE_READING, PROBES
from tests.spec_cases_reference import REFERENCE
from tests.spec_cases_runs import RUNS
from tests.spec_cases_scarce import SCARCE
from tests.spec_cases_signals import SIGNALS
from tests.spec_cases_start import COLLAPSES, STARTS
from tests.spec_cases_ways import KEYS, ONE_WAY
from tests.spec_cases_workload import WORKLOADS

EXPERIMENTS: Final = (
    *MANUAL,
    *STARTS,
    *COLLAPSES,
    Case("the plain experiment", "FaultExperiment", having()),
    Case("a fault without a kind", "FaultExperiment", with_fault(), ONE_FAULT, "spec.faults[0]"),
    Case(
        "a fault of two kinds",
        "FaultExperiment",
        with_fault(networkDelay={"delayMilliseconds": 1}, podDelete={}),
        ONE_FAULT,
        "spec.faults[0]",
    ),
    Case("every kind of peer", "FaultExperiment", peer(service={"name": "db"}, ports=[{"port": 5432}])),
    Case("a peer by network", "FaultExperiment", peer(cidr="10.0.0.0/8")),
    Case("a peer by network with host bits", "FaultExperiment", peer(cidr="10.1.2.3/8")),
    Case("a peer by address", "FaultExperiment", peer(cidr="2001:db8::1")),
    Case("a peer by labels", "FaultExperiment", peer(pods={"selector": SELECTOR})),
    Case("a peer of no kind", "FaultExperiment", peer(), ONE_PEER, "spec.faults[0].networkPartition.peers[0]"),
    Case(
        "a peer of two kinds",
        "FaultExperiment",
        peer(cidr="10.0.0.0/8", host="db.example.com"),
        ONE_PEER,
        "spec.faults[0].networkPartition.peers[0]",
    ),
    *(
        Case(f"a peer's network is {cidr!r}", "FaultExperiment", peer(cidr=cidr), CIDR, "peers[0].cidr")
        for cidr in ("nonsense", "10.0.0.0/33", "10.0.0.0/255.0.0.0", "fe80::1%eth0", "10.0.0", "")
    ),
    Case(
        "a selector that selects everything",
        "FaultExperiment",
        pods(selector={}),
        "matchLabels or matchExpressions must name at least one label",
        "spec.targets[0].pods.selector",
    ),
    Case(
        "a condition on a label",
        "FaultExperiment",
        pods(selector={"matchExpressions": [{"key": "app", "operator": "In", "values": ["web"]}]}),
    ),
    Case(
        "a condition without its values",
        "FaultExperiment",
        pods(selector={"matchExpressions": [{"key": "app", "operator": "NotIn"}]}),
        VALUES,
        "selector.matchExpressions[0].values",
    ),
    Case(
        "a condition with values that it does not take",
        "FaultExperiment",
        pods(selector={"matchExpressions": [{"key": "app", "operator": "Exists", "values": ["web"]}]}),
        VALUES,
        "selector.matchExpressions[0].values",
    ),
    Case(
        "a label's key that is too long",
        "FaultExperiment",
        pods(selector={"matchLabels": {"k" * 318: "web"}}),
        "must have 1 to 317 characters",
        "selector.matchLabels",
    ),
    Case("half of the pods", "FaultExperiment", pods(mode="Percent", value=50)),
    Case(
        "Percent without a value",
        "FaultExperiment",
        pods(mode="Percent"),
        "value must be given with mode Fixed or Percent, and with these only",
        "spec.targets[0].pods.value",
    ),
    Case(
        "All with a value",
        "FaultExperiment",
        pods(mode="All", value=1),
        "value must be given with mode Fixed or Percent, and with these only",
        "spec.targets[0].pods.value",
    ),
    Case(
        "more than all of them",
        "FaultExperiment",
        pods(mode="Percent", value=101),
        "value must be 1 to 100 for mode Percent",
        "spec.targets[0].pods.value",
    ),
    Case(
        "jitter as long as the delay",
        "FaultExperiment",
        with_fault(networkDelay={"delayMilliseconds": 9, "jitterMilliseconds": 9}),
    ),
    Case(
        "more jitter than delay",
        "FaultExperiment",
        with_fault(networkDelay={"delayMilliseconds": 9, "jitterMilliseconds": 10}),
        JITTER,
        "spec.faults[0].networkDelay.jitterMilliseconds",
    ),
    Case(
        "a distribution of nothing",
        "FaultExperiment",
        with_fault(networkDelay={"delayMilliseconds": 9, "distribution": "Normal"}),
        "jitterMilliseconds must be above 0 for a distribution other than Uniform",
        "spec.faults[0].networkDelay.jitterMilliseconds",
    ),
    Case(
        "correlated total loss",
        "FaultExperiment",
        with_fault(networkLoss={"lossPercent": 100, "correlationPercent": 1}),
        "correlationPercent must be 0 when every packet is lost",
        "spec.faults[0].networkLoss.correlationPercent",
    ),
    Case("loss by nft", "FaultExperiment", with_fault(networkLoss={"lossPercent": 5}, mechanism="Nft")),
    Case(
        "correlated loss by nft",
        "FaultExperiment",
        with_fault(networkLoss={"lossPercent": 5, "correlationPercent": 5}, mechanism="Nft"),
        "mechanism must be Netem or Relay, or unset, for networkLoss",
        "spec.faults[0].mechanism",
    ),
    Case(
        "loss by a request",
        "FaultExperiment",
        with_fault(networkLoss={"lossPercent": 5}, mechanism="Api"),
        "mechanism must be Netem or Nft or Relay, or unset, for networkLoss",
        "spec.faults[0].mechanism",
    ),
    Case(
        "a delay by nft",
        "FaultExperiment",
        with_fault(networkDelay={"delayMilliseconds": 5}, mechanism="Nft"),
        "mechanism must be Netem or Relay, or unset, for networkDelay",
        "spec.faults[0].mechanism",
    ),
    Case(
        "a partition by netem",
        "FaultExperiment",
        with_fault(networkPartition={}, mechanism="Netem"),
        "mechanism must be Nft or Relay, or unset, for networkPartition",
        "spec.faults[0].mechanism",
    ),
    Case(
        "a deletion by netem",
        "FaultExperiment",
        with_fault(podDelete={}, mechanism="Netem"),
        "mechanism must be Api, or unset, for podDelete",
        "spec.faults[0].mechanism",
    ),
    *(
        Case(
            f"{kind} by PodDelete",
            "FaultExperiment",
            with_fault(**{kind: fault}, vehicle="PodDelete"),
            f"vehicle must be Auto or Sidecar or NodePod for {kind}",
            "spec.faults[0].vehicle",
        )
        for kind, fault in (
            ("networkPartition", {}),
            ("networkDelay", {"delayMilliseconds": 5}),
            ("networkLoss", {"lossPercent": 5}),
        )
    ),
    Case(
        "a deletion by request", "FaultExperiment", with_fault(podDelete={"gracePeriodSeconds": 0}, vehicle="PodDelete")
    ),
    Case(
        "a deletion by sidecar",
        "FaultExperiment",
        with_fault(podDelete={}, vehicle="Sidecar"),
        "vehicle must be Auto or PodDelete for podDelete",
        "spec.faults[0].vehicle",
    ),
    Case("a fault in turns", "FaultExperiment", pattern(onOff={"onMilliseconds": 2000, "offMilliseconds": 500})),
    Case("a fault in random turns", "FaultExperiment", pattern(intermittent=TURNS)),
    Case("a fault that grows", "FaultExperiment", pattern(ramp={"fromPercent": 10, "toPercent": 100, "steps": 10})),
    Case("a pattern of no kind", "FaultExperiment", pattern(), ONE_PATTERN, "spec.faults[0].pattern"),
    Case(
        "turns that are longer at least than at most",
        "FaultExperiment",
        pattern(intermittent={**TURNS, "longestOnMilliseconds": 100}),
        "longestOnMilliseconds must not be below shortestOnMilliseconds",
        "spec.faults[0].pattern.intermittent.longestOnMilliseconds",
    ),
    Case(
        "pauses that are longer at least than at most",
        "FaultExperiment",
        pattern(intermittent={**TURNS, "longestOffMilliseconds": 100}),
        "longestOffMilliseconds must not be below shortestOffMilliseconds",
        "spec.faults[0].pattern.intermittent.longestOffMilliseconds",
    ),
    Case(
        "a deletion that comes and goes",
        "FaultExperiment",
        with_fault(podDelete={}, pattern={"onOff": {"onMilliseconds": 2000, "offMilliseconds": 500}}),
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
    Case("a bound on a check", "FaultExperiment", having(abortWhen=[{"check": "web-healthy", "failingSeconds": 30}])),
    Case(
        "a bound on a check that is not there",
        "FaultExperiment",
        having(abortWhen=[{"check": "db-healthy", "failingSeconds": 30}]),
        "must be one of spec.checks",
        "spec.abortWhen",
    ),
    Case("just enough time", "FaultExperiment", having(deadlineSeconds=36)),
    Case(
        "too little time",
        "FaultExperiment",
        having(deadlineSeconds=35),
        "deadlineSeconds must be above the time that the faults",
        "spec.deadlineSeconds",
    ),
    *RUNS,
    *REFERENCE,
    Case(
        "two targets of one name",
        "FaultExperiment",
        lambda spec: spec["targets"].append(spec["targets"][0]),
        "names must be unique; found more than once: web",
        "spec.targets[1]",
        schema_says="Duplicate value",
    ),
    Case(
        "no fault",
        "FaultExperiment",
        having(faults=[]),
        "a list of 1 to 20 entries",
        "spec.faults",
        "at least 1 items",
    ),
    Case(
        "no check",
        "FaultExperiment",
        having(checks=[]),
        "a list of 1 to 10 entries",
        "spec.checks",
        "at least 1 items",
    ),
    Case(
        "a number in quotes",
        "FaultExperiment",
        having(seed="7"),
        'must be a whole number from 0 to 2147483647; found "7"',
        "spec.seed",
        "must be of type integer",
    ),
    Case(
        "an unknown outcome",
        "FaultExperiment",
        having(expect="Survive"),
        'must be one of Recover, FailSafe, Manual; found "Survive"',
        "spec.expect",
        "Unsupported value",
    ),
    Case(
        "a delay out of bounds",
        "FaultExperiment",
        with_fault(networkDelay={"delayMilliseconds": 60_001}),
        "must be a whole number from 1 to 60000; found 60001",
        "spec.faults[0].networkDelay.delayMilliseconds",
        "less than or equal to 60000",
    ),
    Case(
        "an unknown field",
        "FaultExperiment",
        with_fault(networkDelay={"delayMilliseconds": 5, "jitterMillisecond": 1}),
        "did you mean jitterMilliseconds?",
        "spec.faults[0].networkDelay.jitterMillisecond",
        "unknown field",
    ),
    Case(
        "a name in capitals",
        "FaultExperiment",
        having(checks=[{"name": "Web"}]),
        "lower-case letters",
        "spec.checks[0].name",
        "should match",
    ),
)

CHECKS: Final = (
    *PROBES,
    *WORKLOADS,
    Case("the plain check", "RecoveryCheck", having()),
    Case("a probe that looks at nothing", "RecoveryCheck", probe(), ONE_LOOK, "spec.probes[0]"),
    Case(
        "a probe that looks twice",
        "RecoveryCheck",
        probe(**URL, tcp={"host": "web", "port": 80}),
        ONE_LOOK,
        "spec.probes[0]",
    ),
    Case("a watched object", "RecoveryCheck", watched(name="web")),
    Case("watched objects", "RecoveryCheck", watched(selector=SELECTOR)),
    Case(
        "a watch by name and labels",
        "RecoveryCheck",
        watched(name="web", selector=SELECTOR),
        NAME_OR_SELECTOR,
        "kubernetes.selector",
    ),
    Case(
        "a check that looks at nothing",
        "RecoveryCheck",
        having(probes=[]),
        "probes, invariants or an observation with unchanged must be given",
        "spec.probes",
    ),
    Case(
        "a check that watches by itself",
        "RecoveryCheck",
        having(mode="Continuous", suspend=True, continuous={"windowHours": 168, "outagesKept": 30}),
    ),
    Case(
        "a check that watches nothing",
        "RecoveryCheck",
        having(mode="Continuous", probes=[], observations=[READ], invariants=[INVARIANT]),
        "mode: Continuous needs probes",
        "spec.probes",
    ),
    Case("an invariant", "RecoveryCheck", having(observations=[READ], invariants=[INVARIANT])),
    Case(
        "an invariant of nothing",
        "RecoveryCheck",
        having(invariants=[INVARIANT]),
        "invariants need observations to speak of",
        "spec.observations",
    ),
    Case(
        "an observation of nothing",
        "RecoveryCheck",
        having(observations=[{"name": "orders"}]),
        ONE_READING,
        "spec.observations[0]",
    ),
    Case(
        "an observation by name and labels",
        "RecoveryCheck",
        having(
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
            having(**{one: [{"name": "twin", **URL}], other: [{"name": "twin", **URL}]}),
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
        having(probes=[{"name": "home", **URL, "periodMilliseconds": 2000}], budgets={"detectSeconds": 2}),
    ),
    *(
        Case(
            f"{budget} below the period",
            "RecoveryCheck",
            having(probes=[{"name": "home", **URL, "periodMilliseconds": 2001}], budgets={budget: 2}),
            f"budgets.{budget} must not be below the sampling period of the slowest probe",
            f"spec.budgets.{budget}",
        )
        for budget in ("detectSeconds", "recoverSeconds", "outageSeconds")
    ),
    Case("a client that is watched", "RecoveryCheck", having(clientBehavior={"maxHotLoops": 0, "backoff": "Constant"})),
    Case(
        "nothing asked of a client",
        "RecoveryCheck",
        having(clientBehavior={}),
        client_behavior.SOMETHING,
        "spec.clientBehavior",
    ),
    Case(
        "an address that is none",
        "RecoveryCheck",
        probe(http={"url": "web.shop"}),
        "must be text of 1 to 2048 characters",
        "spec.probes[0].http.url",
        "should match",
    ),
    Case(
        "a port out of range",
        "RecoveryCheck",
        probe(tcp={"host": "web", "port": 65536}),
        "must be a whole number from 1 to 65535; found 65536",
        "spec.probes[0].tcp.port",
        "less than or equal to 65535",
    ),
)

_PACKETS: Final = tuple(
    Case(name, "FaultExperiment", with_fault(**entry), message, f"spec.faults[0]{field}" if message else "")
    for name, entry, message, field in (*PACKETS, *CONNECTIONS, *API)
)
_NAMES: Final = tuple(
    Case(name, "FaultExperiment", with_fault(**entry), message, f"spec.faults[0]{field}" if message else "", *says)
    for name, entry, message, field, *says in (*NAMES, *PRESSURE, *SCARCE, *SIGNALS)
)
CASES: Final = (*EXPERIMENTS, *_PACKETS, *_NAMES, *OBJECTS, *CHECKS, *POLICIES, *NODES, *ONE_WAY, *KEYS)
