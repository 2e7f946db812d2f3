"""What objectFault would do, found out without touching anything: reads and server-side dry runs only."""

from __future__ import annotations

import builtins
from collections.abc import Iterator
from typing import Any

from bounceback.api.experiment import FaultExperimentSpec, FaultTiming
from bounceback.api.targets import ObjectTargets
from bounceback.cli.cluster import JSON_PATCH, Cluster, Place, RefusedError
from bounceback.engine import restoring
from bounceback.engine.model import ObjectInfo
from bounceback.engine.originals import copy_of
from bounceback.engine.restoring import Create, Delete, Patch
from bounceback.engine.targets import choose
from bounceback.faults import ObjectFault
from bounceback.types.objects import RBAC, SECRET_KINDS, Change, ObjectKey, of_cluster

Json = dict[str, Any]


class Unforeseen(Exception):  # noqa: N818 - an answer, not a defect
    """It would be refused: at which field, and why."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field
        self.message = message


class ForesightObjects:
    """The objects that one experiment would change, as far as the account may look."""

    def __init__(self, acting: Cluster, namespace: str, spec: FaultExperimentSpec) -> None:
        self._acting = acting
        self._namespace = namespace
        self._spec = spec
        self.matching: dict[str, int] = {}
        self.picked: dict[str, str] = {}  # those that would be changed: UID, and kind and name

    def look(self, path: str, entry: FaultTiming) -> Iterator[ObjectInfo | Unforeseen]:
        """The objects that would be changed; for each that could not be: why."""
        assert isinstance(entry.fault, ObjectFault)
        index, target = next((n, t) for n, t in enumerate(self._spec.targets) if t.name == entry.target)
        assert target.objects is not None
        field = f"spec.targets[{index}].objects"
        try:
            found = self._find(field, entry.fault, target.objects)
        except Unforeseen as refused:
            yield refused
            return
        self.matching[target.name] = sum(each.running for each in found)
        picked = choose(found, target.objects, self._spec.seed, target.name)
        if not picked and target.objects.names is None:
            yield Unforeseen(f"{field}.selector", f"matches no {target.objects.kind} in {self._namespace}")
        for each in picked:
            self.picked[each.uid] = str(each.key)
            try:
                self._rehearse(f"{path}.{entry.fault.kind}.{entry.fault.field}", entry.fault, each)
                yield each
            except Unforeseen as refused:
                yield refused

    def _find(self, field: str, fault: ObjectFault, targets: ObjectTargets) -> builtins.list[ObjectInfo]:
        if unfit := fault.unfit(targets.api_version, targets.kind):
            raise Unforeseen(f"{field}.kind", unfit)
        place = self._place(field, targets.api_version, targets.kind)
        try:
            where = "" if of_cluster(targets.api_version, targets.kind) else self._namespace
            if targets.names is None:
                bodies = self._acting.list(place, where, str(targets.selector))
            else:
                bodies = [
                    self._named(f"{field}.names[{n}]", place, where, name) for n, name in enumerate(targets.names)
                ]
        except RefusedError as error:
            raise Unforeseen("spec.serviceAccountName", error.words) from error
        whole = [{**body, "apiVersion": targets.api_version, "kind": targets.kind} for body in bodies]
        return [ObjectInfo(ObjectKey.of(body), body["metadata"]["uid"], body) for body in whole]

    def _named(self, field: str, place: Place, namespace: str, name: str) -> Json:
        body = self._acting.get(place, namespace, name)
        if body is None:
            raise Unforeseen(field, f"there is no {name}" + (f" in {namespace}" if namespace else ""))
        return body

    def _place(self, field: str, api_version: str, kind: str) -> Place:
        entry = next((each for each in self._acting.served(api_version) if each["kind"] == kind), None)
        if entry is None:
            raise Unforeseen(f"{field}.kind", f"the cluster serves no {kind} of {api_version}; is its CRD installed?")
        if not entry["namespaced"] and not of_cluster(api_version, kind):
            raise Unforeseen(
                f"{field}.kind", f"{kind} is of the whole cluster; an experiment touches its own namespace only"
            )
        return Place(api_version, entry["name"])

    def _rehearse(self, field: str, fault: ObjectFault, target: ObjectInfo) -> None:
        try:
            changes = fault.changes(target.body, "plan", self._spec.service_account_name)
        except ValueError as error:
            raise Unforeseen(field, str(error)) from error
        for change in changes:
            try:
                self._try(change)
            except RefusedError as error:
                hidden = change.key.kind in SECRET_KINDS and error.status != 403
                words = f"{error.status} {error.reason} (its words are left out)" if hidden else error.words
                where = "spec.serviceAccountName" if error.status == 403 else field
                raise Unforeseen(where, f"a change of {change.key}: {words}") from error

    def _try(self, change: Change) -> None:
        key = change.key
        place = self._place("spec.targets", key.api_version, key.kind)
        match restoring.patch(change):
            case Patch() as wanted:
                ops = list(wanted.ops)
                self._acting.patch(place, key.namespace, key.name, ops, kind=JSON_PATCH, dry_run=True)
            case Create() as wanted:
                self._acting.create(place, wanted.body, dry_run=True)
            case Delete() as wanted:
                self._acting.delete(place, key.namespace, key.name, wanted.uid, dry_run=True)
        if change.after is None and not key.namespace:
            return  # a namespace: what is in it, and the way back, are seen at the start
        if change.before is not None and (change.after is None or key.api_version.startswith(RBAC)):
            self._acting.create(place, copy_of(change.before), dry_run=True)
