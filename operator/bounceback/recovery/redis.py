"""A command to a Redis server, on a connection of its own."""

from __future__ import annotations

import ssl
from typing import Any, Final

from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as NoConnectionError
from redis.exceptions import RedisError

from bounceback.api.looks_stores import RedisSource
from bounceback.connecting.redis import Connection
from bounceback.recovery.errors import NotHealthyError
from bounceback.recovery.means import Means
from bounceback.recovery.secrets import Credentials

RESP3: Final = 3
"""Knows maps; Redis 6 and all that came after speak it."""


async def ask_by_redis(means: Means, source: RedisSource) -> dict[str, Any]:
    """Raises NotHealthyError, CannotLookError."""
    login = await means.secrets.credentials(source.login)
    context = await means.context(source.tls, source.host) if source.tls else None

    async def attempt(address: str, port: int) -> Any:
        return await _reply(source, address, port, login, context)

    reply, milliseconds = await means.ask(source.host, source.port, attempt)
    return {"reply": reply, "milliseconds": milliseconds}


async def _reply(
    source: RedisSource, address: str, port: int, login: Credentials, context: ssl.SSLContext | None
) -> Any:
    connection = Connection(
        context,
        host=address,
        port=port,
        db=source.database,
        username=login.username,
        password=login.password,
        protocol=RESP3,
        socket_timeout=None,
        socket_connect_timeout=None,
        driver_info=None,
        decode_responses=True,
        encoding_errors="replace",
        retry=Retry(NoBackoff(), 0),
    )
    try:
        await connection.connect()  # type: ignore[no-untyped-call]
        await connection.send_command(*source.command)
        return plain(await connection.read_response())
    except NoConnectionError as error:
        cause = error.__cause__ or error.__context__
        if isinstance(cause, OSError):
            raise cause from error
        raise NotHealthyError(f"Redis: {error}"[:200]) from error
    except RedisError as error:
        raise NotHealthyError(f"Redis: {error}"[:200]) from error
    finally:
        await connection.disconnect(nowait=True)


def plain(reply: Any) -> Any:
    """As JSON has it; a set is a list, in the order that the server tells it in."""
    match reply:
        case bytes():
            return reply.decode(errors="replace")
        case list() | tuple() | set():
            return [plain(each) for each in reply]
        case dict():
            return {str(plain(key)): plain(value) for key, value in reply.items()}
        case RedisError():
            raise reply
    return reply
