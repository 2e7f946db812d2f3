"""Journal entries whose experiment is gone without us: its agents are ended, and the entry with them."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

import aiohttp

from bounceback.controller.office import Office
from bounceback.controller.patching import put_right
from bounceback.controller.records import restored
from bounceback.kube import KubeError
from bounceback.kube.kinds import UnknownKindError
from bounceback.kube.resources import EXPERIMENTS
from bounceback.types.run_names import experiment_of
from bounceback.vehicles.errors import Refused
from bounceback.vehicles.object_patch import NotYet

EVERY: Final = 60.0
log = logging.getLogger(__name__)


async def clear_orphans(office: Office) -> None:
    """For ever, now and then: an experiment can vanish only by force, since our finalizer holds it."""
    while True:
        try:
            for run, namespace, name in await office.journal.all():
                if not await _is_there(office, run, namespace, name):
                    try:
                        await _clear(office, run, name)
                    except (Refused, NotYet, UnknownKindError) as error:
                        log.warning("%s is gone, but what it changed is not put right yet: %s", name, error)
        except (KubeError, aiohttp.ClientError, TimeoutError) as error:
            log.warning("orphans: %s", error)
        await asyncio.sleep(EVERY)


async def _is_there(office: Office, run: str, namespace: str, name: str) -> bool:
    try:
        body = await office.kube.get(EXPERIMENTS, namespace, name)
    except KubeError as error:
        if error.gone:
            return False
        raise
    return bool(body["metadata"]["uid"] == experiment_of(run))


async def _clear(office: Office, run: str, name: str) -> None:
    """NodePods are deleted, which reverts; sidecars went with their pods, or end by their own deadline."""
    office.leadership.check()
    record = await office.journal.read(run)
    _, planned = restored(record, ())
    for agent in planned.carried:
        await office.agents.remove(agent.ref)
    if (originals := planned.originals) is not None:
        await put_right(office, run, originals)
    await office.journal.remove(run)
    log.warning("%s is gone: its agents were ended, and what it had changed was put right", name)
