"""Specs of RecoveryCheck: workloads, good and bad."""

from __future__ import annotations

from typing import Any, Final

from bounceback.api import check_workload, probes, workload
from bounceback.api.check import PACELESS
from bounceback.types.rules import exactly_one
from tests.spec_case import Case, Change, having, probe

STORE: Final = {
    "url": "http://store",
    "write": {"path": "/items/{value}"},
    "list": {"path": "/items"},
}
TABLE: Final = {
    "kind": "PostgreSQL",
    "host": "db",
    "database": "shop",
    "write": "insert into t values ({value})",
    "list": "select v from t",
}
TCP: Final = {"tcp": {"host": "web", "port": 80}}
HTTP: Final = {"http": {"url": "http://web/"}}
WATCHED: Final = {"redis": {"host": "redis", "command": ["PING"]}}
FIELD: Final = "spec.workload"


OPEN: Final = {"open": {"perSecond": 50}}


def worked(load: Any = None, performance: Any = None, **fields: Any) -> Change:
    workload = {"model": "Set", "http": STORE, **({"load": load} if load else {}), **fields}
    return having(workload=workload, **({"performance": performance} if performance else {}))


WORKLOADS: Final = (
    Case("a look from a pod", "RecoveryCheck", probe(**TCP, vantage="Pod")),
    Case("a look from a pod by the API", "RecoveryCheck", probe(**WATCHED, vantage="Pod"), probes.NO_POD,
         "spec.probes[0].vantage"),
    Case("a signal from a pod that names the trouble", "RecoveryCheck",
         having(detection=[{"name": "said", **HTTP, "vantage": "Pod", "category": "status == 503"}]),
         probes.FAR_CATEGORY.message, "spec.detection[0].category"),
    Case("a signal of a strategy that names the trouble", "RecoveryCheck",
         having(detection=[{"name": "said", **HTTP, "tells": "Strategy", "category": "status == 503"}]),
         probes.NO_STRATEGY.message, "spec.detection[0].category"),
    Case("performance", "RecoveryCheck", worked(OPEN, performance={"throughputPercent": 90, "withinSeconds": 10})),
    Case("performance that asks nothing", "RecoveryCheck", worked(OPEN, performance={"withinSeconds": 10}),
         check_workload.NO_BOUND, "spec.performance"),
    Case("performance of nothing", "RecoveryCheck", having(performance={"latencyP99Percent": 150}), PACELESS,
         "spec.performance"),
    Case("performance of bursts", "RecoveryCheck",
         worked({"burst": {"size": 9, "everySeconds": 3}}, performance={"latencyP99Percent": 150}), PACELESS,
         "spec.performance"),
    Case("a workload", "RecoveryCheck", worked()),
    Case("a workload on Redis", "RecoveryCheck", having(workload={"model": "Counter", "redis": {"host": "redis"}})),
    Case("a workload on a database", "RecoveryCheck",
         having(workload={"model": "Set", "sql": TABLE, "passwordFrom": {"secretName": "shop-db"}})),
    Case("a workload with a variable of nobody's", "RecoveryCheck",
         having(workload={"model": "Set", "sql": {**TABLE, "passwordVariable": "PGPASSWORD"}}),
         check_workload.NO_ENVIRONMENT, "spec.workload.sql.passwordVariable"),
    Case("a workload by TLS", "RecoveryCheck",
         having(workload={"model": "Set", "sql": TABLE | {"tls": {"authorities": {"secretName": "ca"}}}})),
    Case("a workload with a file of nobody's", "RecoveryCheck",
         having(workload={"model": "Counter", "redis": {"host": "redis", "tls": {"authoritiesFile": "ca.crt"}}}),
         check_workload.NO_FILE, "spec.workload.redis.tls.authoritiesFile"),
    Case("a workload on objects", "RecoveryCheck",
         having(workload={"model": "Set", "kubernetes": {"namespace": "shop"}})),
    Case("a workload on objects as somebody else", "RecoveryCheck",
         having(workload={"model": "Set", "kubernetes": {"namespace": "shop", "kubeconfig": "/tmp/mine"}}),
         check_workload.NO_KUBECONFIG, "spec.workload.kubernetes.kubeconfig"),
    Case("a password that nobody asks for", "RecoveryCheck", worked(passwordFrom={"secretName": "shop-db"}),
         check_workload.NO_PASSWORD, "spec.workload.passwordFrom"),
    Case("a workload at a fixed rate", "RecoveryCheck", worked(load={"open": {"perSecond": 50}}, baselineSeconds=10)),
    Case("a workload that grows", "RecoveryCheck",
         worked(load={"ramp": {"fromPerSecond": 1, "toPerSecond": 9}}, seconds=60)),
    Case("a workload that grows for ever", "RecoveryCheck",
         worked(load={"ramp": {"fromPerSecond": 1, "toPerSecond": 9}}), check_workload.NO_END, f"{FIELD}.seconds"),
    Case("a workload on two systems", "RecoveryCheck", worked(redis={"host": "redis"}),
         exactly_one(workload.SYSTEMS), FIELD),
    Case("a workload that comes in two ways", "RecoveryCheck",
         worked(load={"open": {"perSecond": 5}, "closed": {}}), exactly_one(workload.LOADS), f"{FIELD}.load"),
)  # fmt: skip
