"""The events in the body of a watch, told apart without reading more of them than somebody asks for.

JSON: one object a line (the encoder of encoding/json ends each with a newline and has none inside, `pretty` or not).
Protobuf: frames with their length before them (lengthDelimitedFrameWriter in k8s.io/apimachinery/pkg/util/framer), each
a metav1.WatchEvent whose object is "k8s\\0" and a runtime.Unknown (generated.proto of pkg/apis/meta/v1 and pkg/runtime;
pkg/runtime/serializer/protobuf). Standard library only.
"""

from __future__ import annotations

import json
import re
import struct
from typing import Any, Final

from bounceback.proxy.api import protobuf

LARGEST: Final = 8 << 20
"""Bytes of an event that are waited for; the API server takes objects of 3 MiB. Parts of larger ones go by unread."""
MAGIC: Final = b"k8s\0"
_LENGTH: Final = struct.Struct("!I")
_TYPE: Final = re.compile(rb'\s*\{\s*"type"\s*:\s*"([A-Z]+)"')


class Frame:
    """An event as it came, or a part of one: `begins` and `ends` say which ends of it are here.

    What cannot be read is empty: the proxy passes on what it does not understand.
    """

    __slots__ = ("_facts", "begins", "ends", "raw")

    def __init__(self, raw: bytes, begins: bool = True, ends: bool = True) -> None:
        self.raw = raw
        self.begins = begins
        self.ends = ends
        self._facts: tuple[str, str, str] | None = None

    @property
    def whole(self) -> bool:
        return self.begins and self.ends

    @property
    def type(self) -> str:
        """ADDED, MODIFIED, DELETED, BOOKMARK or ERROR."""
        return ""

    @property
    def name(self) -> str:
        return self._known()[0]

    @property
    def namespace(self) -> str:
        return self._known()[1]

    @property
    def version(self) -> str:
        """The object's resourceVersion."""
        return self._known()[2]

    def _known(self) -> tuple[str, str, str]:
        if self._facts is None:
            self._facts = self._read() if self.whole else ("", "", "")
        return self._facts

    def _read(self) -> tuple[str, str, str]:
        """Name, namespace and version of the object."""
        return "", "", ""


class JsonFrame(Frame):
    __slots__ = ()

    @property
    def type(self) -> str:
        if not self.whole:
            return ""
        if found := _TYPE.match(self.raw):  # the server writes it first
            return found[1].decode()
        return _text(self._event().get("type"))

    def _event(self) -> dict[str, Any]:
        try:
            event = json.loads(self.raw)
        except (ValueError, RecursionError):
            return {}
        return event if isinstance(event, dict) else {}

    def _read(self) -> tuple[str, str, str]:
        subject = _dict(self._event().get("object"))
        if isinstance(rows := subject.get("rows"), list) and rows:  # a Table of one row: kubectl get --watch
            subject = _dict(_dict(rows[0]).get("object"))
        metadata = _dict(subject.get("metadata"))
        return _text(metadata.get("name")), _text(metadata.get("namespace")), _text(metadata.get("resourceVersion"))


class ProtobufFrame(Frame):
    __slots__ = ()

    @property
    def type(self) -> str:
        if not self.whole:
            return ""
        try:
            return protobuf.string(protobuf.field(memoryview(self.raw)[_LENGTH.size :], 1))
        except ValueError:
            return ""

    def _read(self) -> tuple[str, str, str]:
        """Of all kinds but Status the first field is ObjectMeta."""
        if self.type == "ERROR":
            return "", "", ""
        try:
            extension = protobuf.field(memoryview(self.raw)[_LENGTH.size :], 2)
            packed = protobuf.field(extension, 1)
            if bytes(packed[: len(MAGIC)]) != MAGIC:
                return "", "", ""
            found = dict(protobuf.fields(protobuf.field(protobuf.field(packed[len(MAGIC) :], 2), 1)))
        except ValueError:
            return "", "", ""
        return protobuf.string(found.get(1)), protobuf.string(found.get(3)), protobuf.string(found.get(6))


class Framing:
    """Cuts a stream into events. What is `fed` comes back as frames; what is `followed` only moves it on.

    Both may alternate anywhere: the rest of an event that was begun when it was followed comes as frames that do not
    begin, as soon as it is there.
    """

    @property
    def begun(self) -> bool:
        """Whether the beginning of an event was followed, and not yet its end."""
        return False

    @property
    def partial(self) -> bytes:
        """The beginning of an event that was fed."""
        return b""

    def feed(self, data: bytes) -> list[Frame]:
        """The events that end in `data`, and what else of it can be no part of one."""
        raise NotImplementedError

    def follow(self, data: bytes) -> None:
        """Takes note of what goes by. Must not be called while there is something partial."""
        raise NotImplementedError

    def release(self) -> bytes:
        """What is partial, as followed from now on."""
        raise NotImplementedError

    def error(self, status: dict[str, Any]) -> bytes:
        """An ERROR event."""
        raise NotImplementedError


