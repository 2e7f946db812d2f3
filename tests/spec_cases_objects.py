"""Good and bad faults on objects of the Kubernetes API, and targets that are such objects, for the table of spec_cases.
Which object fits which kind: tests/unit/test_object_kinds.py."""

from __future__ import annotations

from typing import Any, Final

from bounceback.api.experiment import SORT_OF_TARGET
from bounceback.api.targets import OF_CLUSTER_BY_NAME, VALUE_WITH_MODE
from bounceback.faults.object_fault import FIELDS, NO_HEALING
from bounceback.faults.object_kinds.base import ONCE, SOME
from bounceback.faults.object_kinds.fields import NOT_THERE
from bounceback.types.objects import ADMISSION
from tests.spec_case import Case, Change, Json

_DEPLOYMENT: Final = {"apiVersion": "apps/v1", "kind": "Deployment", "names": ["web"]}
_ONE: Final = f"exactly one of {', '.join(FIELDS)} must be given"


def _experiment(fault: Json, **target: Any) -> Change:
    def change(spec: Json) -> None:
        spec["targets"] = [{"name": "web", **(target or {"objects": _DEPLOYMENT})}]
        spec["faults"] = [{"name": "wrong", "target": "web", **fault}]

    return change


def _done(**fields: Any) -> Json:
    return {"objectFault": fields}


def _objects(**fields: Any) -> Json:
    return {"objects": {"apiVersion": "v1", "kind": "ConfigMap", **fields}}


def _at(path: str) -> Json:
    return _done(fieldChanged={"path": path, "value": 1})


