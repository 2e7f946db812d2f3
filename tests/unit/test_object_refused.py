"""What the API server has against a change of rights is told with the way out, whichever step it refuses."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest

from bounceback.kube import Kube, KubeError
from bounceback.kube.kinds import Kinds
from bounceback.types.objects import RBAC, Change, ObjectKey
from bounceback.vehicles.errors import Refused
from bounceback.vehicles.object_patch import MAY_GRANT, ObjectPatch

Json = dict[str, Any]
BINDING: Json = {
    "apiVersion": f"{RBAC}v1",
    "kind": "RoleBinding",
    "metadata": {"name": "reader", "namespace": "shop", "uid": "u-1", "resourceVersion": "1"},
    "subjects": [{"kind": "User", "name": "jane"}],
}
CLEARED = {key: value for key, value in BINDING.items() if key != "subjects"}
WORDS = 'user "x" (groups=[]) is attempting to grant RBAC permissions not currently held:\n{APIGroups:["apps"]}'


class Escalating:
    """Takes no binding from us, neither a changed one, which counts as granting it, nor a new one, where that is so."""

    def __init__(self, *refused: str) -> None:
        self._refused = refused

    async def raw(self, *_: object) -> bytes:
        return json.dumps({"resources": [{"name": "rolebindings", "kind": "RoleBinding", "namespaced": True}]}).encode()

    async def patch(self, *_: object, **__: object) -> Json:
        return self._answer("patch", CLEARED)

    async def create(self, *_: object, **__: object) -> Json:
        return self._answer("create", BINDING)

    def _answer(self, verb: str, body: Json) -> Json:
        if verb in self._refused:
            raise KubeError(403, "Forbidden", WORDS)
        return body


@pytest.mark.parametrize(
    ("refused", "what"),
    [("patch", "a change of RoleBinding reader"), ("create", "RoleBinding reader anew, to put it back")],
)
async def test_rights_that_an_account_cannot_give_are_told_with_what_it_needs(refused: str, what: str) -> None:
    kube = cast(Kube, Escalating(refused))
    patch = ObjectPatch(kube, Kinds(kube), "account chaos")
    with pytest.raises(Refused) as told:
        await patch.rehearse(Change(ObjectKey.of(BINDING), BINDING, CLEARED))
    assert told.value.message == f"account chaos may not make {what}: {WORDS}; {MAY_GRANT}"
