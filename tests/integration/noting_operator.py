"""A small operator, run by kopf: each config map that asks for it gets its `word` noted in an annotation."""

from __future__ import annotations

import kopf


@kopf.on.create("configmaps", labels={"noted": "please"})
@kopf.on.update("configmaps", labels={"noted": "please"})
def noted(body: kopf.Body, patch: kopf.Patch, **_: object) -> None:
    patch.metadata.annotations["noted"] = body["data"]["word"]
