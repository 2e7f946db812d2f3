"""A way to the API server that can be cut."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

from bounceback.kube import Kube


class Relay:
    """Passes bytes between its clients and one server, until it is told to cut."""

    def __init__(self, host: str, port: int) -> None:
        self._upstream = (host, port)
        self._open: set[asyncio.StreamWriter] = set()

    def cut(self) -> None:
        """Abort every connection that is open at the moment; new ones may come."""
        for writer in tuple(self._open):
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(*self._upstream)
        self._open |= {writer, back}
        try:
            await asyncio.gather(self._pass(reader, back), self._pass(there, writer))
        finally:
            self._open -= {writer, back}

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        writer.close()


@asynccontextmanager
async def through_relay(kubeconfig: str, folder: Path) -> AsyncIterator[tuple[Relay, Kube]]:
    """A connection by way of a relay; the kubeconfig for it is written to `folder`."""
    text = Path(kubeconfig).read_text()  # noqa: ASYNC240 - nothing else runs yet
    found = re.search(r'server"?: "?(https://[^"\s]+)', text)
    assert found is not None
    server = urlsplit(found[1])
    relay = Relay(server.hostname or "", server.port or 443)
    async with await asyncio.start_server(relay.serve, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        path = folder / "kubeconfig"
        path.write_text(text.replace(found[1], f"https://127.0.0.1:{port}"))
        async with Kube.connected(str(path)) as kube:
            yield relay, kube
        relay.cut()
