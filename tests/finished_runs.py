"""Finished experiments of every verdict, as an operator leaves them."""

from __future__ import annotations

from typing import Final

from tests.run_parts import Json, event, experiment, figure, injection, mark, moment, rfc3339

TARGETS: Final = [
    {"name": "web", "pods": {"selector": {"matchLabels": {"app": "web"}}, "mode": "Percent", "value": 50}}
]
CHECK: Final[Json] = {
    "name": "web-healthy",
    "uid": "c7d9e1a2-0000-4000-8000-000000000001",
    "generation": 3,
    "spec": {
        "probes": [
            {
                "name": "home",
                "http": {"url": "http://web.shop.svc/", "expectStatus": 200},
                "periodMilliseconds": 200,
                "timeoutMilliseconds": 1000,
            }
        ],
        "recovered": {"stableSeconds": 3},
        "budgets": {"detectSeconds": 2, "recoverSeconds": 30},
        "observations": [{"name": "orders", "http": {"url": "http://web.shop.svc/orders"}}],
        "invariants": [
            {"name": "orders-kept", "expression": "after.orders.count >= before.orders.count"},
        ],
    },
}
SLOW: Final[Json] = {
    "targets": TARGETS,
    "faults": [
        {
            "name": "slow",
            "target": "web",
            "networkDelay": {"delayMilliseconds": 200, "jitterMilliseconds": 20},
            "durationSeconds": 20,
        }
    ],
    "checks": [{"name": "web-healthy"}],
    "impact": "Allowed",
}
CUT: Final[Json] = {
    "targets": [{"name": "web", "pods": {"selector": {"matchLabels": {"app": "web"}}}}],
    "faults": [
        {
            "name": "cut",
            "target": "web",
            "networkPartition": {"peers": [{"service": {"name": "db"}, "ports": [{"port": 5432}]}]},
            "durationSeconds": 15,
        }
    ],
    "checks": [{"name": "web-healthy"}],
    "impact": "Required",
    "recoveryTimeoutSeconds": 60,
}


def passed() -> Json:
    force = {"inForceAt": moment(6.914), "firstHitAt": moment(6.991), "clearedAt": moment(26.921)}
    return experiment(
        "web-slow",
        SLOW,
        {
            "reason": "Passed",
            "message": "recovered, consistent, nothing left behind",
            "finishedAt": rfc3339(31.9),
            "verdict": "Passed",
            "axes": {"injection": "Proven", "recovery": "Passed", "consistency": "Passed", "cleanup": "Clean"},
            "aspects": {"detection": "NotChecked", "success": "Passed", "consistency": "Passed"},
            "checks": [CHECK],
            "targets": {"web": 2},
            "matching": {"web": 4},
            "injections": [
                injection(1, "slow", "web-6f9c7d5b8-2xkqp", **force),
                injection(2, "slow", "web-6f9c7d5b8-hw9lr", **{**force, "clearedAt": moment(26.944)}),
            ],
            "marks": [
                mark("Planned", 6.102),
                mark("Active", 6.984, 6.998, "slow on web-6f9c7d5b8-2xkqp"),
                mark("FirstSymptom", 7.206, 7.628, "web-healthy/home"),
                mark("Cleared", 26.938, 26.951, "slow on web-6f9c7d5b8-hw9lr"),
                mark("Recovered", 28.204, 28.614, "probes"),
                mark("Stable", 31.63, 31.63, "probes"),
            ],
            "observed": {
                "before": {"web-healthy": {"orders": {"count": 4210, "token": "do-not-show-this"}}},
                "clear": {"web-healthy": {"orders": {"count": 4301, "token": "do-not-show-this"}}},
                "clearProblems": {"web-healthy": {"stock": "connection refused by redis://ann:do-not-show-this@stock"}},
                "clearSeconds": [0.112, 0.431],
                "after": {"web-healthy": {"orders": {"count": 4388, "token": "do-not-show-this"}}},
            },
            "views": [
                {
                    "name": "web-healthy",
                    "samples": 151,
                    "healthySamples": 139,
                    "symptoms": ["home: no answer within 1000 ms", "home: no answer within 1000 ms"],
                }
            ],
            "invariants": [{"check": "web-healthy", "name": "orders-kept", "result": "Passed", "message": ""}],
            "figures": {
                "activation": figure(0.882, 0.896),
                "detection": figure(0.208, 0.644),
                "detectedBy": "Probe",
                "outage": figure(20.576, 21.408),
                "recovery": figure(1.253, 1.676),
            },
            "findings": [],
            "detected": "0.4s",
            "recovered": "1.5s",
            "timeline": [
                event(0.41, "Steady", "2 pods chosen"),
                event(6.1, "Injecting", "2 injections planned on 2 of 4 pods of web"),
                event(7.0, "Active", "2 injections in force"),
                event(26.96, "Clearing", "all faults are over"),
                event(27.3, "Recovering", "all injections are cleared"),
                event(31.63, "Verifying", "stable for 3.2 s"),
                event(31.9, "Finished", "recovered, consistent, nothing left behind"),
            ],
        },
    )


