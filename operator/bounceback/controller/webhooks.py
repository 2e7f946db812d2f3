"""Where the API server asks us: about pods to be armed, and about writes that a fault may hit. Over TLS.

Without an answer the API server goes on as if we were not there: every webhook of ours has failurePolicy Ignore.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import aiohttp
from aiohttp import web

from bounceback.controller import arming
from bounceback.controller.admitted import Admitted
from bounceback.controller.asking_nodes import Known
from bounceback.controller.serving import Pulse
from bounceback.controller.serving_pair import Pair, kept
from bounceback.controller.settings import Settings
from bounceback.kube import Kube, KubeError
from bounceback.kube.client import STRATEGIC_PATCH
from bounceback.kube.resources import MUTATING_WEBHOOKS
from bounceback.proxy.shown import load

FAULT_PATH: Final = "/fault/{run}/{fault}"
LARGEST: Final = 4 * 1024 * 1024
"""Bytes of one question: etcd takes no object above 1.5 MiB."""
LOOK_EVERY: Final = 60.0
TRY_AGAIN: Final = 5.0
AWAITED: Final = "webhooks"

log = logging.getLogger(__name__)


@asynccontextmanager
async def webhooks(settings: Settings, kube: Kube, pulse: Pulse, admitted: Admitted) -> AsyncIterator[None]:
    """Answers while the block lasts, from when the API server can know our certificate."""
    pulse.awaited.add(AWAITED)
    known = Known(kube, settings)
    tasks = {asyncio.create_task(_serve(settings, kube, pulse, admitted, known))}
    if settings.arming:
        tasks.add(asyncio.create_task(known.watch()))
    for task in tasks:
        task.add_done_callback(_tell)
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def application(*routes: web.RouteDef) -> web.Application:
    app = web.Application(client_max_size=LARGEST)
    app.add_routes(routes)
    return app


def route(admitted: Admitted) -> web.RouteDef:
    """Answers AdmissionReviews of writes that a fault is about; 400 for anything else."""

    async def asked(request: web.Request) -> web.Response:
        try:
            review = await admitted.answer(request.match_info["run"], request.match_info["fault"], await request.json())
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            return web.Response(status=400, text=f"no AdmissionReview of a write: {error!r}\n")
        return web.json_response(review)

    return web.post(FAULT_PATH, asked)


async def _serve(settings: Settings, kube: Kube, pulse: Pulse, admitted: Admitted, known: Known) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    routes = arming.routes(arming.arm_settings(settings), known.lacking) if settings.arming else []
    routes += [route(admitted)] if settings.admission else []
    runner = web.AppRunner(application(*routes), access_log=None)
    await runner.setup()
    shown: Pair | None = None
    try:
        while True:
            try:
                pair = await _known(settings, kube)
                if shown != pair:
                    load(context, pair.certificate, pair.key)
                if shown is None:
                    await web.TCPSite(runner, port=settings.webhook_port, ssl_context=context).start()
                    log.info("answering the API server on port %d", settings.webhook_port)
                shown, admitted.authorities = pair, pair.authorities
                pulse.awaited.discard(AWAITED)
            except (KubeError, aiohttp.ClientError, TimeoutError, OSError) as error:
                log.warning("webhooks: %s", error)
            await asyncio.sleep(LOOK_EVERY if shown else TRY_AGAIN)
    finally:
        pulse.awaited.add(AWAITED)
        await runner.cleanup()


def _tell(serving: asyncio.Task[None]) -> None:
    if not serving.cancelled():
        log.error("webhooks have ended, this replica answers none as it should", exc_info=serving.exception())


async def _known(settings: Settings, kube: Kube) -> Pair:
    """The pair of all replicas, after the API server was told to trust it where the chart could not."""
    services = [name for name in (settings.arming, settings.admission) if name]
    hosts = tuple(f"{name}.{settings.namespace}.svc" for name in services)
    pair = await kept(kube, settings.namespace, services[0], hosts)
    if not settings.arming:
        return pair
    bundle = base64.b64encode(pair.authorities).decode()
    configuration = await kube.get(MUTATING_WEBHOOKS, None, settings.arming)
    told = [
        {"name": webhook["name"], "clientConfig": {"caBundle": bundle}}
        for webhook in configuration.get("webhooks") or []
        if webhook["clientConfig"].get("caBundle") != bundle
    ]
    if told:
        patch = {"webhooks": told}
        await kube.patch(MUTATING_WEBHOOKS, None, settings.arming, patch, content_type=STRATEGIC_PATCH)
    return pair
