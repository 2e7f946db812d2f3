"""NATS JetStream as a workload needs it: one message at a time on a connection that is kept, and none sent twice.

What answers mean (https://docs.nats.io/reference/jetstream/api/stream/pub-ack, ADR-1 for errors, ADR-13 for pulls and
ADR-15 for acknowledgements):

acknowledged    a PubAck with a sequence: the stream has stored the message, or has it by this Nats-Msg-Id already
                (`duplicate`). Of a take: the server's own answer to our acknowledgement, or 404, no messages, while no
                message is with anybody whose acknowledgement is not there yet: that one may come again.
failed          503 no responders: the server knows of nobody who could get the message; errors of 400 to 499, which
                are checked before it is stored; 10077 with a maximum that is exceeded, which refuses it. Of a take:
                any status but a message; nothing was sent.
unknown         all else: errors of 500 and above, no answer in time, a connection that broke; a message whose
                acknowledgement was not confirmed, which may come again or not.
"""

from __future__ import annotations

import asyncio
import json
import os
import ssl
from array import array
from collections.abc import AsyncIterator, Awaitable
from typing import Any, Final, TypeVar

import nats.errors
import nats.js.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from bounceback.accounting.ledger import Function, Model, Outcome
from bounceback.api.operations_stores import NatsWorkload
from bounceback.connecting.nats import Client, place
from bounceback.connecting.tls import mistrust
from bounceback.workload.client import Answer, SilentError, number_of

FAILED: Final = Answer(Outcome.FAILED)
UNKNOWN: Final = Answer(Outcome.UNKNOWN)
DONE: Final = Answer(Outcome.ACKNOWLEDGED)
NEXT: Final = b'{"batch":1,"no_wait":true}'
STORE_FAILED: Final = 10077
AT_A_TIME: Final = 500
"""Messages of a stream that are read back at a time."""
LONGEST_IDLE: Final = 60.0
"""Seconds after which the server forgets a read-back that was given up."""
TROUBLE: Final = (nats.errors.Error, OSError, ValueError)

Found = TypeVar("Found")
Json = dict[str, Any]


class NatsSystem:
    """A server with its stream, as `nats` tells of it."""

    def __init__(self, nats: NatsWorkload, model: Model, seconds: float, context: ssl.SSLContext | None = None) -> None:
        self.nats = nats
        self._context = context  # None: in the clear
        self.seconds = seconds  # that an operation may take

    def client(self) -> NatsClient:
        return NatsClient(self)

    def subject(self, key: str) -> str:
        return self.nats.subject.replace("{key}", key)

    async def connect(self, connection: _Connection, seconds: float) -> None:
        """Raises nats.errors.Error, OSError, ValueError."""
        asked = self.nats
        password = os.environ.get(asked.password_variable, "") if asked.password_variable else None
        try:
            await connection.client.connect(
                place(asked.host, asked.port, self._context),
                name="bounceback-workload",
                error_cb=connection.note,
                closed_cb=connection.ended,
                allow_reconnect=False,
                max_reconnect_attempts=1,
                reconnect_time_wait=0,
                connect_timeout=max(1, round(seconds)),
                tls=self._context,
                tls_hostname=asked.host if self._context else None,
                user=asked.user,
                password=password if asked.user else None,
                token=None if asked.user else password,
            )
        except TROUBLE as error:
            raise connection.cause(error) from error

    async def listed(self, key: str, seconds: float) -> array[int]:
        connection = _Connection()
        found = array("q")
        try:
            async with asyncio.timeout(seconds):
                await self.connect(connection, seconds)
                async for message in self._stored(connection, self.subject(key)):
                    found.append(number_of(message.data))
        except (*TROUBLE, TimeoutError) as error:
            raise SilentError(f"stream {self.nats.stream}: {_told(error)}") from error
        finally:
            await connection.client.close()
        return found

    async def _stored(self, connection: _Connection, subject: str) -> AsyncIterator[Msg]:
        """All messages of the subject that there are by now, in order; raises ValueError where one does not arrive."""
        wanted = ConsumerConfig(
            ack_policy=AckPolicy.NONE, deliver_policy=DeliverPolicy.ALL, inactive_threshold=LONGEST_IDLE
        )
        streams = connection.client.jetstream(timeout=self.seconds)
        reader = await streams.pull_subscribe(subject, stream=self.nats.stream, config=wanted)
        left = (await reader.consumer_info()).num_pending or 0
        came = 0
        while came < left:
            for message in await reader.fetch(min(AT_A_TIME, left - came), timeout=self.seconds):
                came += 1
                if message.metadata.sequence.consumer != came:
                    raise ValueError("messages were lost on the way to us")
                yield message