def failed() -> Json:
    force = {
        "vehicle": "NodePod",
        "vehicleReason": "Pod Security refuses a sidecar in pod web-broken-0",
        "rung": "Nft",
        "hits": 97,
        "inForceAt": moment(6.4),
        "firstHitAt": moment(6.52),
        "clearedAt": moment(21.4),
    }
    why = "not healthy again after the fault was cleared: web-healthy/home: 503, expected 200"
    return experiment(
        "web-cut-off",
        CUT,
        {
            "reason": "NotRecovered",
            "message": why,
            "finishedAt": rfc3339(82.6),
            "verdict": "Failed",
            "axes": {"injection": "Proven", "recovery": "Failed", "consistency": "Failed", "cleanup": "Clean"},
            "aspects": {"detection": "Failed", "success": "Failed", "consistency": "Failed"},
            "checks": [CHECK],
            "targets": {"web": 2},
            "injections": [
                injection(3, "cut", "web-broken-0", **force),
                injection(4, "cut", "web-broken-1", **{**force, "hits": 84, "clearedAt": moment(21.43)}),
            ],
            "marks": [
                mark("Planned", 5.6),
                mark("Active", 6.51, 6.53, "cut on web-broken-0"),
                mark("FirstSymptom", 6.7, 6.93, "web-healthy/home"),
                mark("Cleared", 21.42, 21.44, "cut on web-broken-1"),
            ],
            "views": [
                {
                    "name": "web-healthy",
                    "samples": 402,
                    "healthySamples": 33,
                    "symptoms": [
                        "home: 503, expected 200; <script>alert('x')</script> & more",
                        "home: 503, expected 200",
                    ],
                }
            ],
            "invariants": [
                {
                    "check": "web-healthy",
                    "name": "orders-kept",
                    "result": "Failed",
                    "message": "after.orders.count >= before.orders.count is false",
                }
            ],
            "figures": {"activation": figure(0.91, 0.93), "detection": figure(0.17, 0.42), "detectedBy": "Probe"},
            "findings": [
                {
                    "verdict": "Failed",
                    "reason": "InvariantBroken",
                    "message": "web-healthy/orders-kept: after.orders.count >= before.orders.count is false",
                },
                {"verdict": "Failed", "reason": "NotRecovered", "message": why},
            ],
            "detected": "0.3s",
            "timeline": [
                event(0.3, "Steady", "2 pods chosen"),
                event(5.6, "Injecting", "2 injections planned on 2 of 4 pods of web"),
                event(6.55, "Active", "2 injections in force"),
                event(21.45, "Clearing", "all faults are over"),
                event(21.8, "Recovering", "all injections are cleared"),
                event(81.5, "Verifying", "not recovered after 60 s: web-healthy/home: 503, expected 200"),
                event(82.6, "Finished", "orders were lost"),
            ],
        },
    )


