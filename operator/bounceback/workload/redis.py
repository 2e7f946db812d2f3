"""Redis as a workload needs it: one command at a time on a connection that is kept, and none sent twice."""

from __future__ import annotations

import asyncio
import os
import ssl
from array import array
from typing import Any, Final

from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as NoConnectionError
from redis.exceptions import RedisError

from bounceback.accounting.ledger import Function, Model, Outcome
from bounceback.api.operations_stores import RedisWorkload
from bounceback.connecting.redis import Connection
from bounceback.connecting.tls import mistrust
from bounceback.workload.client import Answer, SilentError, number_of

COMMANDS: Final = {
    (Model.REGISTER, Function.WRITE): ("SET", True),
    (Model.REGISTER, Function.READ): ("GET", False),
    (Model.SET, Function.WRITE): ("SADD", True),
    (Model.SET, Function.READ): ("SISMEMBER", True),
    (Model.COUNTER, Function.WRITE): ("INCR", False),
    (Model.COUNTER, Function.READ): ("GET", False),
    (Model.QUEUE, Function.WRITE): ("RPUSH", True),
    (Model.QUEUE, Function.TAKE): ("LPOP", False),
}
"""Each with whether the value follows the key."""
FAILED = Answer(Outcome.FAILED)
UNKNOWN = Answer(Outcome.UNKNOWN)


class RedisSystem:
    """A Redis server, as `redis` tells of it."""

    def __init__(
        self, redis: RedisWorkload, model: Model, seconds: float, context: ssl.SSLContext | None = None
    ) -> None:
        self._redis = redis
        self._context = context  # None: in the clear
        self.late = "no connection in time" + (", by TLS" if context else "")  # Redis waits for more of a greeting
        self.model = model
        self.seconds = seconds  # that an operation may take

    def client(self) -> RedisClient:
        return RedisClient(self)

    def name(self, key: str) -> str:
        """Of the key, as Redis has it."""
        return f"{self._redis.prefix}:{key}"

    async def listed(self, key: str, seconds: float) -> array[int]:
        client, late = RedisClient(self), self.late
        try:
            async with asyncio.timeout(seconds):
                await client.connected()
                late = "no answer in time"
                found = await client.ask("SMEMBERS", self.name(key))
        except (RedisError, OSError) as error:
            raise SilentError(f"SMEMBERS: {mistrust(error) or str(error) or late}") from error
        finally:
            await client.close()
        return array("q", map(number_of, found))

    def connection(self) -> Connection:
        asked = self._redis
        return Connection(
            self._context,
            host=asked.host,
            port=asked.port,
            db=asked.database,
            username=asked.user,
            password=os.environ.get(asked.password_variable, "") if asked.password_variable else None,
            socket_timeout=None,
            socket_connect_timeout=None,
            driver_info=None,
            retry=Retry(NoBackoff(), 0),
        )


class RedisClient:
    """One connection; opened where there is none."""

    def __init__(self, system: RedisSystem) -> None:
        self._system = system
        self.trouble = ""
        self._connection: Connection | None = None

    async def perform(self, function: Function, key: str, value: int) -> Answer:
        command, with_value = COMMANDS[self._system.model, function]
        words: list[str | int] = [command, self._system.name(key), *([value] if with_value else [])]
        try:
            async with asyncio.timeout(self._system.seconds):
                await self.connected()
        except (RedisError, OSError) as error:
            self.trouble = f"Redis: {mistrust(error) or str(error) or self._system.late}"
            await self.close()
            return FAILED  # nothing was sent
        try:
            async with asyncio.timeout(self._system.seconds):
                reply = await self.ask(*words)
        except (NoConnectionError, OSError) as error:
            self.trouble = f"Redis: {str(error) or 'no answer in time'}"
            await self.close()
            return FAILED if function is Function.READ else UNKNOWN
        except RedisError as error:
            self.trouble = f"Redis: {error}"
            return FAILED  # Redis looks at a command before it does it
        return self._taken(function, reply)

    async def ask(self, *words: str | int) -> Any:
        """Raises RedisError, OSError."""
        connection = await self.connected()
        await connection.send_command(*words)
        return await connection.read_response()

    async def close(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            await connection.disconnect(nowait=True)

    async def connected(self) -> Connection:
        """Raises RedisError, OSError."""
        if self._connection is None:
            self._connection = self._system.connection()
            await self._connection.connect()  # type: ignore[no-untyped-call]
        return self._connection

    def _taken(self, function: Function, reply: Any) -> Answer:
        if function is Function.WRITE or reply is None:
            return Answer(Outcome.ACKNOWLEDGED)
        if self._system.model is Model.SET:
            return Answer(Outcome.ACKNOWLEDGED, 1 if reply else None)
        return Answer(Outcome.ACKNOWLEDGED, number_of(reply))
