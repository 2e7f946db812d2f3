"""An API server in trouble: a relay before the real one ends TLS, passes requests on, and spoils what it is told to."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

import aiohttp
import yaml
from aiohttp import web
from yarl import URL

from bounceback.drivers.netns import Netns
from bounceback.kube import Kube
from dev import control
from dev.state import Cluster

HOP_BY_HOP: Final = frozenset(
    {"host", "connection", "upgrade", "content-length", "content-encoding", "transfer-encoding", "accept-encoding"}
)
Made = TypeVar("Made")


@dataclass(frozen=True)
class Asked:
    """One request, as it came in."""

    at: float
    method: str
    path: str
    watch: bool


def everything(_: Asked) -> bool:
    return True


def experiments(asked: Asked) -> bool:
    """Requests for all experiments of a namespace: lists and watches."""
    return asked.path.endswith("/faultexperiments") and asked.method == "GET"


def watches(asked: Asked) -> bool:
    """Watches of experiments."""
    return asked.watch and experiments(asked)


def leases(asked: Asked) -> bool:
    return "/leases" in asked.path


@dataclass(frozen=True)
class Trouble:
    """What comes of the requests that it concerns. What is open when it begins ends; with `body` if that is a 200."""

    concerns: Callable[[Asked], bool] = everything
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    silent: bool = False  # connections stay, and nothing comes
    only_open: bool = False  # requests that come later are answered
    unreachable: bool = False  # connections are aborted, and new ones refused


def says(code: int, reason: str, **more: object) -> Trouble:
    """An answer as an API server gives it."""
    return Trouble(status=code, headers={"Content-Type": "application/json"}, body=_status(code, reason), **more)  # type: ignore[arg-type]


def event(code: int, reason: str) -> Trouble:
    """An ERROR event on each watch of experiments."""
    return Trouble(concerns=watches, body=b'{"type":"ERROR","object":' + _status(code, reason) + b"}\n")


def _status(code: int, reason: str) -> bytes:
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code}
    return json.dumps({**body, "message": "trouble, as ordered"}).encode()


class Troubled:
    """Requests are counted as they come in; trouble lasts from `begin` to `end`."""

    def __init__(self, kube: Kube, context: ssl.SSLContext, listening: Callable[[int], socket.socket]) -> None:
        """`listening` makes a socket that listens on a port; 0 is any."""
        self.port = 0
        self._context = context
        self._listening = listening
        self.asked: list[Asked] = []
        self._host = kube.host
        self._session = kube.new_session([])
        self._trouble: Trouble | None = None
        self._over = asyncio.Event()
        self._pumps: dict[asyncio.Task[None], Asked] = {}
        app = web.Application(client_max_size=0)
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True)

    async def serve(self) -> None:
        await self._runner.setup()
        await self._listen()

    async def begin(self, trouble: Trouble) -> None:
        self._trouble = trouble
        self._over.clear()
        for pump, asked in tuple(self._pumps.items()):
            if trouble.concerns(asked):
                pump.cancel()
        if trouble.unreachable:
            for site in tuple(self._runner.sites):
                await site.stop()
            self._abort_all()

    async def end(self) -> None:
        self._trouble = None
        self._over.set()
        if not self._runner.sites:
            await self._listen()

    async def _listen(self) -> None:
        listening = self._listening(self.port)
        self.port = listening.getsockname()[1]
        await web.SockSite(self._runner, listening, ssl_context=self._context).start()

    async def close(self) -> None:
        self._abort_all()
        await self._runner.cleanup()
        await self._session.close()

    def count(self, concerns: Callable[[Asked], bool], since: float) -> int:
        return sum(concerns(asked) for asked in self.asked if asked.at >= since)

    def _abort_all(self) -> None:
        assert self._runner.server is not None
        for connection in self._runner.server.connections:
            if connection.transport is not None:
                connection.transport.abort()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        asked = Asked(time.monotonic(), request.method, request.path, "watch" in request.query)
        self.asked.append(asked)
        trouble = self._trouble
        if trouble is None or trouble.only_open or not trouble.concerns(asked):
            passing = self._tunnel if "upgrade" in request.headers else self._pass
            return await passing(request, asked)
        if trouble.silent:
            return await self._say_nothing(request)
        return web.Response(status=trouble.status, headers=trouble.headers, body=trouble.body)

    async def _say_nothing(self, request: web.Request) -> web.Response:
        await self._over.wait()
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async def _pass(self, request: web.Request, asked: Asked) -> web.StreamResponse:
        data = await request.read() if request.can_read_body else None
        timeout = aiohttp.ClientTimeout(total=None)
        url, headers = self._there(request), _kept(request.headers)
        async with self._session.request(request.method, url, headers=headers, data=data, timeout=timeout) as behind:
            answer = web.StreamResponse(status=behind.status, headers=_kept(behind.headers))
            await answer.prepare(request)
            pump = asyncio.create_task(_pump(behind, answer))
            self._pumps[pump] = asked
            try:
                await asyncio.wait({pump})
            finally:
                del self._pumps[pump]
                pump.cancel()
            if not pump.cancelled():
                pump.result()
            elif self._trouble is not None and self._trouble.silent:
                await self._say_nothing(request)
            with suppress(ConnectionError):  # it has gone, or was sent away
                if pump.cancelled() and self._trouble is not None and self._trouble.status == 200:
                    await answer.write(self._trouble.body)
                await answer.write_eof()
            return answer

    async def _tunnel(self, request: web.Request, _: Asked) -> web.StreamResponse:
        protocols = [each.strip() for each in request.headers.get("Sec-WebSocket-Protocol", "").split(",")]
        kept = {k: v for k, v in _kept(request.headers).items() if not k.lower().startswith("sec-websocket")}
        try:
            behind = await self._session.ws_connect(self._there(request), headers=kept, protocols=protocols)
        except aiohttp.WSServerHandshakeError as error:
            return web.Response(status=error.status, text=error.message)
        before = web.WebSocketResponse(protocols=protocols)
        await before.prepare(request)
        there, back = asyncio.create_task(_messages(before, behind)), asyncio.create_task(_messages(behind, before))
        await asyncio.wait({there, back}, return_when=asyncio.FIRST_COMPLETED)
        await behind.close()
        await before.close()
        await asyncio.wait({there, back})
        return before

    def _there(self, request: web.Request) -> URL:
        return URL(self._host + request.raw_path, encoded=True)


def _kept(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in HOP_BY_HOP}


async def _pump(behind: aiohttp.ClientResponse, answer: web.StreamResponse) -> None:
    with suppress(ConnectionError):
        async for chunk in behind.content.iter_any():
            await answer.write(chunk)


async def _messages(
    one: web.WebSocketResponse | aiohttp.ClientWebSocketResponse,
    other: web.WebSocketResponse | aiohttp.ClientWebSocketResponse,
) -> None:
    async for message in one:
        if message.type is aiohttp.WSMsgType.BINARY and not other.closed:
            await other.send_bytes(message.data)


def in_network(cluster: Cluster, make: Callable[[], Made]) -> Made:
    """What `make` gives when it is called in the network of the cluster's first node."""
    place = Netns.at(f"/proc/{control.first_process(cluster.control)}/ns/net")

    def enter() -> Made:
        with place.entered():
            return make()

    try:
        with ThreadPoolExecutor(1) as one:  # a thread's network is its own
            return one.submit(enter).result()
    finally:
        place.close()


@asynccontextmanager
async def troubled(cluster: Cluster, folder: Path, *, inside: bool) -> AsyncIterator[tuple[Troubled, Path]]:
    """The server and the kubeconfig for it; `inside`: to be reached from the cluster's network instead of from here."""
    certificates = cluster.folder / "pki"
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates / "apiserver.crt", certificates / "apiserver.key")

    def here(port: int) -> socket.socket:
        return socket.create_server(("127.0.0.1", port))

    def there(port: int) -> socket.socket:
        return in_network(cluster, lambda: here(port))

    async with Kube.connected(str(cluster.kubeconfig)) as kube:
        server = Troubled(kube, context, there if inside else here)
        await server.serve()
        config = yaml.safe_load(cluster.kubeconfig.read_text())
        config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{server.port}"
        path = folder / "troubled.kubeconfig"
        path.write_text(json.dumps(config))
        try:
            yield server, path
        finally:
            await server.close()
