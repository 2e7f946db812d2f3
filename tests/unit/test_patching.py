"""Who put a changed object right, where it cannot be looked at."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from bounceback.controller.carry import Injections
from bounceback.controller.patching import Patching
from bounceback.engine import changing
from bounceback.engine.model import ObjectInfo
from bounceback.engine.originals import Originals
from bounceback.engine.planning import Chosen, injections
from bounceback.kube.errors import KubeError
from bounceback.kube.kinds import UnknownKindError
from bounceback.types.instants import Instant
from bounceback.types.objects import Change, ObjectKey
from bounceback.types.outcome import HealedBy, VehicleKind
from bounceback.types.plan import Rung
from bounceback.vehicles.object_patch import Undone
from tests.unit.engine_values import experiment

KEY = ObjectKey("example.com/v1", "Thing", "shop", "web")
BODY = {"apiVersion": KEY.api_version, "kind": KEY.kind, "metadata": {"name": "web", "namespace": "shop", "uid": "u-1"}}
NAMESPACE = ObjectKey("v1", "Namespace", "", "tenant")
SECONDS = 0.3


class Blind:
    """The API server answers nothing but the undo."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def resource(self, key: ObjectKey) -> Any:
        raise self._error

    async def undo(self, change: Change) -> Undone:
        return Undone()


@pytest.mark.parametrize("namespace", [False, True], ids=["object", "namespace"])
@pytest.mark.parametrize("error", [KubeError(503, "", "no"), UnknownKindError("gone"), ZeroDivisionError()], ids=repr)
async def test_what_nobody_could_look_at_is_not_healed(error: Exception, namespace: bool) -> None:
    spec = experiment(
        targets=[{"name": "it", "objects": {"apiVersion": "example.com/v1", "kind": "Thing", "names": ["web"]}}],
        faults=[{"name": "gone", "target": "it", "objectFault": {"deleted": {}}, "durationSeconds": 1}],
    )
    info = ObjectInfo(KEY, "u-1", BODY)
    chosen = Chosen(spec.faults[0], info, VehicleKind.OBJECT_PATCH, "", Rung.API)
    (planned,) = injections("run-1", [chosen], time.time())
    changes: tuple[Change, ...] = (Change(KEY, BODY, None),)
    if namespace:
        way = Change(KEY, BODY, None, along=True)
        changes = (way, way, Change(NAMESPACE, {**BODY, "kind": "Namespace"}, None))
    active = changing.changed(planned, Instant.now(), 1)
    originals = Originals("shop", "gone", "account", {active.name: changes}, {active.name: SECONDS})
    kube, leadership = SimpleNamespace(acting_as=lambda *_: None), SimpleNamespace(check=lambda: None)
    settings = SimpleNamespace(namespace="", image="", pull_policy="", account="", tolerations=())
    office: Any = SimpleNamespace(kube=kube, settings=settings, leadership=leadership)
    known = Injections([active], lambda: None)
    patching = Patching(office, "run-1", known, originals)
    patching._patch = Blind(error)  # type: ignore[assignment]
    if isinstance(error, ZeroDivisionError):
        with pytest.raises(ZeroDivisionError):
            await patching._last(active)
        assert known.all()[0].healed is None
        return
    await patching._last(active)
    (after,) = known.all()
    assert after.healed is not None and after.healed.by is HealedBy.UNDO
    assert after.healed.milliseconds >= SECONDS * 1000 * 0.9
