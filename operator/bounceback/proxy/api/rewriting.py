"""Requests changed on their way, so that the API server itself refuses them. What cannot be changed stays as it is."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Coroutine, Sequence
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

    return await _with_json(exchange, change)


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

        await _with_json(exchange, change, target)
        return True
    exchange.rewrite(exchange.headers, target)
    return True


def name_in(body: bytes) -> str:
    """The object's in that body, in JSON or protobuf; "" where it has none that can be read."""
    try:
        if body.startswith(MAGIC):  # a runtime.Unknown: raw, its metadata, its name
            held = protobuf.field(memoryview(body)[len(MAGIC) :], 2)
            return protobuf.string(protobuf.field(protobuf.field(held, 1), 1))
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


async def _with_json(exchange: Exchange, change: Callable[[Json], None], target: str | None = None) -> bool:
    """Whether the body was an object in JSON (or none) and is changed."""
    await exchange.until_requested()
    if not exchange.requested:  # more than the API server takes: it says so itself
        return False
    try:
        body = json.loads(b"".join(exchange.body or ()) or b"{}")
    except ValueError:  # protobuf, YAML, CBOR
        body = None
    if not isinstance(body, dict) or not _is_object(exchange.headers, exchange.request):
        if target is not None:
            exchange.rewrite(exchange.headers, target)
        return False
    change(body)
    headers = list(exchange.headers)
    if not any(name.lower() == b"content-type" for name, _ in headers):
        headers.append((b"Content-Type", b"application/json"))
    exchange.rewrite(headers, target, json.dumps(body, separators=(",", ":")).encode())
    return True


def _is_object(headers: Sequence[Header], request: ApiRequest) -> bool:
    """A JSON patch is a list of operations; server-side apply may be YAML."""
    if request.verb != "patch":
        return True
    kind = next((value for name, value in headers if name.lower() == b"content-type"), b"")
    return kind.split(b";")[0].strip() in OBJECT_PATCHES or b"apply-patch" in kind
