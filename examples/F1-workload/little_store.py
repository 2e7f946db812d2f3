"""A store of registers, items, counters and a queue, in memory and over HTTP. One promise can be broken, to show it.

    python little_store.py [--port 8080] [--flaw forgetful|repeating|lagging|disorderly|denying] [--one-in 100]

PUT  /registers/KEY   the body is its value            GET /registers/KEY   404: it has none
PUT  /items/VALUE     added                            GET /items/VALUE     404: it is not there
                                                       GET /items           a line each
POST /counters/KEY    1 added                          GET /counters/KEY
POST /queue           the body is put in               POST /queue/next     taken out; 204: it is empty
POST /rpc             JSON-RPC 2.0: write [KEY, VALUE] and read [KEY] of registers

Flaws, each in one of so many operations:
  forgetful   a write is acknowledged, and not done
  repeating   a write is done twice; of a register it comes again, a second later
  lagging     a read shows what was there a second ago
  disorderly  a take gets the newest value instead of the oldest
  denying     a write is done, and answered with 409
"""

import argparse
import asyncio
import json
import math
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, cast

Answer = tuple[int, str]
REASONS = {200: "OK", 204: "No Content", 404: "Not Found", 409: "Conflict"}
LAG = 1.0


class Store:
    def __init__(self, flaw: str, one_in: int) -> None:
        self._flaw, self._one_in, self._asked = flaw, one_in, 0
        self.registers: dict[str, str] = {}
        self.items: Counter[str] = Counter()
        self.counters: Counter[str] = Counter()
        self.queue: deque[str] = deque()
        self._log: dict[str, list[tuple[float, Answer]]] = {}  # lagging: what a read would have got, and since when

    def answer(self, method: str, path: str, body: str) -> Answer:
        if path == "/rpc":
            return 200, json.dumps(self._call(json.loads(body)))
        _, kind, *rest = path.split("/")
        name = rest[0] if rest else ""
        if method == "GET":
            return self._read(kind, name)
        if (kind, name) == ("queue", "next"):
            if not self.queue:
                return 204, ""
            return 200, self.queue.pop() if self._now_and_then("disorderly") else self.queue.popleft()
        return self._write(kind, name, body)

    def _call(self, call: dict[str, Any]) -> dict[str, Any]:
        answer = {"jsonrpc": "2.0", "id": call["id"]}
        match call["method"], call["params"]:
            case "write", [key, value]:
                status, _ = self._write("registers", key, str(value))
                refused = {"error": {"code": status, "message": "refused"}}
                return answer | ({"result": "OK"} if status == 200 else refused)
            case "read", [key]:
                status, found = self._read("registers", key)
                return answer | {"result": found if status == 200 else None}
        return answer | {"error": {"code": -32601, "message": "Method not found"}}

    def _now_and_then(self, flaw: str) -> bool:
        if flaw != self._flaw:
            return False
        self._asked += 1
        return self._asked % self._one_in == 0

    def _write(self, kind: str, name: str, body: str) -> Answer:
        if self._flaw == "lagging":
            self._log.setdefault(f"{kind}/{name}", [(-math.inf, self._now(kind, name))])
        if not self._now_and_then("forgetful"):
            self._do(kind, name, body)
        if self._now_and_then("repeating"):
            if kind == "registers":
                asyncio.get_running_loop().call_later(LAG, self._do, kind, name, body)
            else:
                self._do(kind, name, body)
        if self._flaw == "lagging":
            self._log[f"{kind}/{name}"].append((time.monotonic(), self._now(kind, name)))
        return (409, "") if self._now_and_then("denying") else (200, "")

    def _do(self, kind: str, name: str, body: str) -> None:
        if kind == "registers":
            self.registers[name] = body
        elif kind == "items":
            self.items[name] += 1
        elif kind == "counters":
            self.counters[name] += 1
        else:
            self.queue.append(body)

    def _read(self, kind: str, name: str) -> Answer:
        log = self._log.get(f"{kind}/{name}")
        if log and self._now_and_then("lagging"):
            then = time.monotonic() - LAG
            return next(answer for since, answer in reversed(log) if since <= then)
        return self._now(kind, name)

    def _now(self, kind: str, name: str) -> Answer:
        if kind == "registers":
            return (200, self.registers[name]) if name in self.registers else (404, "")
        if kind == "counters":
            return 200, str(self.counters[name])
        if kind == "items" and name:
            return (200, "") if self.items[name] else (404, "")
        return 200, "\n".join(self.items.elements())


class Connection(asyncio.Protocol):
    """Requests one after another, with heads in one piece or in several."""

    def __init__(self, answer: Callable[[str, str, str], Answer]) -> None:
        self._answer = answer
        self._came = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._came += data
        while b"\r\n\r\n" in self._came:
            head, _, rest = self._came.partition(b"\r\n\r\n")
            first, *lines = head.decode("latin-1").split("\r\n")
            length = next((int(line[15:]) for line in lines if line.lower().startswith("content-length:")), 0)
            if len(rest) < length:
                return
            self._came = rest[length:]
            method, path, _ = first.split(" ")
            status, body = self._answer(method, path, rest[:length].decode())
            said = f"HTTP/1.1 {status} {REASONS[status]}\r\n"
            said += "\r\n" if status == 204 else f"Content-Length: {len(body)}\r\n\r\n{body}"
            self._transport.write(said.encode())


async def serve(port: int, store: Store) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(store.answer), "127.0.0.1", port, backlog=1024)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description="A store that may break a promise.")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--flaw", default="", choices=["forgetful", "repeating", "lagging", "disorderly", "denying"])
    parser.add_argument("--one-in", type=int, default=100)
    arguments = parser.parse_args()
    asyncio.run(serve(arguments.port, Store(arguments.flaw, arguments.one_in)))


if __name__ == "__main__":
    main()
