"""Reading and writing experiments: each status write tests that nobody else wrote since."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from bounceback.api import FINALIZER
from bounceback.engine.repairing import REPAIRED_ANNOTATION
from bounceback.kube import Kube, KubeError
from bounceback.kube.client import Json
from bounceback.kube.resources import EXPERIMENTS
from bounceback.types.outcome import Mark

STARTED_UID: Final = "bounceback.dev/started-uid"


class FencedError(Exception):
    """Another operator has taken this run over: stop, write nothing, touch nothing."""


class GoneError(Exception):
    """The experiment is not there any more, or another of the same name is."""


async def fresh(kube: Kube, body: Json) -> Json:
    """The experiment as it is now; raises GoneError when it is not that one any more."""
    metadata = body["metadata"]
    try:
        now = await kube.get(EXPERIMENTS, metadata["namespace"], metadata["name"])
    except KubeError as error:
        if error.gone:
            raise GoneError(f"{metadata['namespace']}/{metadata['name']}") from error
        raise
    if now["metadata"]["uid"] != metadata["uid"]:
        raise GoneError(f"{metadata['namespace']}/{metadata['name']}")
    return now


async def write_status(kube: Kube, body: Json, status: Json) -> Json:
    """Write it over the one that `body` carries; what changed beside the status is taken over.

    Raises FencedError when the status that is there is not the one that `body` carries, GoneError when there is none.
    """
    expected = _revision(body)
    while True:
        metadata = body["metadata"]
        try:
            return await kube.replace(
                EXPERIMENTS, metadata["namespace"], metadata["name"], {**body, "status": status}, "status"
            )
        except KubeError as error:
            if error.gone:
                raise GoneError(error.message) from error
            if not error.conflict:
                raise
        body = await fresh(kube, body)
        if body.get("status") == status:  # written by an earlier try, whose answer was lost
            return body
        if _revision(body) != expected:
            raise FencedError(f"revision {_revision(body)} was written by another; this operator knew {expected}")


async def claim(kube: Kube, body: Json) -> Json:
    """Mark the experiment as started under its own UID, and hold its deletion until all is cleared."""
    return await _edit(kube, body, started=True, held=True)


async def let_go(kube: Kube, body: Json) -> None:
    """Take our finalizer off; others' are never touched. Nothing to do where it is gone already."""
    try:
        await _edit(kube, body, started=True, held=False)
    except GoneError:
        return


async def _edit(kube: Kube, body: Json, *, started: bool, held: bool) -> Json:
    while True:
        metadata = body["metadata"]
        finalizers = [f for f in metadata.get("finalizers") or [] if f != FINALIZER] + ([FINALIZER] if held else [])
        change: dict[str, Any] = {"resourceVersion": metadata["resourceVersion"], "finalizers": finalizers}
        if started:
            change["annotations"] = {STARTED_UID: metadata["uid"]}
        try:
            return await kube.patch(EXPERIMENTS, metadata["namespace"], metadata["name"], {"metadata": change})
        except KubeError as error:
            if error.gone:
                raise GoneError(error.message) from error
            if not error.conflict:
                raise
        body = await fresh(kube, body)


def glimpse(body: Mapping[str, Any]) -> Json:
    """What must be known of one that changed: thousands may wait for their turn, and a whole one takes 60 KB."""
    metadata, spec, status = body["metadata"], body.get("spec") or {}, body.get("status") or {}
    annotations = metadata.get("annotations") or {}
    planned = [mark for mark in status.get("marks") or () if mark["mark"] == Mark.PLANNED]
    return {
        "kind": body["kind"],
        "metadata": {
            "namespace": metadata["namespace"],
            "name": metadata["name"],
            "uid": metadata["uid"],
            "deletionTimestamp": metadata.get("deletionTimestamp"),
            "finalizers": list(metadata.get("finalizers") or []),
            "annotations": {key: annotations[key] for key in (STARTED_UID, REPAIRED_ANNOTATION) if key in annotations},
        },
        "spec": {key: spec[key] for key in ("cancel", "ttlSecondsAfterFinished") if key in spec},
        "status": {key: status[key] for key in ("phase", "finishedAt") if key in status}
        | ({"marks": [{"mark": mark["mark"], "earliest": {"utc": mark["earliest"]["utc"]}} for mark in planned]}),
    }


def is_claimed(body: Json) -> bool:
    metadata = body["metadata"]
    started = (metadata.get("annotations") or {}).get(STARTED_UID)
    return started == metadata["uid"] and FINALIZER in (metadata.get("finalizers") or [])


def _revision(body: Json) -> int:
    return int((body.get("status") or {}).get("revision") or 0)
