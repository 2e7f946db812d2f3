"""A client of NATS that is by TLS where that is asked for; it says who it is only then."""

from __future__ import annotations

import ssl
from typing import Any

import nats.errors
from nats.aio.client import Client as Plain

from bounceback.connecting.tls import NO_TLS


class Client(Plain):
    """The library's own says who it is in the clear to a server that asks for no TLS, whatever it was given."""

    async def _process_connect_init(self) -> None:
        """What comes of it where the library would wait for ever for the end of a stream that TLS has taken over."""
        try:
            await super()._process_connect_init()
        except BaseException:
            transport, self._transport = self._transport, None
            if transport is not None:
                transport.close()  # type: ignore[no-untyped-call]
            raise

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        if initial_connection:
            self._insist(info)
        await super()._process_info(info, initial_connection)

    def _insist(self, info: dict[str, Any]) -> None:
        """Before anything is said. A server that leaves it to the client (`allow_non_tls`) gets TLS."""
        if "tls" in self.options:
            if not info.get("tls_required") and not info.get("tls_available"):
                raise nats.errors.Error(f"nats: {NO_TLS}")
            info["tls_required"] = True
        elif info.get("tls_required"):
            raise nats.errors.Error("nats: the server wants TLS: give `tls`")


def place(host: str, port: int, context: ssl.SSLContext | None) -> list[str]:
    """As the library wants it."""
    return [f"{'tls' if context else 'nats'}://{f'[{host}]' if ':' in host else host}:{port}"]