_ZERO: Final = _done(scaledToZero={})
_FAULTS: Final[tuple[tuple[str, Json, str, str], ...]] = (
    ("no replicas, which must heal", _done(scaledToZero={}, healing="Required"), "", ""),
    ("another command", _done(crashLoop={"container": "app", "command": ["sh", "-c", "exit 1"]}), "", ""),
    ("every kind's defaults", _done(badImage={}), "", ""),
    ("another value", _done(fieldChanged={"path": "/spec/paused", "value": True}), "", ""),
    ("another list", _done(fieldChanged={"path": "/spec/x~1y/0", "value": ["a", {"b": None}]}), "", ""),
    ("another annotation", _at("/metadata/annotations/example.com~1owner"), "", ""),
    ("a field without another", _done(fieldRemoved={"path": "/spec/strategy"}), "", ""),
    ("keys that drift", _done(dataDrift={"set": {"a": ""}, "remove": ["b"]}), "", ""),
    ("a lease that another has", _done(leaseTaken={}, healing="Forbidden"), "", ""),
    ("one that is kept as it is", {**_done(frozen={"paths": ["/data"]}), "vehicle": "ObjectPatch"}, "", ""),
    ("an object fault that does nothing", _done(), _ONE, ".objectFault"),
    ("an object fault that does two things", _done(scaledToZero={}, deleted={}), _ONE, ".objectFault"),
    *(
        (f"healing of what is set back: {field}", _done(**{field: {}}, healing="Required"), NO_HEALING,
         ".objectFault.healing")
        for field in ("leaseTaken", "frozen")
    ),
    *(
        (f"{path} has another value", _at(path), f"path {NOT_THERE}", ".objectFault.fieldChanged.path")
        for path in ("/status/ready", "/kind", "/apiVersion", "/metadata", "/metadata/uid", "/metadata/finalizers/0",
                     "/metadata/labels")
    ),
    ("an owner is taken away", _done(fieldRemoved={"path": "/metadata/ownerReferences"}), f"path {NOT_THERE}",
     ".objectFault.fieldRemoved.path"),
    ("a status that is kept", _done(frozen={"paths": ["/spec", "/status"]}), f"paths {NOT_THERE}",
     ".objectFault.frozen.paths"),
    ("labels of none", _done(labelsChanged={}), SOME, ".objectFault.labelsChanged"),
    ("a label set and removed", _done(labelsChanged={"set": {"a": "b"}, "remove": ["a"]}), ONCE,
     ".objectFault.labelsChanged.remove"),
    ("data of none", _done(dataDrift={}), SOME, ".objectFault.dataDrift"),
    ("a key set and removed", _done(dataDrift={"set": {"a": "b"}, "remove": ["a"]}), ONCE,
     ".objectFault.dataDrift.remove"),
    ("data under an endless key", _done(dataDrift={"set": {"x" * 254: "x"}}), "must have 1 to 253 characters",
     ".objectFault.dataDrift.set"),
    ("objectFault by nft", {**_ZERO, "mechanism": "Nft"}, "mechanism must be Api, or unset, for objectFault",
     ".mechanism"),
    ("objectFault by a deletion", {**_ZERO, "vehicle": "PodDelete"}, "vehicle must be Auto or ObjectPatch for",
     ".vehicle"),
    ("objectFault in turns", {**_ZERO, "pattern": {"onOff": {"onMilliseconds": 500, "offMilliseconds": 500}}},
     "pattern must be unset for objectFault", ".pattern"),
)  # fmt: skip
_SAID_BY_THE_SCHEMA: Final[tuple[tuple[str, Json, str, str, str], ...]] = (
    ("a path that is none", _at("spec"), "must be text of 2 to 512 characters", ".objectFault.fieldChanged.path",
     "should match"),
    ("a change to nothing", _done(fieldChanged={"path": "/spec/a"}), "must be given: any value",
     ".objectFault.fieldChanged.value", "Required value"),
)  # fmt: skip
_PLAIN: Final[Json] = {"networkPartition": {}}
_IGNORED: Final = _done(webhookFailurePolicyChanged={"failurePolicy": "Ignore"})
_WEBHOOKS: Final[Json] = {"apiVersion": ADMISSION, "kind": "ValidatingWebhookConfiguration"}
_TARGETS: Final[tuple[tuple[str, Json, Json, str, str], ...]] = (
    ("objects by name", _ZERO, _objects(names=["a", "b"]), "", ""),
    ("one object by label", _ZERO, _objects(selector={"matchLabels": {"a": "b"}}, mode="One"), "", ""),
    ("a target of nothing", _ZERO, {"objects": None}, "exactly one of pods, objects, nodes must be given",
     "spec.targets[0]"),
    ("objects of no name", _ZERO, _objects(), "exactly one of names, selector must be given",
     "spec.targets[0].objects"),
    ("some objects of how many", _ZERO, _objects(names=["a"], mode="Fixed"), VALUE_WITH_MODE,
     "spec.targets[0].objects.value"),
    ("webhooks by name", _IGNORED, _objects(**_WEBHOOKS, names=["guard"]), "", ""),
    ("webhooks by label", _IGNORED, _objects(**_WEBHOOKS, selector={"matchLabels": {"a": "b"}}), OF_CLUSTER_BY_NAME,
     "spec.targets[0].objects.selector"),
    ("a partition of objects", _PLAIN, _objects(names=["a"]), SORT_OF_TARGET, "spec.faults"),
    ("an object fault on pods", _ZERO, {"pods": {"selector": {"matchLabels": {"a": "b"}}}}, SORT_OF_TARGET,
     "spec.faults"),
)  # fmt: skip

OBJECTS: Final = (
    *(
        Case(name, "FaultExperiment", _experiment(fault), message, f"spec.faults[0]{field}" if message else "")
        for name, fault, message, field in _FAULTS
    ),
    *(
        Case(name, "FaultExperiment", _experiment(fault), message, f"spec.faults[0]{field}", schema)
        for name, fault, message, field, schema in _SAID_BY_THE_SCHEMA
    ),
    *(
        Case(name, "FaultExperiment", _experiment(fault, **target), message, field)
        for name, fault, target, message, field in _TARGETS
    ),
)