def inconclusive() -> Json:
    """Nobody talks to that peer, and for a while nobody looked."""
    force = {"rung": "Nft", "hits": 0, "inForceAt": moment(6.4), "clearedAt": moment(21.4)}
    idle = "0 of 2 injections had 1 hits or more, 100 % are asked for; is anyone talking to these peers?"
    return experiment(
        "web-idle-peer",
        CUT,
        {
            "reason": "FaultHitNothing",
            "message": idle,
            "finishedAt": rfc3339(25.6),
            "verdict": "Inconclusive",
            "axes": {
                "injection": "Unproven",
                "recovery": "Inconclusive",
                "consistency": "Passed",
                "cleanup": "Unverified",
            },
            "aspects": {"success": "Inconclusive", "consistency": "Passed"},
            "checks": [CHECK],
            "targets": {"web": 2},
            "injections": [
                injection(5, "cut", "web-6f9c7d5b8-2xkqp", **force),
                injection(
                    6, "cut", "web-6f9c7d5b8-hw9lr", **{**force, "cleanup": "Unverified", "reason": "TargetGone"}
                ),
            ],
            "marks": [
                mark("Planned", 5.6),
                mark("Cleared", 21.4, 21.9, "cut on web-6f9c7d5b8-hw9lr"),
                mark("Recovered", 0.2, 0.4, "probes"),
                mark("Stable", 24.9, 24.9, "probes"),
            ],
            "gaps": [[moment(12.1), moment(16.8)]],
            "views": [{"name": "web-healthy", "samples": 101, "healthySamples": 101, "symptoms": []}],
            "invariants": [{"check": "web-healthy", "name": "orders-kept", "result": "Passed"}],
            "figures": {},
            "findings": [
                {"verdict": "Inconclusive", "reason": "FaultHitNothing", "message": idle},
                {
                    "verdict": "Inconclusive",
                    "reason": "CleanupUnverified",
                    "message": "nobody could look for what was left: bbi-0000000006",
                },
                {
                    "verdict": "Inconclusive",
                    "reason": "NotFelt",
                    "message": "impact is Required, but no probe saw a symptom",
                },
            ],
            "timeline": [
                event(0.3, "Steady", "2 pods chosen"),
                event(5.6, "Injecting", "2 injections planned on 2 of 4 pods of web"),
                event(6.55, "Active", "2 injections in force"),
                event(21.45, "Clearing", "all faults are over"),
                event(21.9, "Recovering", "all injections are cleared"),
                event(25.0, "Verifying", "stable for 3.1 s"),
                event(25.6, "Finished", idle),
            ],
        },
    )


def aborted() -> Json:
    """An abort condition came true; the second fault never began."""
    ending = {
        "verdict": "Aborted",
        "reason": "AbortCondition",
        "message": "web-healthy/home was unhealthy for 5.0 s; abortWhen allows 5 s",
    }
    spec = {
        **SLOW,
        "faults": [
            *SLOW["faults"],
            {"name": "kill", "target": "web", "podDelete": {"gracePeriodSeconds": 0}, "startAfterSeconds": 15},
        ],
        "abortWhen": [{"check": "web-healthy", "failingSeconds": 5}],
    }
    force = {"inForceAt": moment(6.9), "firstHitAt": moment(6.99), "clearedAt": moment(12.51), "reason": "Stopped"}
    return experiment(
        "web-slow-and-killed",
        spec,
        {
            "reason": "AbortCondition",
            "message": ending["message"],
            "ending": ending,
            "finishedAt": rfc3339(17.3),
            "verdict": "Aborted",
            "axes": {"injection": "Unproven", "recovery": "Passed", "consistency": "Passed", "cleanup": "Clean"},
            "aspects": {"success": "Passed", "consistency": "Passed"},
            "checks": [CHECK],
            "targets": {"web": 2},
            "injections": [
                injection(7, "slow", "web-6f9c7d5b8-2xkqp", **force),
                injection(8, "slow", "web-6f9c7d5b8-hw9lr", **force),
                injection(
                    9,
                    "kill",
                    "web-6f9c7d5b8-2xkqp",
                    vehicle="PodDelete",
                    vehicleReason="a request to the API",
                    rung="Api",
                    agent="",
                    hits=0,
                    reason="Stopped",
                ),
            ],
            "marks": [
                mark("Planned", 6.1),
                mark("Active", 6.984, 6.998, "slow on web-6f9c7d5b8-2xkqp"),
                mark("FirstSymptom", 7.2, 7.63, "web-healthy/home"),
                mark("Cleared", 12.5, 12.52, "slow on web-6f9c7d5b8-hw9lr"),
                mark("Recovered", 13.2, 13.6, "probes"),
                mark("Stable", 16.7, 16.7, "probes"),
            ],
            "views": [{"name": "web-healthy", "samples": 81, "healthySamples": 52, "symptoms": ["home: no answer"]}],
            "invariants": [{"check": "web-healthy", "name": "orders-kept", "result": "Passed"}],
            "figures": {
                "activation": figure(0.88, 0.9),
                "detection": figure(0.2, 0.65),
                "detectedBy": "Probe",
                "outage": figure(5.57, 6.4),
                "recovery": figure(0.68, 1.1),
            },
            "findings": [
                ending,
                {
                    "verdict": "Inconclusive",
                    "reason": "FaultTooShort",
                    "message": "in force for less than 90 % of the asked time: bbi-0000000007 5.6 s",
                },
            ],
            "detected": "0.4s",
            "recovered": "0.9s",
            "timeline": [
                event(0.41, "Steady", "2 pods chosen"),
                event(6.1, "Injecting", "3 injections planned on 2 pods of web"),
                event(7.0, "Active", "2 injections in force"),
                event(12.3, "Clearing", ending["message"]),
                event(12.9, "Recovering", "all injections are cleared"),
                event(16.7, "Verifying", "stable for 3.1 s"),
                event(17.3, "Finished", ending["message"]),
            ],
        },
    )


