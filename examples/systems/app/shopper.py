"""Customers who never rest, and remember what they were promised.

Each worker orders through the Service `web` and keeps the ids of the orders that were acknowledged.

GET /audit   {"acknowledged": n, "lost": n, "lostIds": [...], "duplicated": n, "refused": n, "unknown": n}
             lost: acknowledged SETTLED_SECONDS ago or earlier, and not in the store. Unknown: no answer came.
             503 when the store cannot be asked: then nothing is known.
"""

import collections
import http.client
import itertools
import json
import os
import threading
import time
import uuid

from answers import Answers, serve

WEB = os.environ.get("WEB", "web:80")
STORE = os.environ.get("STORE", "store:8080")
WORKERS = 4
PAUSE_SECONDS = 0.5
PATIENCE_SECONDS = 3.0
SETTLED_SECONDS = 5.0
REMEMBERED = 10_000

run = uuid.uuid4().hex[:8]
numbers = itertools.count(1)
acknowledged: collections.deque[tuple[float, str]] = collections.deque(maxlen=REMEMBERED)
outcomes = {"refused": 0, "unknown": 0}
lock = threading.Lock()


def order() -> None:
    """One order on a connection of its own, so that the Service may choose any replica."""
    name = f"{run}-{next(numbers)}"
    connection = http.client.HTTPConnection(WEB, timeout=PATIENCE_SECONDS)
    try:
        connection.request("POST", "/order", json.dumps({"id": name}), {"Connection": "close"})
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException):
        status = 0
    finally:
        connection.close()
    with lock:
        if status == 201:
            acknowledged.append((time.monotonic(), name))
        else:
            outcomes["refused" if status else "unknown"] += 1


def shop() -> None:
    while True:
        order()
        time.sleep(PAUSE_SECONDS)


def audit() -> dict[str, object]:
    """Compare what was promised with what is there. Raises OSError or HTTPException when the store does not answer."""
    with lock:
        settled = time.monotonic() - SETTLED_SECONDS
        promised = [name for at, name in acknowledged if at <= settled]
        counts = dict(outcomes)
    connection = http.client.HTTPConnection(STORE, timeout=PATIENCE_SECONDS)
    try:
        connection.request("GET", "/orders")
        stored = json.loads(connection.getresponse().read())
    finally:
        connection.close()
    kept = set(stored["ids"])
    lost = [name for name in promised if name not in kept]
    return {
        "acknowledged": len(promised),
        "lost": len(lost),
        "lostIds": lost[:10],
        "duplicated": stored["duplicated"],
        **counts,
    }


class Handler(Answers):
    def do_GET(self) -> None:
        if self.path != "/audit":
            self.answer(404, {"error": "there is only /audit"})
            return
        try:
            self.answer(200, audit())
        except (OSError, http.client.HTTPException) as error:
            self.answer(503, {"error": f"the store cannot be asked: {error!r}"})


if __name__ == "__main__":
    for _ in range(WORKERS):
        threading.Thread(target=shop, daemon=True).start()
    serve(Handler)
