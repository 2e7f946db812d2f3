"""The shop's store: keeps orders, in memory, and answers over HTTP. One of it runs.

PUT /orders/ID   writes an order; 200 when it is kept
GET /orders      {"count": n, "duplicated": n, "ids": [...]}, the newest LIMIT of them
GET /            {"count": n}
"""

import threading

from answers import Answers, serve

LIMIT = 20_000

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
            case _:
                self.answer(404, {"error": "there is only / and /orders"})

    def do_PUT(self) -> None:
        self.body()
        write(self.path.rpartition("/")[2])
        self.answer(200, {"kept": True})


if __name__ == "__main__":
    serve(Handler)
