"""Where an object cannot be put right, that is told, its originals are kept, and it is tried again until it can."""

from __future__ import annotations

import asyncio

import pytest

from bounceback.controller import orphans, patching
from bounceback.controller.carry import Injections
from bounceback.controller.office import Office
from bounceback.controller.patching import Patching
from bounceback.controller.records import Planned, journal_record
from bounceback.engine.changing import changed, still_needed
from bounceback.engine.model import ObjectInfo
from bounceback.engine.originals import Originals
from bounceback.engine.planning import Chosen, injections
from bounceback.faults import ObjectFault
from bounceback.kube import Kube, KubeError, Resource
from bounceback.kube.kinds import Kinds
from bounceback.kube.resources import CONFIG_MAPS
from bounceback.types.instants import Instant
from bounceback.types.objects import ObjectKey
from bounceback.types.outcome import Cleanup, VehicleKind
from bounceback.types.plan import Rung
from bounceback.vehicles.access import access_manifest
from bounceback.vehicles.object_patch import ObjectPatch
from tests.conftest import ACCOUNT, OPERATOR, RBAC, apply, until_known
from tests.unit.engine_values import experiment

RUN = "00000000-0000-4000-8000-000000000001"
BINDINGS = Resource(RBAC, "rolebindings")


async def test_an_undo_without_rights_is_a_leftover_until_the_rights_are_back(
    kube: Kube, office: Office, home: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patching, "PATIENCE", 1.0)
    monkeypatch.setattr(orphans, "EVERY", 0.5)
    access = access_manifest(namespace, ACCOUNT, home, OPERATOR, objects=["configmaps"])
    await apply(kube, access)
    body = await kube.create(CONFIG_MAPS, namespace, {"metadata": {"name": "settings"}, "data": {"mode": "well"}})
    fault = {"fieldChanged": {"path": "/data/mode", "value": "broken"}}
    acting = kube.acting_as(namespace, ACCOUNT)
    await until_known(acting, namespace, CONFIG_MAPS)
    patch = ObjectPatch(acting, Kinds(kube), "the account")
    (change,) = ObjectFault.model_validate(fault).changes({**body, "kind": "ConfigMap", "apiVersion": "v1"}, RUN)
    change = await patch.rehearse(change)
    await patch.apply(change)

    spec = experiment(
        targets=[{"name": "it", "objects": {"apiVersion": "v1", "kind": "ConfigMap", "names": ["settings"]}}],
        faults=[{"name": "changed", "target": "it", "objectFault": fault, "durationSeconds": 600}],
    )
    info = ObjectInfo(ObjectKey("v1", "ConfigMap", namespace, "settings"), change.uid, body)
    chosen = Chosen(spec.faults[0], info, VehicleKind.OBJECT_PATCH, "", Rung.API, changes=(change,))
    (planned,) = injections(RUN, [chosen], Instant.now().utc)
    active = changed(planned, Instant.now(), 1)
    originals = Originals(namespace, "gone", ACCOUNT, {active.name: (change,)}, {active.name: 600.0})
    await office.journal.write(RUN, namespace, "gone", journal_record([active], Planned(originals=originals)))
    under_way = Injections([active], lambda: None)

    await kube.delete(BINDINGS, namespace, "bounceback-experiments")
    await until_forbidden(acting, namespace)
    await Patching(office, RUN, under_way, originals).stop()
    (left,) = under_way.all()
    assert (left.cleanup, left.leftovers) == (Cleanup.LEFTOVER, ["ConfigMap settings"])
    assert "cannot" in left.message
    assert still_needed([left])

    clearing = asyncio.create_task(orphans.clear_orphans(office))  # its experiment is not there any more
    try:
        await asyncio.sleep(1.5)
        assert await office.journal.all(), "the originals were given up"
        await apply(kube, access)
        async with asyncio.timeout(30):
            while await office.journal.all():
                await asyncio.sleep(0.1)
    finally:
        clearing.cancel()
    assert (await kube.get(CONFIG_MAPS, namespace, "settings"))["data"] == {"mode": "well"}


async def until_forbidden(acting: Kube, namespace: str) -> None:
    """The authorizer learns of it by a watch."""
    async with asyncio.timeout(30):
        while True:
            try:
                await acting.get(CONFIG_MAPS, namespace, "settings")
            except KubeError as error:
                assert error.status == 403
                return
            await asyncio.sleep(0.1)
