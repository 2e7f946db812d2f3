"""A health check by gRPC: one call of grpc.health.v1.Health/Check over HTTP/2, on a connection of its own.

gRPC over HTTP/2 (github.com/grpc/grpc, doc/PROTOCOL-HTTP2.md): a message is a byte that says whether it is compressed,
four of its length, and itself; how the call ended stands in the trailers. The messages of health.proto are one field
each: a request has the service's name as field 1 (tag 0x0a, its length, its bytes), an answer the status as field 1
(tag 0x08, a varint). The whole of a gRPC library, for these bytes, would take 9 MB of the operator's memory.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import unquote

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions

from bounceback.api.looks import GrpcLook
from bounceback.recovery.errors import NotHealthyError
from bounceback.recovery.means import Means

STATUSES: Final = {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}
CODES: Final = {4: "DEADLINE_EXCEEDED", 5: "NOT_FOUND", 7: "PERMISSION_DENIED", 12: "UNIMPLEMENTED", 14: "UNAVAILABLE"}
UNIMPLEMENTED: Final = 12
OK: Final = "0"
MOST_BYTES: Final = 64 * 1024


@dataclass
class Answer:
    """What came of one call."""

    headers: dict[str, str] = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)
    ended: bool = False


async def ask_by_grpc(means: Means, look: GrpcLook) -> dict[str, Any]:
    """Raises NotHealthyError, CannotLookError."""
    context = await means.context(look.tls, look.host) if look.tls else None
    if context is not None:
        context.set_alpn_protocols(["h2"])

    async def call(address: str, port: int) -> Answer:
        name = look.host if context else None
        reader, writer = await asyncio.open_connection(address, port, ssl=context, server_hostname=name)
        try:
            return await _call(reader, writer, look)
        finally:
            writer.transport.abort()

    try:
        answer, milliseconds = await means.ask(look.host, look.port, call)
    except h2.exceptions.ProtocolError as error:
        raise NotHealthyError(f"not a valid HTTP/2 answer: {error}"[:200]) from error
    status = status_of(answer)
    if look.expression is None and status != "SERVING":
        raise NotHealthyError(f"{look.service or 'the server'} is {status}")
    return {"status": status, "milliseconds": milliseconds}


async def _call(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, look: GrpcLook) -> Answer:
    connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
    connection.initiate_connection()
    stream = connection.get_next_available_stream_id()
    headers = {
        ":method": "POST",
        ":scheme": "https" if look.tls else "http",
        ":path": "/grpc.health.v1.Health/Check",
        ":authority": f"{look.host}:{look.port}",
        "te": "trailers",
        "content-type": "application/grpc",
        "user-agent": "bounceback-probe",
    }
    connection.send_headers(stream, list(headers.items()))
    connection.send_data(stream, request(look.service), end_stream=True)
    answer = Answer()
    while not answer.ended:
        writer.write(connection.data_to_send())
        await writer.drain()
        data = await reader.read(MOST_BYTES)
        if not data:
            raise NotHealthyError("connection closed before an answer")
        for event in connection.receive_data(data):
            _take(connection, event, answer)
    return answer


def _take(connection: h2.connection.H2Connection, event: h2.events.Event, answer: Answer) -> None:
    match event:
        case h2.events.ResponseReceived() | h2.events.TrailersReceived():
            answer.headers |= {str(name): str(value) for name, value in event.headers or ()}
        case h2.events.DataReceived():
            assert event.stream_id is not None
            answer.body += event.data or b""
            connection.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id)
            if len(answer.body) > MOST_BYTES:
                raise NotHealthyError("the answer is no health status: it is too long")
        case h2.events.StreamEnded():
            answer.ended = True
        case h2.events.StreamReset() | h2.events.ConnectionTerminated():
            raise NotHealthyError(f"the server ended the call: HTTP/2 error {event.error_code}")


def request(service: str) -> bytes:
    """A framed HealthCheckRequest."""
    name = service.encode()
    message = b"\x0a" + _varint(len(name)) + name if name else b""
    return b"\0" + len(message).to_bytes(4, "big") + message


def _varint(number: int) -> bytes:
    low = bytearray()
    while number > 0x7F:
        low.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*low, number))


def status_of(answer: Answer) -> str:
    """From headers, trailers and the framed HealthCheckResponse. Raises NotHealthyError."""
    if answer.headers.get(":status") != "200":
        raise NotHealthyError(f"status {answer.headers.get(':status')}: no gRPC server answers here")
    code = answer.headers.get("grpc-status", OK)
    if code != OK:
        number = int(code) if code.isdecimal() else -1
        told = unquote(answer.headers.get("grpc-message", ""))[:120]
        hint = "; it does not offer grpc.health.v1" if number == UNIMPLEMENTED else ""
        raise NotHealthyError(f"gRPC status {CODES.get(number, code)}: {told}{hint}")
    message = bytes(answer.body[5:])
    if len(answer.body) < 5 or answer.body[0] or len(message) != int.from_bytes(answer.body[1:5], "big"):
        raise NotHealthyError("the answer is no health status")
    if not message:
        return STATUSES[0]  # a field of its default value is left out
    if message[0] != 0x08 or len(message) < 2:
        raise NotHealthyError("the answer is no health status")
    return STATUSES.get(message[1], str(message[1]))
