"""The shop's store: keeps orders, in memory and in a file, and answers over HTTP. One of it runs.

PUT /orders/ID   writes an order, {"number": n}; 200 when it is kept, 503 when it cannot be
GET /orders      {"count": n, "duplicated": n, "ids": [...]}, the newest LIMIT of those in the file
GET /orders/ID   {"times": n}: how often that order was written; 0: it is not there
GET /health      200 if an order could be written now, 503 otherwise
GET /            {"count": n}
GET /authority   who signed the certificate with which the same is answered over TLS, where TLS_PORT is set (PEM)

A number is the moment of the order in milliseconds, and larger than all before it, whatever the clock does.

FOLDER: where the file is; unset: orders are in memory only. Each time before it is used it is compared with memory, and
written anew where others have damaged it.

FLAW breaks one promise, to show that a check can fail:
  careless-store  the file is believed as it is, and an order counts as kept though it could not be written
  clock-bound     once the clock has gone back, no order gets a number until it is where it was
"""

import collections
import contextlib
import os
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from answers import Answers, Server, serve

LIMIT = 20_000
RECORD = 512
"""Bytes that an order takes: what is left of the file's last page is room for seven, however full the volume is."""
TLS_PORT = int(os.environ.get("TLS_PORT", "0"))
NAME = "store"
FOLDER = os.environ.get("FOLDER", "")
FLAW = os.environ.get("FLAW", "")
AUTHORITY = Path("/authority")  # where the Secret shop-ca is, if there is one

orders: dict[str, int] = {}  # id -> how often it was written
lock = threading.Lock()
newest = 0  # the largest number that was given


class Ledger:
    """The file: an order a line."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "orders"
        self.spare = folder / "orders.new"
        self.written = self.path.read_bytes() if self.path.exists() else b""

    def append(self, order: str) -> None:
        """Raises OSError, and the file is as it was."""
        line = f"{order:<{RECORD - 1}}\n".encode()
        if FLAW == "careless-store":
            with contextlib.suppress(OSError), self.path.open("ab", buffering=0) as file:
                file.write(line)
            return
        self.check()
        try:
            with self.path.open("ab", buffering=0) as file:
                if file.write(line) != len(line):
                    raise OSError("there was no room for all of it")
        except OSError:
            with contextlib.suppress(OSError):
                os.truncate(self.path, len(self.written))
            raise
        self.written += line

    def check(self) -> None:
        """It is what was written, or is written anew. Raises OSError."""
        with contextlib.suppress(FileNotFoundError):
            if self.path.read_bytes() == self.written:
                return
        print("the file is not what was written: written anew", flush=True)
        self.spare.write_bytes(self.written)
        self.spare.replace(self.path)

    def lines(self) -> list[str]:
        if FLAW != "careless-store":
            self.check()
        text = self.path.read_text(errors="replace") if self.path.exists() else ""
        return [line.rstrip() for line in text.splitlines()]

    def try_it(self) -> None:
        """Raises OSError where no order could be written."""
        self.spare.write_bytes(bytes(8192))
        self.spare.unlink()


def following() -> int:
    """The next number. Raises OSError."""
    now = int(time.time() * 1000)
    if FLAW == "clock-bound" and now < newest:
        raise OSError(f"the clock has gone back by {newest - now} ms: no number until then")
    return max(newest + 1, now)


ledger = Ledger(Path(FOLDER)) if FOLDER else None


def write(order: str) -> dict[str, object]:
    """Keep an order; the oldest goes when there are more than LIMIT. Raises OSError."""
    global newest
    with lock:
        number = following()
        if ledger is not None:
            ledger.append(order)
        orders[order] = orders.get(order, 0) + 1
        if len(orders) > LIMIT:
            del orders[next(iter(orders))]
        newest = number
    return {"kept": True, "number": number}


def listing() -> dict[str, object]:
    """Raises OSError."""
    with lock:
        found = orders if ledger is None else collections.Counter(ledger.lines()[-LIMIT:])
        return {"count": len(found), "duplicated": sum(n > 1 for n in found.values()), "ids": list(found)}


def times(order: str) -> dict[str, object]:
    """Raises OSError."""
    with lock:
        return {"times": orders.get(order, 0) if ledger is None else ledger.lines().count(order)}


def health() -> dict[str, object]:
    """Raises OSError."""
    with lock:
        following()
        if ledger is not None and FLAW != "careless-store":
            ledger.try_it()
    return {"healthy": True}


class Handler(Answers):
    def do_GET(self) -> None:
        match self.path:
            case "/":
                self.answer(200, {"count": len(orders)})
            case "/orders":
                self.attempt(listing)
            case path if path.startswith("/orders/"):
                self.attempt(lambda: times(path.rpartition("/")[2]))
            case "/health":
                self.attempt(health)
            case "/authority" if TLS_PORT:
                self.reply(200, "application/x-pem-file", SecureServer.authority)
            case _:
                self.answer(404, {"error": "there is only /, /orders, /orders/ID and /health"})

    def do_PUT(self) -> None:
        self.body()
        self.attempt(lambda: write(self.path.rpartition("/")[2]))

    def attempt(self, work: Callable[[], dict[str, object]]) -> None:
        try:
            result = work()
        except OSError as error:
            self.answer(503, {"error": f"nothing can be written: {error}"})
        else:
            self.answer(200, result)


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
