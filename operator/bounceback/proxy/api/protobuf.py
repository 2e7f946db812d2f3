"""Protobuf, as little of it as watches need (protobuf.dev/programming-guides/encoding). Standard library only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Number and content of the fields that have one. Raises ValueError for what is no message."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        match key & 7:
            case 2:
                size, at = _varint(message, at)
                if size > len(message) - at:
                    raise ValueError("a field ends behind its message")
                yield key >> 3, message[at : at + size]
                at += size
            case 0:
                _, at = _varint(message, at)
            case 1:
                at += 8
            case 5:
                at += 4
            case other:
                raise ValueError(f"no wire type {other}")


def field(message: memoryview, number: int) -> memoryview:
    return next((content for found, content in fields(message) if found == number), message[:0])


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            raise ValueError("a number ends behind its message")
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number of more than ten bytes")


def string(content: memoryview | None) -> str:
    return str(content, "utf-8", "replace") if content is not None else ""


def _number(value: int) -> bytes:
    made = bytearray()
    while value > 0x7F:
        made.append(value & 0x7F | 0x80)
        value >>= 7
    made.append(value)
    return bytes(made)


def part(number: int, content: bytes) -> bytes:
    return _number(number << 3 | 2) + _number(len(content)) + content


def count(number: int, value: int) -> bytes:
    return _number(number << 3) + _number(value)


def strings(*values: str) -> bytes:
    """Fields 1, 2, 3 and so on: the server writes empty ones too."""
    return b"".join(part(number, value.encode()) for number, value in enumerate(values, 1))


def status(made: dict[str, Any]) -> bytes:
    """A metav1.Status, its fields in the order of the server's generated code."""
    texts = (part(at, _text(made.get(key)).encode()) for at, key in ((2, "status"), (3, "message"), (4, "reason")))
    details = made.get("details")
    return b"".join(
        (
            part(1, strings("", "", "")),  # ListMeta
            *texts,
            b"" if details is None else part(5, _details(details)),
            count(6, int(made.get("code", 0))),
        )
    )


def _details(details: dict[str, Any]) -> bytes:
    causes = (
        strings(*(_text(cause.get(key)) for key in ("reason", "message", "field")))
        for cause in details.get("causes", ())
    )
    return b"".join(
        (
            strings(*(_text(details.get(key)) for key in ("name", "group", "kind"))),
            *(part(4, cause) for cause in causes),
            count(5, int(details.get("retryAfterSeconds", 0))),
            part(6, _text(details.get("uid")).encode()),
        )
    )


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
