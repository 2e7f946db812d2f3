"""The HTTP control API of a relay: what is in force, what it did, and changes to it. docs/proxy.md describes it.

On loopback it asks for no token, but for a Host that is loopback, too: a page in somebody's browser must not reach it
by a name of its own (DNS rebinding). Anywhere else it asks for a bearer token.
"""

from __future__ import annotations

import hmac
import ipaddress
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import urlsplit

from aiohttp import web

Json = dict[str, Any]
LONGEST_BODY: Final = 1 << 20


class RefusedError(Exception):
    """What was asked for cannot be: an HTTP status, and what must be, field by field."""

    def __init__(self, status: int, problems: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"{field}: {text}" if field else text for field, text in problems.items()))
        self.status = status
        self.problems = problems


class Controlled:
    """What the API speaks for. Faults are the entries of the file, as JSON."""

    def listing(self) -> Json:
        """Faults, and listeners with their addresses."""
        raise NotImplementedError

    def counters(self) -> Json:
        raise NotImplementedError

    def put(self, name: str, fault: Json) -> bool:
        """Add or change one; whether it is new. Raises RefusedError."""
        raise NotImplementedError

    def remove(self, name: str) -> None:
        """Raises RefusedError."""
        raise NotImplementedError


def is_loopback(host: str) -> bool:
    """By its address; of names only `localhost` is."""
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host == "localhost"


@asynccontextmanager
async def served(controlled: Controlled, host: str, port: int, token: str = "") -> AsyncIterator[tuple[str, int]]:
    """Answers while the block lasts; the address. Raises OSError, and ValueError for a token that is missing."""
    if not token and not is_loopback(host):
        raise ValueError("must have a token for any address but loopback")
    app = web.Application(middlewares=[_guard(token)], client_max_size=LONGEST_BODY)
    app.add_routes(
        [
            web.get("/faults", lambda _: _json(controlled.listing())),
            web.get("/counters", lambda _: _json(controlled.counters())),
            web.put("/faults/{name}", lambda request: _put(controlled, request)),
            web.delete("/faults/{name}", lambda request: _remove(controlled, request)),
        ]
    )
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        yield runner.addresses[0][:2]
    finally:
        await runner.cleanup()


def _guard(token: str) -> Any:
    @web.middleware
    async def guard(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        if token:
            given = request.headers.get("Authorization", "")
            if not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
                answer = _error(401, {"": "must have the header Authorization: Bearer TOKEN"})
                answer.headers["WWW-Authenticate"] = "Bearer"
                return answer
        elif not is_loopback(urlsplit(f"//{request.host}").hostname or ""):
            return _error(403, {"": "must be asked for by a loopback address, or have a token"})
        try:
            return await handler(request)
        except RefusedError as error:
            return _error(error.status, error.problems)
        except web.HTTPException as error:
            return _error(error.status, {"": error.reason})

    return guard


async def _json(body: Json, status: int = 200) -> web.Response:
    return web.json_response(body, status=status)


def _error(status: int, problems: Mapping[str, str]) -> web.Response:
    listed = [{"field": field, "message": message} for field, message in problems.items()]
    return web.json_response({"problems": listed}, status=status)


async def _put(controlled: Controlled, request: web.Request) -> web.Response:
    try:
        body = json.loads(await request.text())
    except ValueError as error:
        raise RefusedError(400, {"": f"must be JSON: {error}"}) from error
    if not isinstance(body, dict):
        raise RefusedError(400, {"": "must be a JSON object"})
    new = controlled.put(request.match_info["name"], body)
    return web.json_response(controlled.listing(), status=201 if new else 200)


async def _remove(controlled: Controlled, request: web.Request) -> web.Response:
    controlled.remove(request.match_info["name"])
    return web.Response(status=204)
