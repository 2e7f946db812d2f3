"""Journal entries whose experiment is gone without us: its agents are ended, and the entry with them."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

import aiohttp

from bounceback.controller.office import Office
from bounceback.controller.records import restored
from bounceback.kube import KubeError
from bounceback.kube.resources import EXPERIMENTS

EVERY: Final = 60.0
log = logging.getLogger(__name__)


async def clear_orphans(office: Office) -> None:
    """For ever, now and then: an experiment can vanish only by force, since our finalizer holds it."""
    while True:
        try:
            for uid, namespace, name in await office.journal.all():
                if not await _is_there(office, uid, namespace, name):
                    await _clear(office, uid, name)
        except (KubeError, aiohttp.ClientError, TimeoutError) as error:
            log.warning("orphans: %s", error)
        await asyncio.sleep(EVERY)


async def _is_there(office: Office, uid: str, namespace: str, name: str) -> bool:
    try:
        body = await office.kube.get(EXPERIMENTS, namespace, name)
    except KubeError as error:
        if error.gone:
            return False
        raise
    return bool(body["metadata"]["uid"] == uid)


async def _clear(office: Office, uid: str, name: str) -> None:
    """NodePods are deleted, which reverts; sidecars went with their pods, or end by their own deadline."""
    office.leadership.check()
    _, carried = restored(await office.journal.read(uid), ())
    for agent in carried:
        await office.agents.remove(agent.ref)
    await office.journal.remove(uid)
    log.warning("%s vanished while it ran: its agents were ended", name)
