"""The webhook that arms pods as they are created: asked by the API server, over TLS, for those that opted in.

Every replica answers. It can only ever add: failurePolicy Ignore means that without an answer the pod is made as it is.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import aiohttp
from aiohttp import web

from bounceback import __version__
from bounceback.controller.serving import Pulse
from bounceback.controller.serving_pair import Pair, kept
from bounceback.controller.settings import Settings
from bounceback.kube import Kube, KubeError
from bounceback.kube.client import STRATEGIC_PATCH, Json
from bounceback.kube.resources import MUTATING_WEBHOOKS
from bounceback.proxy.shown import load
from bounceback.vehicles.arming import RESOURCES, ArmSettings, arm

PATH: Final = "/arm"
LARGEST: Final = 4 * 1024 * 1024
"""Bytes of one question: etcd takes no object above 1.5 MiB."""
LOOK_EVERY: Final = 60.0
TRY_AGAIN: Final = 5.0
AWAITED: Final = "arming"

log = logging.getLogger(__name__)


@asynccontextmanager
async def arming(settings: Settings, kube: Kube, pulse: Pulse) -> AsyncIterator[None]:
    """Answers while the block lasts, from when the API server can know our certificate."""
    pulse.awaited.add(AWAITED)
    serving = asyncio.create_task(_serve(settings, kube, pulse))
    serving.add_done_callback(_tell)
    try:
        yield
    finally:
        serving.cancel()
        await asyncio.wait({serving})


async def _serve(settings: Settings, kube: Kube, pulse: Pulse) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    runner = web.AppRunner(application(arm_settings(settings)), access_log=None)
    await runner.setup()
    shown: Pair | None = None
    try:
        while True:
            try:
                pair = await _known(settings, kube)
                if shown != pair:
                    load(context, pair.certificate, pair.key)
                if shown is None:
                    await web.TCPSite(runner, port=settings.arming_port, ssl_context=context).start()
                    log.info("arming pods that ask for it, on port %d", settings.arming_port)
                shown = pair
                pulse.awaited.discard(AWAITED)
            except (KubeError, aiohttp.ClientError, TimeoutError, OSError) as error:
                log.warning("arming: %s", error)
            await asyncio.sleep(LOOK_EVERY if shown else TRY_AGAIN)
    finally:
        pulse.awaited.add(AWAITED)
        await runner.cleanup()


def _tell(serving: asyncio.Task[None]) -> None:
    if not serving.cancelled():
        log.error("arming has ended, no pod is armed by this replica", exc_info=serving.exception())


async def _known(settings: Settings, kube: Kube) -> Pair:
    """The pair of all replicas, after the API server was told to trust it."""
    host = f"{settings.arming}.{settings.namespace}.svc"
    pair = await kept(kube, settings.namespace, settings.arming, host)
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


def arm_settings(settings: Settings) -> ArmSettings:
    return ArmSettings(
        settings.image,
        settings.pull_policy,
        __version__,
        settings.arming_resources or RESOURCES,
        settings.arming_needs_secret,
    )


def application(settings: ArmSettings) -> web.Application:
    """Answers AdmissionReviews of pods (admission.k8s.io/v1); 400 for anything else."""

    async def asked(request: web.Request) -> web.Response:
        try:
            review = answer(await request.json(), settings)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            return web.Response(status=400, text=f"no AdmissionReview of a pod: {error!r}\n")
        return web.json_response(review)

    app = web.Application(client_max_size=LARGEST)
    app.add_routes([web.post(PATH, asked)])
    return app


def answer(review: Json, settings: ArmSettings) -> Json:
    """Always allowed. Raises KeyError, TypeError or AttributeError for what is no AdmissionReview of a pod."""
    request = review["request"]
    armed = arm(request["object"], settings)
    response: dict[str, Any] = {"uid": request["uid"], "allowed": True}
    if armed.patch:
        patch = base64.b64encode(json.dumps(armed.patch).encode()).decode()
        response |= {"patchType": "JSONPatch", "patch": patch}
    if armed.refused:
        metadata = request["object"]["metadata"]
        name = metadata.get("name") or metadata.get("generateName") or ""
        response["warnings"] = [f"Bounceback does not arm this pod: {armed.refused}"]
        log.info("pod %s/%s is not armed: %s", request.get("namespace"), name, armed.refused)
    return {"apiVersion": review["apiVersion"], "kind": review["kind"], "response": response}
