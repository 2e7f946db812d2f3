"""The shop's store: keeps orders, in memory, and answers over HTTP. One of it runs.

PUT /orders/ID   writes an order; 200 when it is kept
GET /orders      {"count": n, "duplicated": n, "ids": [...]}, the newest LIMIT of them
GET /            {"count": n}
GET /authority   who signed the certificate with which the same is answered over TLS, where TLS_PORT is set (PEM)
"""

import os
import ssl
import threading
from pathlib import Path
from typing import Any

from answers import Answers, Server, serve

LIMIT = 20_000
TLS_PORT = int(os.environ.get("TLS_PORT", "0"))
NAME = "store"
AUTHORITY = Path("/authority")  # where the Secret shop-ca is, if there is one

orders: dict[str, int] = {}  # id -> how often it was written
lock = threading.Lock()


def write(order: str) -> None:
    """Keep an order; the oldest goes when there are more than LIMIT."""
    with lock:
        orders[order] = orders.get(order, 0) + 1
        if len(orders) > LIMIT:
            del orders[next(iter(orders))]


def listing() -> dict[str, object]:
    with lock:
        return {"count": len(orders), "duplicated": sum(n > 1 for n in orders.values()), "ids": list(orders)}


class Handler(Answers):
    def do_GET(self) -> None:
        match self.path:
            case "/":
                self.answer(200, {"count": len(orders)})
            case "/orders":
                self.answer(200, listing())
            case "/authority" if TLS_PORT:
                self.reply(200, "application/x-pem-file", SecureServer.authority)
            case _:
                self.answer(404, {"error": "there is only / and /orders"})

    def do_PUT(self) -> None:
        self.body()
        write(self.path.rpartition("/")[2])
        self.answer(200, {"kept": True})


class SecureServer(Server):
    """Shakes hands in the connection's own thread, with a certificate that nobody had before."""

    authority = b""

    def __init__(self) -> None:
        import certificates  # needs the package `cryptography`

        SecureServer.authority, certificate, key = certificates.own(NAME, AUTHORITY)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with os.fdopen(os.memfd_create("certificate"), "wb") as both:  # there is no file system to write to
            both.write(certificate + key)
            both.flush()
            self.context.load_cert_chain(f"/proc/self/fd/{both.fileno()}")
        super().__init__(("", TLS_PORT), Handler)

    def finish_request(self, request: Any, client_address: Any) -> None:
        super().finish_request(self.context.wrap_socket(request, server_side=True), client_address)


if __name__ == "__main__":
    if TLS_PORT:
        threading.Thread(target=SecureServer().serve_forever, daemon=True).start()
    serve(Handler)
