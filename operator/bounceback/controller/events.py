"""Kubernetes events on experiments: what `kubectl describe` shows."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

import aiohttp

from bounceback.engine.naming import REPORTER, digest
from bounceback.kube import Kube, KubeError
from bounceback.kube.client import Json
from bounceback.kube.resources import EVENTS

log = logging.getLogger(__name__)


class Recorder:
    """Each event under a name made of what it says, so that saying it again adds to its count instead."""

    def __init__(self, kube: Kube, identity: str) -> None:
        self._kube = kube
        self._identity = identity

    async def record(self, about: Json, reason: str, message: str, *, warning: bool = False) -> None:
        """Never raises: an event that is lost must not stop a run."""
        metadata = about["metadata"]
        name = f"{metadata['name'][:200]}.{digest(metadata['uid'], reason, message)}"
        now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": metadata["namespace"]},
            "involvedObject": {
                "apiVersion": about["apiVersion"],
                "kind": about["kind"],
                "namespace": metadata["namespace"],
                "name": metadata["name"],
                "uid": metadata["uid"],
                "resourceVersion": metadata.get("resourceVersion", ""),
            },
            "reason": reason,
            "message": message[:1024],
            "type": "Warning" if warning else "Normal",
            "source": {"component": "bounceback"},
            "reportingComponent": REPORTER,
            "reportingInstance": self._identity,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        try:
            await self._kube.create(EVENTS, metadata["namespace"], event)
        except KubeError as error:
            if not error.exists:
                log.info("event %s not recorded: %s", reason, error)
        except (aiohttp.ClientError, TimeoutError) as error:
            log.info("event %s not recorded: %s", reason, error)
