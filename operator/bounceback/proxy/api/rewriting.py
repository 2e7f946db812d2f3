"""Requests changed on their way, so that the API server itself refuses them. What cannot be changed stays as it is."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, Final
from urllib.parse import parse_qsl, quote, urlencode

from bounceback.proxy.api import protobuf
from bounceback.proxy.api.exchange import Exchange, Header
from bounceback.proxy.api.frames import MAGIC
from bounceback.types.api_request import ApiRequest

Json = dict[str, Any]
Change = Coroutine[Any, Any, bool]
OBJECT_PATCHES: Final = (b"application/merge-patch+json", b"application/strategic-merge-patch+json")
_NAMESPACE: Final = re.compile(r"(/namespaces/)[^/?]+")


async def with_version(exchange: Exchange, version: str) -> bool:
    """Of long ago: 409 for writes (optimistic locking, preconditions), 410 for lists and watches. Whether it is so."""
    request = exchange.request
    if request.verb in ("list", "watch"):
        exchange.rewrite(exchange.headers, _asking_for(exchange.target, version, exact=request.verb == "list"))
        return True
    if request.verb not in ("update", "patch", "delete"):
        return False

    def change(body: Json) -> None:
        if request.verb == "delete":  # DeleteOptions
            body.setdefault("preconditions", {})["resourceVersion"] = version
            body.setdefault("kind", "DeleteOptions")
            body.setdefault("apiVersion", "v1")
        else:
            body.setdefault("metadata", {})["resourceVersion"] = version

    at = (2, 2) if request.verb == "delete" else (1, 6)
    return await _with_body(exchange, change, lambda _: _nested(*at, version))


async def with_namespace(exchange: Exchange, namespace: str) -> bool:
    """Instead of its own. Whether it was for one."""
    request = exchange.request
    if not request.namespace or request.resource == "namespaces":
        return False
    target = _NAMESPACE.sub(lambda found: found[1] + quote(namespace, safe=""), exchange.target, count=1)
    if request.verb in ("create", "update"):

        def change(body: Json) -> None:
            if "namespace" in body.get("metadata", {}):
                body["metadata"]["namespace"] = namespace

        await _with_body(
            exchange, change, lambda found: _nested(1, 3, namespace) if _named_in(found, 3) else b"", target
        )
        return True
    exchange.rewrite(exchange.headers, target)
    return True


def name_in(body: bytes) -> str:
    """The object's in that body, in JSON or protobuf; "" where it has none that can be read."""
    try:
        if body.startswith(MAGIC):
            return _named_in(protobuf.field(memoryview(body)[len(MAGIC) :], 2), 1)
        found = json.loads(body)["metadata"]["name"]
    except (ValueError, KeyError, TypeError):
        return ""
    return found if isinstance(found, str) else ""


def with_spoilt_token(headers: Sequence[Header]) -> list[Header] | None:
    """The bearer token with a wrong signature; None where there is no token."""
    found = False
    changed = []
    for name, value in headers:
        if name.lower() == b"authorization" and value[:7].lower() == b"bearer ":
            found = True
            value = _spoilt(value)
        changed.append((name, value))
    return changed if found else None


def _spoilt(value: bytes) -> bytes:
    """One character in the middle of the last part: the last one of base64 may hold bits that do not count."""
    at = (value.rfind(b".") + 1 + len(value)) // 2 if b"." in value else len(value) - 1
    at = min(at, len(value) - 1)
    return value[:at] + (b"A" if value[at : at + 1] != b"A" else b"B") + value[at + 1 :]


def _asking_for(target: str, version: str, *, exact: bool) -> str:
    path, _, query = target.partition("?")
    asked = [
        (key, value)
        for key, value in parse_qsl(query, keep_blank_values=True)
        if key not in ("resourceVersion", "resourceVersionMatch", "sendInitialEvents", "continue")
    ]
    asked.append(("resourceVersion", version))
    if exact:
        asked.append(("resourceVersionMatch", "Exact"))
    return f"{path}?{urlencode(asked)}"


async def _with_body(
    exchange: Exchange,
    change: Callable[[Json], None],
    more: Callable[[memoryview], bytes],
    target: str | None = None,
) -> bool:
    """Whether the body was an object in JSON (or none) or protobuf, and is changed; `more` is for the latter."""
    await exchange.until_requested()
    body = b"".join(exchange.body or ())
    headers = list(exchange.headers)
    changed = None
    if exchange.requested and _is_object(headers, exchange.request):  # else it is more than the API server takes
        with suppress(ValueError):
            changed = _in_protobuf(body, more) if body.startswith(MAGIC) else _in_json(body, change)
    if changed is None:  # YAML, CBOR
        if target is not None:
            exchange.rewrite(headers, target)
        return False
    if not body:
        headers = [header for header in headers if header[0].lower() != b"content-type"]
        headers.append((b"Content-Type", b"application/json"))
    exchange.rewrite(headers, target, changed)
    return True


def _in_json(body: bytes, change: Callable[[Json], None]) -> bytes | None:
    found = json.loads(body or b"{}")
    if not isinstance(found, dict):
        return None
    change(found)
    return json.dumps(found, separators=(",", ":")).encode()


def _in_protobuf(body: bytes, more: Callable[[memoryview], bytes]) -> bytes:
    """The object, field 2 of a runtime.Unknown, with fields after its own: those that come last hold, and messages that
    come twice are merged (protobuf.dev/programming-guides/encoding, "Last One Wins")."""
    parts = protobuf.fields(memoryview(body)[len(MAGIC) :])
    return MAGIC + b"".join(
        protobuf.part(number, bytes(content) + (more(content) if number == 2 else b"")) for number, content in parts
    )


def _nested(outer: int, inner: int, value: str) -> bytes:
    """Of an object metadata is 1, in it name 1, namespace 3, resourceVersion 6; of DeleteOptions preconditions is 2, in
    it resourceVersion 2 (generated.proto in k8s.io/apimachinery/pkg/apis/meta/v1).
    """
    return protobuf.part(outer, protobuf.part(inner, value.encode()))


def _named_in(found: memoryview, number: int) -> str:
    """A field of an object's metadata; "" where it has none."""
    return protobuf.string(protobuf.field(protobuf.field(found, 1), number))


def _is_object(headers: Sequence[Header], request: ApiRequest) -> bool:
    """A JSON patch is a list of operations; server-side apply may be YAML."""
    if request.verb != "patch":
        return True
    kind = next((value for name, value in headers if name.lower() == b"content-type"), b"")
    return kind.split(b";")[0].strip() in OBJECT_PATCHES or b"apply-patch" in kind
