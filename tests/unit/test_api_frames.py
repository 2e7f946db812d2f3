"""Watches are cut into their events, however the network cut them; protobuf is held against bytes of a real server."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bounceback.proxy.api import frames as frames_module
from bounceback.proxy.api import protobuf
from bounceback.proxy.api.frames import Frame, Framing, framing
from bounceback.proxy.api.status import gone_event, status
from bounceback.types.api_request import read
from bounceback.types.api_rule import Answer

JSON = "application/json;stream=watch"
PROTOBUF = "application/vnd.kubernetes.protobuf;stream=watch"

# What kube-apiserver v1.36.3 sent.
ADDED = (
    b"\x00\x00\x00x\n\x05ADDED\x12o\nmk8s\x00\n\x0f\n\x02v1\x12\tConfigMap\x12R\nP\n\x01a\x12\x00\x1a\x0fbb-watch-helper"
    b'"\x00*$91efb80e-45b0-4dfc-afab-8bc1d0dfeaed2\x0420428\x00B\x08\x08\xaf\xbc\x87\xd8\x06\x10\x00\x1a\x00"\x00'
)
BOOKMARK = (
    b'\x00\x00\x00b\n\x08BOOKMARK\x12V\nTk8s\x00\n\x0f\n\x02v1\x12\tConfigMap\x129\n7\n\x00\x12\x00\x1a\x00"\x00*\x00'
    b'2\x0423288\x00B\x00b!\n\x19k8s.io/initial-events-end\x12\x04true\x1a\x00"\x00'
)
EXPIRED = (
    b"\x00\x00\x00d\n\x05ERROR\x12[\nYk8s\x00\n\x0c\n\x02v1\x12\x06Status\x12A\n\x06\n\x00\x12\x00\x1a\x00\x12\x07Failure"
    b'\x1a"too old resource version: 1 (1537)"\x07Expired0\x9a\x03\x1a\x00"\x00'
)
FORBIDDEN = (
    b'\n\x06\n\x00\x12\x00\x1a\x00\x12\x07Failure\x1ayconfigmaps "a" is forbidden: User "x" cannot get resource'
    b' "configmaps" in API group "" in the namespace "bb-watch-helper""\tForbidden*\x15\n\x01a\x12\x00\x1a\nconfigmaps'
    b"(\x002\x000\x93\x03"
)


def line(type_: str, name: str, version: str = "7") -> bytes:
    metadata = {"name": name, "namespace": "shop", "resourceVersion": version}
    event = {"type": type_, "object": {"kind": "ConfigMap", "metadata": metadata}}
    return json.dumps(event, separators=(",", ":")).encode() + b"\n"


LINES = [line("ADDED", "a"), line("MODIFIED", "b"), b"not json\n", b"\n", line("DELETED", "ä" * 99)]
MESSAGES = [ADDED, BOOKMARK, b"\0\0\0\0", ADDED, EXPIRED]


def made(content_type: str) -> Framing:
    found = framing(content_type)
    assert found is not None
    return found


def cut(data: bytes, places: list[int]) -> list[bytes]:
    return [data[start:end] for start, end in pairwise([0, *sorted(place % len(data) for place in places), len(data)])]


streams = pytest.mark.parametrize(("content_type", "events"), [(JSON, LINES), (PROTOBUF, MESSAGES)])
places = st.lists(st.integers(0, 10_000), max_size=40)


@streams
@given(where=places)
def test_events_are_the_same_wherever_the_stream_was_cut(
    content_type: str, events: list[bytes], where: list[int]
) -> None:
    cutter = made(content_type)
    found = [frame for piece in cut(b"".join(events), where) for frame in cutter.feed(piece)]
    assert [frame.raw for frame in found] == events
    assert all(frame.whole for frame in found)
    assert not cutter.partial and not cutter.begun


@streams
@given(where=places, fed=st.lists(st.booleans(), min_size=41, max_size=41))
def test_fed_or_followed_no_byte_is_lost_and_frames_begin_where_events_do(
    content_type: str, events: list[bytes], where: list[int], fed: list[bool]
) -> None:
    cutter = made(content_type)
    written = b""
    found: list[Frame] = []
    for piece, feed in zip(cut(b"".join(events), where), fed, strict=False):
        if feed:
            found += (frames := cutter.feed(piece))
            written += b"".join(frame.raw for frame in frames)
        else:
            written += cutter.release()
            cutter.follow(piece)
            written += piece
    assert written + cutter.partial == b"".join(events)
    assert all(frame.raw in events for frame in found if frame.whole)


@streams
def test_the_rest_of_an_event_that_was_begun_goes_by_at_once(content_type: str, events: list[bytes]) -> None:
    cutter = made(content_type)
    first, second = events[0], events[1]
    cutter.follow(first[:10])
    assert cutter.begun
    (rest,) = cutter.feed(first[10:20])
    assert (rest.raw, rest.begins, rest.ends, rest.type, rest.name) == (first[10:20], False, False, "", "")
    end, whole = cutter.feed(first[20:] + second)
    assert (end.raw, end.begins, end.ends) == (first[20:], False, True)
    assert whole.raw == second and whole.whole


@streams
def test_of_what_is_followed_it_is_known_where_an_event_ends(content_type: str, events: list[bytes]) -> None:
    cutter = made(content_type)
    for data, begun in [
        (events[0] + events[1][:5], True),
        (events[1][5:7], True),
        (events[1][7:], False),
        (b"", False),
    ]:
        cutter.follow(data)
        assert cutter.begun is begun


@streams
def test_what_is_released_was_begun(content_type: str, events: list[bytes]) -> None:
    cutter = made(content_type)
    assert cutter.feed(events[0][:3]) == []
    assert cutter.partial == events[0][:3] and not cutter.begun
    assert cutter.release() == events[0][:3]
    assert cutter.begun and not cutter.partial
    (rest,) = cutter.feed(events[0][3:])
    assert rest.ends and not rest.begins


@streams
def test_an_event_too_large_to_wait_for_goes_by_in_parts(
    monkeypatch: pytest.MonkeyPatch, content_type: str, events: list[bytes]
) -> None:
    monkeypatch.setattr(frames_module, "LARGEST", 20)
    cutter = made(content_type)
    (part,) = cutter.feed(events[0][:30])
    assert part.begins and not part.ends
    end, _ = cutter.feed(events[0][30:] + (b"{}\n" if content_type == JSON else b"\0\0\0\0"))
    assert end.ends and part.raw + end.raw == events[0]


def test_a_line_tells_what_is_in_it() -> None:
    (frame,) = made(JSON).feed(line("MODIFIED", "a", "2042"))
    assert (frame.type, frame.name, frame.namespace, frame.version) == ("MODIFIED", "a", "shop", "2042")


def test_a_message_tells_what_is_in_it() -> None:
    added, bookmark = made(PROTOBUF).feed(ADDED + BOOKMARK)
    assert (added.type, added.name, added.namespace, added.version) == ("ADDED", "a", "bb-watch-helper", "2042")
    assert (bookmark.type, bookmark.name, bookmark.version) == ("BOOKMARK", "", "2328")


def test_a_table_is_named_by_its_row() -> None:
    row = {"cells": ["a"], "object": {"kind": "PartialObjectMetadata", "metadata": {"name": "a", "namespace": "shop"}}}
    table = {"kind": "Table", "metadata": {"resourceVersion": "2"}, "rows": [row]}
    (frame,) = made(JSON).feed(json.dumps({"object": table, "type": "ADDED"}).encode() + b"\n")
    assert (frame.type, frame.name, frame.namespace) == ("ADDED", "a", "shop")


@pytest.mark.parametrize(
    "text", [b"[]\n", b"1\n", b"{}\n", b'{"object":{"rows":[1]}}\n', b"\xff\n", b"[" * 99_999 + b"\n"]
)
def test_a_line_that_is_no_event_says_nothing(text: bytes) -> None:
    (frame,) = made(JSON).feed(text)
    assert (frame.type, frame.name, frame.namespace, frame.version) == ("", "", "", "")


@given(garbage=st.binary(max_size=300))
def test_a_message_that_is_no_event_says_something_or_nothing(garbage: bytes) -> None:
    (frame,) = made(PROTOBUF).feed(len(garbage).to_bytes(4, "big") + garbage)
    assert isinstance(frame.type + frame.name + frame.namespace + frame.version, str)


@given(at=st.integers(4, len(ADDED) - 1), byte=st.integers(0, 255))
def test_a_spoilt_message_is_read_without_an_error(at: int, byte: int) -> None:
    (frame,) = made(PROTOBUF).feed(ADDED[:at] + bytes([byte]) + ADDED[at + 1 :])
    assert isinstance(frame.type + frame.name + frame.namespace + frame.version, str)


def test_an_error_event_is_the_servers_byte_for_byte() -> None:
    assert made(PROTOBUF).error(gone_event(410, "too old resource version: 1 (1537)")) == EXPIRED


def test_an_error_event_is_an_event() -> None:
    for content_type in (JSON, PROTOBUF):
        cutter = made(content_type)
        (frame,) = cutter.feed(cutter.error(gone_event(500, "no quorum")))
        assert frame.type == "ERROR"
        assert b"no quorum" in frame.raw


def test_a_status_is_encoded_as_the_server_does() -> None:
    request = read("GET", "/api/v1/namespaces/bb-watch-helper/configmaps/a")
    assert protobuf.status(status(Answer(403), request, "x")) == FORBIDDEN


def test_causes_and_seconds_are_encoded() -> None:
    packed = protobuf.status(status(Answer(500, retry_after=300), read("GET", "/api/v1/pods"), "x"))
    details = protobuf.field(memoryview(packed), 5)
    assert protobuf.string(protobuf.field(protobuf.field(details, 4), 2)) == "context deadline exceeded"
    assert b"\x28\xac\x02" in bytes(details)


@pytest.mark.parametrize("content_type", ["application/json", "Application/JSON; charset=utf-8", JSON])
def test_json_is_known_by_its_type(content_type: str) -> None:
    assert isinstance(framing(content_type), frames_module.JsonFraming)


@pytest.mark.parametrize("content_type", ["application/cbor-seq", "application/yaml", "text/plain", ""])
def test_other_types_are_not_known(content_type: str) -> None:
    assert framing(content_type) is None
