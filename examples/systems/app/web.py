"""The shop's web tier: serves pages and takes orders; both need the store, to which it keeps connections open.

GET  /         a page with a number that comes from the store: 200, or 503 when the store cannot be reached
POST /order    {"id": ...}: 201 once the store has it, or 503
GET  /orders/ID  200 if the store has that order, 404 if not, or 503
GET  /ready    as /: a replica that is cut off from the store must get no customers
GET  /gauges   what it has open, as Prometheus reads it
GET  /metrics  what was served, refused, reconnected, and certificates not believed, expired or let pass (JSON)
POST /trust    somebody has looked after the store: it may be asked again

STORE_TLS: where the store answers over TLS, with a certificate of its own authority, which STORE gives out.
ALARM: a certificate that cannot be believed is an alarm, and the store is not asked again until POST /trust.

FLAW breaks one promise, to show that a check can fail:
  dead-connections  a connection that failed goes back into the pool as it is, so it fails for ever
  early-answer      an order is acknowledged before it is stored, and forgotten when that fails
  kept-address      the store's address is looked up when it is first reconnected to, and never again
  any-certificate   a certificate that cannot be believed is believed all the same
  short-memory      the alarm is forgotten after a while
  open-notes        whenever the store does not answer something is opened, and never closed
and two about limits: see load.py.
"""

import http.client
import json
import os
import queue
import socket
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path

import load
from answers import Answers, serve

STORE = os.environ.get("STORE", "store:8080")
STORE_TLS = os.environ.get("STORE_TLS", "")
ALARM = os.environ.get("ALARM", "")
FLAW = os.environ.get("FLAW", "")
CONNECTIONS = 4
PATIENCE_SECONDS = 1.5
BATCH_SECONDS = 2.0
MEMORY_SECONDS = 1.0
EXPIRED = 10  # X509_V_ERR_CERT_HAS_EXPIRED: said only where all else about a certificate is right

counters = {"served": 0, "refused": 0, "reconnected": 0, "unbelieved": 0, "expired": 0, "downgraded": 0}
counting = threading.Lock()
alarm = threading.Event()
notes: list[socket.socket] = []  # only with open-notes


def count(name: str) -> None:
    with counting:
        counters[name] += 1


class StoreError(Exception):
    """No answer from the store in time; says why."""


def authority() -> ssl.SSLContext | None:
    """Who is believed, where the store speaks TLS. Raises StoreError."""
    if not STORE_TLS:
        return None
    connection = http.client.HTTPConnection(STORE, timeout=PATIENCE_SECONDS)
    try:
        connection.request("GET", "/authority")
        return ssl.create_default_context(cadata=connection.getresponse().read().decode())
    except (OSError, http.client.HTTPException) as error:
        raise StoreError(repr(error)) from error
    finally:
        connection.close()


class KeptAddress(http.client.HTTPConnection):
    """What kept-address does: the first answer of the resolver is good enough for ever."""

    address = ""

    def connect(self) -> None:
        KeptAddress.address = KeptAddress.address or socket.gethostbyname(self.host)
        self.sock = socket.create_connection((KeptAddress.address, self.port), self.timeout)


def raise_alarm() -> None:
    if not alarm.is_set() and FLAW == "short-memory":
        threading.Timer(MEMORY_SECONDS, alarm.clear).start()
    alarm.set()


class Secure(http.client.HTTPSConnection):
    """Counts the certificates that it did not believe, and those that any-certificate let pass."""

    def connect(self) -> None:
        try:
            super().connect()
        except ssl.SSLCertVerificationError as error:
            count("unbelieved")
            if error.verify_code == EXPIRED:
                count("expired")
            if ALARM:
                raise_alarm()
            if FLAW != "any-certificate":
                raise
            count("downgraded")
            plain = socket.create_connection((self.host, self.port), self.timeout)
            self.sock = ssl._create_unverified_context().wrap_socket(plain)


