"""Observations: values that are read before the fault, at clear and after the recovery, for the invariants."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final

import aiohttp

from bounceback.api.check import RecoveryCheckSpec
from bounceback.api.probes import HttpObservation, KubernetesObservation, Observation
from bounceback.kube.client import Json, Kube
from bounceback.kube.errors import KubeError
from bounceback.kube.kinds import UnknownKindError
from bounceback.recovery.asking import read_store
from bounceback.recovery.errors import CannotLookError, NotHealthyError
from bounceback.recovery.looks import first_bytes, in_a_line
from bounceback.recovery.means import Means
from bounceback.recovery.objects import trimmed
from bounceback.recovery.sealing import Seal
from bounceback.types.objects import SECRET_KINDS

LARGEST_OBSERVATION: Final = 16 * 1024
"""Bytes of JSON: what was observed stays in the experiment's status, before and after, for all to read."""


class ObservationError(Exception):
    """An observation could not be read; the message names it and says why.

    `gone`: the object that it asks for by name is not there.
    """

    def __init__(self, message: str, gone: bool = False) -> None:
        super().__init__(message)
        self.gone = gone


async def observe(acting: Kube, namespace: str, spec: RecoveryCheckSpec, seal: Seal) -> Json:
    """All of the check's observations by name, read at the same time, in the account of `acting`.

    Of Secrets only digests, by `seal`: what is observed stands in the status, for all who may read experiments.

    Raises ObservationError for the first of them that cannot be read.
    """
    found = await observe_each(acting, namespace, spec, seal)
    for value in found.values():
        if isinstance(value, ObservationError):
            raise value
    return found


async def observe_each(acting: Kube, namespace: str, spec: RecoveryCheckSpec, seal: Seal) -> dict[str, Any]:
    """The same, with the error in place of what cannot be read."""
    async with Means(acting, namespace) as means:
        readings = [_read(means, observation, seal) for observation in spec.observations]
        found = await asyncio.gather(*readings, return_exceptions=True)
    for value in found:
        if isinstance(value, BaseException) and not isinstance(value, ObservationError):
            raise value
    return {observation.name: value for observation, value in zip(spec.observations, found, strict=True)}


async def _read(means: Means, observation: Observation, seal: Seal) -> Any:
    timeout = observation.timeout_milliseconds
    try:
        async with asyncio.timeout(timeout / 1000):
            if observation.http is not None:
                value = await _read_http(means.session, observation.http)
            elif observation.kubernetes is not None:
                value = await _read_objects(means, observation.kubernetes, seal)
            else:
                value = await read_store(means, observation, timeout / 1000)
    except TimeoutError:
        raise ObservationError(f"observation {observation.name}: timed out after {timeout} ms") from None
    except (aiohttp.ClientError, OSError) as error:
        raise ObservationError(f"observation {observation.name}: {in_a_line(error)}") from error
    except KubeError as error:
        gone = error.gone and observation.kubernetes is not None
        raise ObservationError(f"observation {observation.name}: {error}", gone) from error
    except (UnknownKindError, NotHealthyError, CannotLookError, ValueError) as error:
        raise ObservationError(f"observation {observation.name}: {error}") from error
    size = len(json.dumps(value))
    if size > LARGEST_OBSERVATION:
        raise ObservationError(
            f"observation {observation.name}: {size} bytes of JSON, more than {LARGEST_OBSERVATION}; select fewer "
            "objects or rows, or observe an address that answers only what the invariants need"
        )
    return value


async def _read_http(session: aiohttp.ClientSession, observation: HttpObservation) -> Any:
    async with session.get(observation.url) as answer:
        body = await first_bytes(answer, 64 * LARGEST_OBSERVATION)
        if answer.status != 200:
            raise ValueError(f"status {answer.status}, expected 200")
    try:
        return json.loads(body)
    except ValueError as error:
        raise ValueError(f"the answer is not JSON: {error}") from error


async def _read_objects(means: Means, wanted: KubernetesObservation, seal: Seal) -> Any:
    resource = await means.kinds.resource(wanted.api_version, wanted.kind)
    if wanted.name:
        return await _told(await means.acting.get(resource, means.namespace, wanted.name), wanted, seal)
    labels = str(wanted.selector) if wanted.selector else ""
    found, _ = await means.acting.list(resource, means.namespace, labels=labels)
    told = [await _told(item, wanted, seal) for item in found]
    return sorted(told, key=lambda item: str(item["metadata"]["name"]))


async def _told(item: Json, wanted: KubernetesObservation, seal: Seal) -> Json:
    return trimmed(await seal.on(item) if wanted.kind in SECRET_KINDS else item)
