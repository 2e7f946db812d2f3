"""Before the operator is uninstalled: freeze, wait until all is cleared, and leave no finalizer behind."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from typing import Final

from bounceback.api import FINALIZER
from bounceback.controller import resources
from bounceback.controller.freeze import FREEZE
from bounceback.controller.settings import Settings
from bounceback.kube import Kube, KubeError
from bounceback.kube.client import Json
from bounceback.kube.resources import CONFIG_MAPS, EXPERIMENTS
from bounceback.types.outcome import Phase
from bounceback.vehicles.journal import Journal

PATIENCE: Final = "BOUNCEBACK_DRAIN_SECONDS"
"""Seconds for the operator to clear what runs; after that only the finalizers are taken off."""
log = logging.getLogger(__name__)


def main() -> int:
    """0 when everything was cleared in time, 1 when something had to be let go uncleared."""
    logging.basicConfig(level="INFO", format="%(message)s")
    return asyncio.run(drain(Settings.from_environment(os.environ), float(os.environ.get(PATIENCE, "240"))))


async def drain(settings: Settings, patience: float) -> int:
    async with Kube.connected() as kube:
        await _freeze(kube, settings.namespace)
        try:
            held = await _wait_for_runs(kube, time.monotonic() + patience)
            for body in held:
                metadata = body["metadata"]
                log.warning("%s/%s was not cleared in time: let go", metadata["namespace"], metadata["name"])
                await resources.let_go(kube, body)
            journal = Journal(kube, settings.namespace)
            for uid, _, _ in await journal.all():
                await journal.remove(uid)
        finally:
            await _thaw(kube, settings.namespace)
    return 1 if held else 0


async def _wait_for_runs(kube: Kube, until: float) -> list[Json]:
    """Those that are still held when the time is over."""
    told = -1
    while True:
        items, _ = await kube.list(EXPERIMENTS)
        held = [item for item in items if FINALIZER in (item["metadata"].get("finalizers") or [])]
        if not held or time.monotonic() >= until:
            return held
        running = sum((item.get("status") or {}).get("phase") != Phase.FINISHED for item in held)
        if running != told:
            log.info("experiments that are being cleared: %d", running)
            told = running
        await asyncio.sleep(1.0)


async def _freeze(kube: Kube, namespace: str) -> None:
    body = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": FREEZE},
        "data": {"reason": "Bounceback is being uninstalled"},
    }
    try:
        await kube.create(CONFIG_MAPS, namespace, body)
    except KubeError as error:
        if not error.exists:
            raise


async def _thaw(kube: Kube, namespace: str) -> None:
    try:
        await kube.delete(CONFIG_MAPS, namespace, FREEZE)
    except KubeError as error:
        if not error.gone:
            raise
