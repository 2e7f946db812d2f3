"""NATS on a connection of its own: the server, and the state of a JetStream stream and of one of its consumers.

What the server tells is passed on as it is (https://docs.nats.io/reference/reference-protocols/nats_api_reference).
"""

from __future__ import annotations

import json
import ssl
from typing import Any

import nats.errors

from bounceback.api.looks_stores import NatsSource
from bounceback.connecting.nats import Client, place
from bounceback.recovery.errors import NotHealthyError
from bounceback.recovery.means import Means
from bounceback.recovery.secrets import Credentials


async def ask_by_nats(means: Means, source: NatsSource, seconds: float) -> dict[str, Any]:
    """Raises NotHealthyError, CannotLookError."""
    login = await means.secrets.credentials(source.login)
    context = await means.context(source.tls, source.host) if source.tls else None

    async def attempt(address: str, port: int) -> dict[str, Any]:
        return await _told(source, address, port, login, context, seconds)

    told, milliseconds = await means.ask(source.host, source.port, attempt)
    return {**told, "milliseconds": milliseconds}


async def _told(
    source: NatsSource, address: str, port: int, login: Credentials, context: ssl.SSLContext | None, seconds: float
) -> dict[str, Any]:
    troubles: list[Exception] = []

    async def note(error: Exception) -> None:
        troubles.append(error)

    client = Client()
    try:
        await client.connect(
            place(address, port, context),
            name="bounceback-probe",
            error_cb=note,
            allow_reconnect=False,
            max_reconnect_attempts=1,
            reconnect_time_wait=0,
            connect_timeout=max(1, round(seconds)),
            tls=context,
            tls_hostname=source.host if context else None,
            user=login.username,
            password=login.password if login.username else None,
            token=None if login.username else login.password,
        )
        stream = consumer = None
        if source.stream:
            stream = await _info(client, f"STREAM.INFO.{source.stream}", f"stream {source.stream}", seconds)
        if source.consumer:
            subject = f"CONSUMER.INFO.{source.stream}.{source.consumer}"
            consumer = await _info(client, subject, f"consumer {source.consumer} of {source.stream}", seconds)
        return {"server": dict(client._server_info), "stream": stream, "consumer": consumer}
    except OSError:
        raise
    except (nats.errors.Error, ValueError) as error:
        raise _trouble(troubles[-1] if troubles else error) from error
    finally:
        await client.close()


def _trouble(error: Exception) -> Exception:
    """The cause rather than that there was one."""
    if isinstance(error, OSError):
        return error
    return NotHealthyError(f"NATS: {str(error).removeprefix('nats: ') or type(error).__name__}"[:200])


async def _info(client: Client, subject: str, what: str, seconds: float) -> dict[str, Any]:
    try:
        answer = await client.request(f"$JS.API.{subject}", b"", timeout=seconds)
    except nats.errors.NoRespondersError as error:
        raise NotHealthyError("NATS: JetStream does not answer here") from error
    except nats.errors.TimeoutError as error:
        raise NotHealthyError(f"NATS: no answer about {what}") from error
    told: dict[str, Any] = json.loads(answer.data)
    if wrong := told.get("error"):
        raise NotHealthyError(f"NATS: {what}: {wrong.get('description')}")
    return told
