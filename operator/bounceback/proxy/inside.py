"""A relay in a target's network, as a child of its agent: `python -m bounceback.proxy.inside`.

On standard input one JSON object a line: first the `Task`, then what is to change. On standard output the answers:
`ports` once it listens, `datagrams` once it listens for other peers of UDP, `seen` when a count has grown, `drained` at
the end. It ends with its standard input, and by SIGKILL from the kernel when the agent dies: what it relays is then
reset.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

import uvloop

from bounceback.proxy.inside_udp import Everything
from bounceback.proxy.parent import die_with_parent
from bounceback.proxy.task import Json, Ports, Task, pairs_from

FIRST_LOOK_SECONDS: Final = 0.02
LOOK_SECONDS: Final = 0.2
"""Once something was hit: who reads may be away for some seconds, and a pipe that is full would stop the relay."""


class Work(Protocol):
    """A relay of one protocol."""

    async def listen(self) -> Ports: ...

    def follow(self, rules: list[Json]) -> None:
        """Exactly these from now on. Raises ValueError."""

    def seen(self) -> Json:
        """`hits` so far, and what is `open` now; maybe more that is worth telling."""

    async def drain(self, seconds: float) -> int: ...


def work_for(task: Task) -> Work:
    """Imported here: certificates and DNS messages are heavy, and the target pays."""
    if task.speaks == "dns":
        from bounceback.proxy.inside_dns import Names

        return Names(task)
    if task.speaks == "tls":
        from bounceback.proxy.inside_tls import Handshakes

        return Handshakes(task)
    return Everything(task)


async def serve(lines: asyncio.StreamReader, tell: Callable[[Json], None]) -> None:
    task = Task.from_json(await lines.readline())
    if os.getppid() != task.parent:
        return  # the agent died before the kernel was asked to tell
    work = work_for(task)
    work.follow(list(task.rules))
    tell({"ports": await work.listen()})
    async with asyncio.TaskGroup() as tasks:
        looking = tasks.create_task(_look(work, tell))
        draining: asyncio.Task[None] | None = None
        while line := await lines.readline():
            order = json.loads(line)
            if "rules" in order:
                tell(_changed(work, order["rules"]))
            if "pairs" in order:
                tell(_reached(work, order["pairs"]))
            if "drain" in order:
                draining = tasks.create_task(_drain(work, float(order["drain"]), tell))
        looking.cancel()
        if draining is None or draining.cancel():  # what was drained to its end is not counted twice
            await _drain(work, 0, tell)


def _changed(work: Work, rules: list[Json]) -> Json:
    try:
        work.follow(rules)
    except ValueError as error:
        return {"refused": str(error)}
    return {"following": len(rules)}


def _reached(work: Work, pairs: list[Any]) -> Json:
    assert isinstance(work, Everything)
    try:
        return {"datagrams": work.reach(pairs_from(pairs))}
    except OSError as error:
        return {"refused": f"it cannot listen for {len(pairs)} peers: {error}"}


async def _look(work: Work, tell: Callable[[Json], None]) -> None:
    told: Mapping[str, Any] = {}
    while True:
        if (seen := work.seen()) != told:
            told = seen
            tell({"seen": seen})
        await asyncio.sleep(LOOK_SECONDS if seen["hits"] else FIRST_LOOK_SECONDS)


async def _drain(work: Work, seconds: float, tell: Callable[[Json], None]) -> None:
    reset = await work.drain(seconds)
    tell({"seen": work.seen(), "drained": reset})


async def main() -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=1 << 24)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)

    def tell(message: Json) -> None:
        sys.stdout.write(json.dumps(message, separators=(",", ":")) + "\n")
        sys.stdout.flush()

    await serve(reader, tell)


if __name__ == "__main__":
    die_with_parent(signal.SIGKILL)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the agent's business: it tells when and how to end
    uvloop.run(main())