def refused() -> Json:
    """The system was not steady, so nothing was touched."""
    ending = {
        "verdict": "Aborted",
        "reason": "NotSteady",
        "message": "not steady within 60 s, so nothing was injected: web-healthy/home: connection refused",
    }
    return experiment(
        "web-never-steady",
        SLOW,
        {
            "reason": "NotSteady",
            "message": ending["message"],
            "ending": ending,
            "finishedAt": rfc3339(60.8),
            "verdict": "Aborted",
            "axes": {
                "injection": "Unproven",
                "recovery": "Inconclusive",
                "consistency": "Inconclusive",
                "cleanup": "Clean",
            },
            "checks": [CHECK],
            "targets": {"web": 2},
            "views": [{"name": "web-healthy", "samples": 301, "healthySamples": 0, "symptoms": ["home: refused"]}],
            "findings": [ending],
            "timeline": [
                event(0.4, "Steady", "2 pods chosen"),
                event(60.8, "Finished", ending["message"]),
            ],
        },
    )


def error() -> Json:
    """Something was left behind, on one of many pods; the nodes have clocks of their own."""
    boot = "11111111-2222-4333-8444-555555555555"

    def on_node(elapsed: float) -> Json:
        return {**moment(elapsed + 0.25, boot), "nanos": round((elapsed + 5) * 1e9)}

    pods = [
        injection(
            100 + number,
            "slow",
            f"web-{number:03d}",
            node=f"node-{number % 3 + 1}",
            hits=100 + number,
            inForceAt=on_node(6.8 + number * 0.003),
            firstHitAt=on_node(6.9 + number * 0.003),
            clearedAt=on_node(26.8 + number * 0.003),
            clockOffsetMilliseconds=250,
            clockErrorMilliseconds=12,
        )
        for number in range(40)
    ]
    pods[7] |= {"cleanup": "Leftover", "leftovers": ["qdisc netem 8001: root on eth0"], "reason": "AgentLost"}
    left = "bbi-000000006b left on web-007: qdisc netem 8001: root on eth0"
    body = experiment("web-left-behind", SLOW, {**passed()["status"], "injections": pods, "targets": {"web": 40}})
    del body["status"]["injectionCounts"]
    return experiment(
        "web-left-behind",
        SLOW,
        {
            **body["status"],
            "reason": "Leftover",
            "message": left,
            "verdict": "Error",
            "axes": {"injection": "Proven", "recovery": "Passed", "consistency": "Passed", "cleanup": "Leftover"},
            "findings": [{"verdict": "Error", "reason": "Leftover", "message": left}],
        },
    )


RUNS: Final = {
    "passed": passed,
    "failed": failed,
    "inconclusive": inconclusive,
    "aborted": aborted,
    "refused": refused,
    "error": error,
}