class JsonFraming(Framing):
    def __init__(self) -> None:
        self._begun = False
        self._tail = bytearray()

    @property
    def begun(self) -> bool:
        return self._begun

    @property
    def partial(self) -> bytes:
        return bytes(self._tail)

    def feed(self, data: bytes) -> list[Frame]:
        frames: list[Frame] = []
        start = 0
        while (end := data.find(b"\n", start) + 1) > 0:
            frames.append(self._line(data[start:end]))
            start = end
        if rest := data[start:]:
            if self._begun:
                frames.append(JsonFrame(rest, begins=False, ends=False))
            else:
                self._tail += rest
                if len(self._tail) > LARGEST:
                    frames.append(JsonFrame(self.release(), ends=False))
        return frames

    def _line(self, end: bytes) -> Frame:
        begins, self._begun = not self._begun, False
        if self._tail:
            end = bytes(self._tail) + end
            self._tail.clear()
        return JsonFrame(end, begins=begins)

    def follow(self, data: bytes) -> None:
        if data:
            self._begun = data[-1] != ord("\n")

    def release(self) -> bytes:
        released = self.partial
        self._tail.clear()
        self.follow(released)
        return released

    def error(self, status: dict[str, Any]) -> bytes:
        return json.dumps({"type": "ERROR", "object": status}, separators=(",", ":")).encode() + b"\n"


class ProtobufFraming(Framing):
    def __init__(self) -> None:
        self._head = b""  # of a frame that was followed: its length, as far as it is known
        self._left = 0  # bytes that such a frame still has
        self._tail = bytearray()

    @property
    def begun(self) -> bool:
        return bool(self._head or self._left)

    @property
    def partial(self) -> bytes:
        return bytes(self._tail)

    def feed(self, data: bytes) -> list[Frame]:
        frames: list[Frame] = []
        if self.begun:
            size = self._pass_by(data, one=True)
            if not size:
                return frames
            frames.append(ProtobufFrame(data[:size], begins=False, ends=not self.begun))
            data = data[size:]
        self._tail += data
        start = 0
        while len(self._tail) - start >= _LENGTH.size:
            size = _LENGTH.unpack_from(self._tail, start)[0]
            end = start + _LENGTH.size + size
            if size > LARGEST:
                del self._tail[:start]
                return [*frames, ProtobufFrame(self.release(), ends=False)]
            if end > len(self._tail):
                break
            frames.append(ProtobufFrame(bytes(self._tail[start:end])))
            start = end
        del self._tail[:start]
        return frames

    def follow(self, data: bytes) -> None:
        self._pass_by(data)

    def _pass_by(self, data: bytes, one: bool = False) -> int:
        """Moves on over `data`, or to the end of the event in it that was begun; how many bytes of it that were."""
        at = 0
        while at < len(data):
            if not self._left:
                missing = _LENGTH.size - len(self._head)
                self._head += data[at : at + missing]
                at += missing
                if len(self._head) < _LENGTH.size:
                    break
                self._left, self._head = _LENGTH.unpack(self._head)[0], b""
            step = min(self._left, len(data) - at)
            self._left -= step
            at += step
            if one and not self._left:
                break
        return min(at, len(data))

    def release(self) -> bytes:
        released = self.partial
        self._tail.clear()
        self.follow(released)
        return released

    def error(self, status: dict[str, Any]) -> bytes:
        packed = (
            MAGIC
            + protobuf.part(1, protobuf.strings("v1", "Status"))
            + protobuf.part(2, protobuf.status(status))
            + protobuf.part(3, b"")
            + protobuf.part(4, b"")
        )
        event = protobuf.part(1, b"ERROR") + protobuf.part(2, protobuf.part(1, packed))
        return _LENGTH.pack(len(event)) + event


class Chunks(Framing):
    """Of what we cannot read (CBOR): each piece is taken for an event, as the server sends each of them off at once."""

    def feed(self, data: bytes) -> list[Frame]:
        return [Frame(data)]

    def follow(self, data: bytes) -> None:
        pass

    def release(self) -> bytes:
        return b""


_FRAMINGS: Final[dict[str, type[Framing]]] = {
    "application/json": JsonFraming,
    "application/vnd.kubernetes.protobuf": ProtobufFraming,
}


def framing(content_type: str) -> Framing | None:
    """How the body of a watch of that Content-Type is framed; None: in a way that we do not know."""
    known = _FRAMINGS.get(content_type.partition(";")[0].strip().lower())
    return known() if known else None


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
