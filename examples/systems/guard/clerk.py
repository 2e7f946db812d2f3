"""Places orders, as ConfigMaps about which the API server asks the guard, and carries out those that are there.

Every second one is above LIMIT, by mistake: it is for the guard to refuse.

GET /ready   200 while an order was placed in the last STALE_SECONDS; else 503, and why.
GET /audit   {"placed": n, "refused": n, "unasked": n, "passed": n, "caught": n, "overdrawn": n}: orders placed; refused
             by the guard; not placed because it could not be asked; above the limit and placed all the same; found
             by the clerk itself then; carried out though above the limit

FLAW breaks one promise:
  trusting  what is there was let in by the guard, it says, and looks no more
  fragile   the first order about which the guard could not be asked is its last
"""

import os
import threading
import time
from collections import Counter

from answers import Answers, serve
from cluster import Json, RefusedError, ask, own_namespace

FLAW = os.environ.get("FLAW", "")
LIMIT = int(os.environ["LIMIT"])
PAUSE_SECONDS = 0.3
STALE_SECONDS = 3.0
DENIED = "denied the request"  # the API server's words where the webhook was asked, and said no
LABEL = "kind%3Dorder"


class Clerk:
    def __init__(self) -> None:
        self.counts = Counter(placed=0, refused=0, unasked=0, passed=0, caught=0, overdrawn=0)
        self.trouble = "it has not begun"
        self.placed_at = -STALE_SECONDS
        self._place = f"/api/v1/namespaces/{own_namespace()}/configmaps"
        self._number = time.time_ns() // 1_000_000  # names of a clerk before it are not used again

    @property
    def is_well(self) -> bool:
        return time.monotonic() - self.placed_at < STALE_SECONDS

    def place_orders(self) -> None:
        """One after another; one about which nobody could be asked is tried again, under its name."""
        while True:
            try:
                self._place_order(LIMIT * 10 if self._number % 2 else 1)
                self._number += 1
            except (RefusedError, OSError) as error:
                self.trouble = str(error)
                self.counts["unasked"] += 1
                if FLAW == "fragile" and self.counts["placed"]:
                    return
            time.sleep(PAUSE_SECONDS)

    def _place_order(self, size: int) -> None:
        metadata = {"name": f"order-{self._number}", "labels": {"kind": "order"}}
        try:
            ask("POST", self._place, {"metadata": metadata, "data": {"size": str(size)}})
        except RefusedError as error:
            if DENIED in str(error):
                self.counts["refused"] += 1
                return
            if error.status != 409:  # it was placed, and the answer was lost
                raise
        self.counts["passed" if size > LIMIT else "placed"] += 1
        self.placed_at = time.monotonic()

    def carry_out_orders(self) -> None:
        while True:
            try:
                for order in ask("GET", f"{self._place}?labelSelector={LABEL}")["items"]:
                    self._carry_out(order)
            except (RefusedError, OSError) as error:
                print(f"orders wait: {error}", flush=True)
            time.sleep(PAUSE_SECONDS)

    def _carry_out(self, order: Json) -> None:
        ask("DELETE", f"{self._place}/{order['metadata']['name']}")
        if int(order["data"]["size"]) <= LIMIT:
            return
        self.counts["overdrawn" if FLAW == "trusting" else "caught"] += 1


class ClerkAnswers(Answers):
    def do_GET(self) -> None:
        if self.path == "/audit":
            self.answer(200, dict(clerk.counts))
        else:
            self.answer(200 if clerk.is_well else 503, {"trouble": clerk.trouble})


if __name__ == "__main__":
    clerk = Clerk()
    threading.Thread(target=clerk.place_orders, daemon=True).start()
    threading.Thread(target=clerk.carry_out_orders, daemon=True).start()
    serve(ClerkAnswers)
