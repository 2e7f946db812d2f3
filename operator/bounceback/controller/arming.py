"""The webhook that arms pods as they are created: asked by the API server for those that opted in.

Every replica answers. It can only ever add: failurePolicy Ignore means that without an answer the pod is made as it is.
"""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from aiohttp import web

from bounceback import __version__
from bounceback.controller.settings import Settings
from bounceback.kube.client import Json
from bounceback.vehicles.arming import RESOURCES, Arming, ArmSettings, arm
from bounceback.vehicles.clock_arming import arm_clock
from bounceback.vehicles.image_known import Lacking

PATH: Final = "/arm"
CLOCK_PATH: Final = "/arm-clock"
Armer = Callable[[Json, ArmSettings], Arming]
NowLacking = Callable[[], tuple[Lacking, ...]]
log = logging.getLogger(__name__)


def arm_settings(settings: Settings) -> ArmSettings:
    return ArmSettings(
        settings.image,
        settings.pull_policy,
        __version__,
        settings.arming_resources or RESOURCES,
        settings.arming_needs_secret,
    )


def routes(settings: ArmSettings, lacking: NowLacking = tuple) -> list[web.RouteDef]:
    """They answer AdmissionReviews of pods (admission.k8s.io/v1); 400 for anything else.

    `lacking` is asked each time, for what is known by then.
    """
    return [_route(PATH, arm, settings, lacking), _route(CLOCK_PATH, arm_clock, settings, lacking)]


def _route(path: str, armer: Armer, settings: ArmSettings, lacking: NowLacking) -> web.RouteDef:
    async def asked(request: web.Request) -> web.Response:
        try:
            review = answer(await request.json(), replace(settings, lacking=lacking()), armer)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            return web.Response(status=400, text=f"no AdmissionReview of a pod: {error!r}\n")
        return web.json_response(review)

    return web.post(path, asked)


def answer(review: Json, settings: ArmSettings, armer: Armer = arm) -> Json:
    """Always allowed. Raises KeyError, TypeError or AttributeError for what is no AdmissionReview of a pod."""
    request = review["request"]
    armed = armer(request["object"], settings)
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