class _Connection:
    """A client of the library's, and the end of its connection, which the library tells nobody who waits."""

    def __init__(self) -> None:
        self.client = Client()
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._inbox = self.client.new_inbox()
        self.has_consumer = False  # that it is there has been asked
        self._deliveries: Subscription | None = None
        self._troubles: list[Exception] = []

    async def note(self, error: Exception) -> None:
        self._troubles.append(error)

    async def ended(self) -> None:
        if not self.over.done():
            self.over.set_result(None)

    def cause(self, error: Exception) -> Exception:
        """Rather than that there was one."""
        return self._troubles[-1] if self._troubles else error

    async def delivered(self, subject: str, seconds: float) -> Msg:
        """What comes for a pull. It has its message's own subject, by which the library's requests miss it."""
        if self._deliveries is None:
            self._deliveries = await self.client.subscribe(self._inbox)
        await self.client.publish(subject, NEXT, reply=self._inbox)
        return await self._deliveries.next_msg(timeout=seconds)

    async def until_over(self, request: Awaitable[Found]) -> Found:
        """Its answer. Raises ConnectionResetError where the connection ends before."""
        asked = asyncio.ensure_future(request)
        asked.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody else may look
        try:
            await asyncio.wait((asked, self.over), return_when=asyncio.FIRST_COMPLETED)
            if asked.done():
                return asked.result()
            raise ConnectionResetError("the connection was lost")
        finally:
            asked.cancel()


class NatsClient:
    """One connection; opened where there is none."""

    def __init__(self, system: NatsSystem) -> None:
        self._system = system
        self._connection: _Connection | None = None
        self.trouble = ""

    async def perform(self, function: Function, key: str, value: int) -> Answer:
        seconds = self._system.seconds
        try:
            async with asyncio.timeout(seconds):
                connection = await self._connected()
        except (*TROUBLE, TimeoutError) as error:
            await self.close()
            self.trouble = _told(error)
            return FAILED  # nothing was sent
        try:
            async with asyncio.timeout(seconds):
                if function is Function.WRITE:
                    return await connection.until_over(self._publish(connection.client, key, value))
                return await connection.until_over(self._take(connection.client))
        except nats.errors.NoRespondersError:
            self.trouble = f"NATS: nobody has the subject {self._system.subject(key)}"
            return FAILED if function is Function.WRITE else UNKNOWN
        except (*TROUBLE, TimeoutError) as error:
            self.trouble = _told(error)
            await self.close()
            return UNKNOWN

    async def close(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            await connection.client.close()

    async def _connected(self) -> _Connection:
        if self._connection is None or not self._connection.client.is_connected:
            await self.close()
            self._connection = _Connection()
            await self._system.connect(self._connection, self._system.seconds)
        return self._connection

    async def _publish(self, client: Client, key: str, value: int) -> Answer:
        headers = {"Nats-Expected-Stream": self._system.nats.stream}
        if self._system.nats.message_id:
            headers["Nats-Msg-Id"] = str(value)
        subject, payload = self._system.subject(key), str(value).encode()
        answer = await client.request(subject, payload, timeout=self._system.seconds, headers=headers)
        told: Json = json.loads(answer.data)
        if error := told.get("error"):
            self.trouble = f"NATS: {error.get('description')}"
            return FAILED if _is_refused(error) else UNKNOWN
        if told.get("stream") != self._system.nats.stream or not told.get("seq"):
            self.trouble = f"NATS: {answer.data[:160]!r} is no acknowledgement of stream {self._system.nats.stream}"
            return UNKNOWN
        return DONE

    async def _take(self, client: Client) -> Answer:
        """A confirmed acknowledgement ends a message; before that it comes again."""
        asked, seconds = self._system.nats, self._system.seconds
        assert self._connection is not None
        if not self._connection.has_consumer:
            told = await self._consumer(client)
            if "error" in told:
                self.trouble = f"NATS: consumer {asked.consumer}: {told['error'].get('description')}"
                return FAILED
            self._connection.has_consumer = True
        came = await self._connection.delivered(f"$JS.API.CONSUMER.MSG.NEXT.{asked.stream}.{asked.consumer}", seconds)
        if (status := (came.headers or {}).get("Status")) is not None:
            return await self._nothing(client, status, (came.headers or {}).get("Description", ""))
        await client.request(came.reply, b"+ACK", seconds)
        return Answer(Outcome.ACKNOWLEDGED, number_of(came.data))

    async def _nothing(self, client: Client, status: str, description: str) -> Answer:
        """Empty, where no message is with anybody who may yet lose it."""
        self.trouble = f"NATS: {status} {description}"
        if status != "404":  # 503: JetStream does not answer here
            return FAILED
        told = await self._consumer(client)
        if "error" in told or told.get("num_pending") or told.get("num_ack_pending"):
            self.trouble = "NATS: no messages, but some are with others who have not acknowledged them"
            return FAILED
        return DONE

    async def _consumer(self, client: Client) -> Json:
        """As the server tells of it; asked to deliver by one that there is not it says nothing at all."""
        asked = self._system.nats
        subject = f"$JS.API.CONSUMER.INFO.{asked.stream}.{asked.consumer}"
        told: Json = json.loads((await client.request(subject, b"", self._system.seconds)).data)
        return told


def _is_refused(error: Json) -> bool:
    """Whether it says that the message is not stored, and will not be."""
    if error.get("err_code") == STORE_FAILED:
        return str(error.get("description")).startswith("maximum ")
    return 400 <= int(error.get("code") or 0) < 500


def _told(error: Exception) -> str:
    return f"NATS: {mistrust(error) or str(error).removeprefix('nats: ') or type(error).__name__}"
