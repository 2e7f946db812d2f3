"""Observations: values that are read once before the fault and once after the recovery, for the invariants."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final

import aiohttp

from bounceback.api.check import RecoveryCheckSpec
from bounceback.api.probes import HttpObservation, KubernetesObservation, Observation
from bounceback.kube.client import Json, Kube
from bounceback.kube.errors import KubeError
from bounceback.recovery.kinds import Kinds, UnknownKindError
from bounceback.recovery.looks import first_bytes, in_a_line, probe_session
from bounceback.recovery.names import Names
from bounceback.recovery.objects import trimmed

LARGEST_OBSERVATION: Final = 16 * 1024
"""Bytes of JSON: what was observed stays in the experiment's status, before and after, for all to read."""


class ObservationError(Exception):
    """An observation could not be read; the message names it and says why."""


async def observe(acting: Kube, namespace: str, spec: RecoveryCheckSpec) -> Json:
    """All of the check's observations by name, read at the same time, in the account of `acting`.

    Raises ObservationError for the first of them that cannot be read.
    """
    kinds = Kinds(acting)
    names = Names(namespace)
    try:
        async with probe_session(names) as session:
            readings = [_read(acting, kinds, session, namespace, observation) for observation in spec.observations]
            found = await asyncio.gather(*readings, return_exceptions=True)
    finally:
        await names.close()
    for value in found:
        if isinstance(value, BaseException):
            raise value
    return {observation.name: value for observation, value in zip(spec.observations, found, strict=True)}


async def _read(
    acting: Kube, kinds: Kinds, session: aiohttp.ClientSession, namespace: str, observation: Observation
) -> Any:
    timeout = observation.timeout_milliseconds
    try:
        async with asyncio.timeout(timeout / 1000):
            if observation.http is not None:
                value = await _read_http(session, observation.http)
            else:
                assert observation.kubernetes is not None
                value = await _read_objects(acting, kinds, namespace, observation.kubernetes)
    except TimeoutError:
        raise ObservationError(f"observation {observation.name}: timed out after {timeout} ms") from None
    except (aiohttp.ClientError, OSError) as error:
        raise ObservationError(f"observation {observation.name}: {in_a_line(error)}") from error
    except (KubeError, UnknownKindError, ValueError) as error:
        raise ObservationError(f"observation {observation.name}: {error}") from error
    size = len(json.dumps(value))
    if size > LARGEST_OBSERVATION:
        raise ObservationError(
            f"observation {observation.name}: {size} bytes of JSON, more than {LARGEST_OBSERVATION}; select fewer "
            "objects, or observe an address that answers only what the invariants need"
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


async def _read_objects(acting: Kube, kinds: Kinds, namespace: str, wanted: KubernetesObservation) -> Any:
    resource = await kinds.resource(wanted.api_version, wanted.kind)
    if wanted.name:
        return trimmed(await acting.get(resource, namespace, wanted.name))
    found, _ = await acting.list(resource, namespace, labels=str(wanted.selector) if wanted.selector else "")
    return sorted((trimmed(item) for item in found), key=lambda item: str(item["metadata"]["name"]))