class Store:
    """A few connections that are used in turn, and replaced when they fail."""

    def __init__(self, believed: ssl.SSLContext | None = None) -> None:
        self.idle: queue.Queue[http.client.HTTPConnection] = queue.Queue()
        self.believed = believed
        self.answered = False
        for _ in range(CONNECTIONS):
            self.idle.put(self.connection())

    def connection(self) -> http.client.HTTPConnection:
        """It opens with its first request."""
        if self.believed is not None:
            return Secure(STORE_TLS, timeout=PATIENCE_SECONDS, context=self.believed)
        if FLAW == "kept-address" and self.answered:
            return KeptAddress(STORE, timeout=PATIENCE_SECONDS)
        return http.client.HTTPConnection(STORE, timeout=PATIENCE_SECONDS)

    def ask(self, method: str, path: str) -> bytes:
        """The store's answer. Raises StoreError after PATIENCE_SECONDS without one, or when it says that it cannot."""
        if alarm.is_set():
            raise StoreError("it had a certificate that cannot be believed, and nobody has looked after it")
        try:
            connection = self.idle.get(timeout=PATIENCE_SECONDS)
        except queue.Empty:
            raise StoreError("all connections are busy") from None
        try:
            connection.request(method, path)
            response = connection.getresponse()
            answer = response.read()
            self.answered = True
            if response.status >= 500:
                raise StoreError(answer.decode(errors="replace"))
            return answer
        except (OSError, http.client.HTTPException) as error:
            if FLAW != "dead-connections":
                connection.close()
                connection = self.connection()
                count("reconnected")
            if FLAW == "open-notes" and self.answered:
                notes.extend(socket.socketpair())
            raise StoreError(repr(error)) from error
        finally:
            self.idle.put(connection)


def first_contact() -> Store:
    """Connections to a store that has answered: nothing is served before, and no flaw shows."""
    while True:
        try:
            fresh = Store(authority())
            for _ in range(CONNECTIONS):  # in turn
                fresh.ask("GET", "/")
        except StoreError as error:
            print(f"waiting for the store: {error}", flush=True)
            time.sleep(0.2)
        else:
            return fresh


store = Store()
unwritten: queue.Queue[str] = queue.Queue()  # only with early-answer


def take_order(order: str) -> None:
    """Returns when the order counts as taken. Raises StoreError."""
    if FLAW == "early-answer":
        unwritten.put(order)
    else:
        store.ask("PUT", f"/orders/{order}")


def write_later() -> None:
    """What early-answer does with its orders: every BATCH_SECONDS, one try each."""
    while True:
        time.sleep(BATCH_SECONDS)
        for _ in range(unwritten.qsize()):
            try:
                store.ask("PUT", f"/orders/{unwritten.get()}")
            except StoreError as error:
                print(f"an order is lost: {error}", flush=True)


def gauges() -> bytes:
    have = {
        "shop_open_descriptors": len(list(Path("/proc/self/fd").iterdir())),
        "shop_threads": threading.active_count(),
    }
    return "".join(f"# TYPE {name} gauge\n{name} {value}\n" for name, value in have.items()).encode()


class Handler(Answers):
    def do_GET(self) -> None:
        match self.path:
            case "/" | "/ready":
                self.attempt(200, lambda: json.loads(store.ask("GET", "/")))
            case path if path.startswith("/orders/"):
                self.tell_of(path)
            case "/gauges":
                self.reply(200, "text/plain; version=0.0.4", gauges())
            case "/metrics":
                self.answer(200, {**counters, "alarm": alarm.is_set(), "flaw": FLAW})
            case _:
                self.answer(404, {"error": "there is only /, /order, /orders/ID, /ready, /gauges, /metrics and /trust"})

    def tell_of(self, path: str) -> None:
        try:
            times = json.loads(store.ask("GET", path))["times"]
        except StoreError as error:
            self.answer(503, {"error": f"the store cannot be reached: {error}"})
        else:
            self.answer(200 if times else 404, {"times": times})

    def do_POST(self) -> None:
        body = self.body()
        if self.path == "/trust":
            alarm.clear()
            self.answer(200, {"alarm": False})
            return
        order = json.loads(body)["id"]
        self.attempt(201, lambda: take_order(order))

    def attempt(self, status: int, work: Callable[[], object]) -> None:
        if load.breaker.open:
            count("refused")
            self.answer(503, {"error": "too much to do"})
            return
        try:
            load.work()
            result = work()
        except StoreError as error:
            count("refused")
            self.answer(503, {"error": f"the store cannot be reached: {error}"})
        else:
            count("served")
            self.answer(status, {"result": result})


if __name__ == "__main__":
    load.own_state()
    store = first_contact()
    if FLAW == "early-answer":
        threading.Thread(target=write_later, daemon=True).start()
    serve(Handler, no_thread=lambda: load.breaker.trip("no thread can be started"))
