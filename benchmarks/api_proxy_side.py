"""The API proxy alone: no command line, no models of faults. benchmarks/api_proxy.py starts it.

    python -m benchmarks.api_proxy_side PORT UPSTREAM CERTIFICATE KEY

Both ports are on 127.0.0.1, and the certificate is everybody's. A line on its standard input is a JSON list of rules:
these and no others from then on.
"""

from __future__ import annotations

import asyncio
import gc
import json
import ssl
import sys
from typing import Final

import uvloop

from bounceback.proxy.api.gate import Gate, Upstream
from bounceback.types.api_rule import rule_from

HOST: Final = "127.0.0.1"


class _Orders(asyncio.Protocol):
    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._read = b""

    def data_received(self, data: bytes) -> None:
        *lines, self._read = (self._read + data).split(b"\n")
        for line in lines:
            self._gate.follow(rule_from(rule) for rule in json.loads(line))


async def _live(port: int, upstream: int, certificate: str, key: str) -> None:
    loop = asyncio.get_running_loop()
    to_server = ssl.create_default_context(cafile=certificate)
    to_server.set_alpn_protocols(["http/1.1"])
    gate = Gate(Upstream(HOST, upstream, to_server))
    await loop.create_server(gate.connection, HOST, port, ssl=_own(certificate, key), backlog=4096)
    await loop.connect_read_pipe(lambda: _Orders(gate), sys.stdin)
    gc.freeze()
    await asyncio.Event().wait()


def _own(certificate: str, key: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.set_alpn_protocols(["http/1.1"])
    return context


if __name__ == "__main__":
    _port, _upstream, _certificate, _key = sys.argv[1:]
    uvloop.run(_live(int(_port), int(_upstream), _certificate, _key))
