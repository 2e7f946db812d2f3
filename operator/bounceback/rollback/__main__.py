"""python3 -m bounceback.rollback EXPERIMENT-UID: wait, and undo what is not undone by then.

It ends by itself, with 0, once nothing is left to do. Asked to end (SIGTERM: its node is drained) it undoes at once
what is still in force: the operator deletes it only when all is undone.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys

from bounceback.kube import Kube
from bounceback.rollback.undoing import Undoing


def main() -> int:
    logging.basicConfig(level=os.environ.get("BOUNCEBACK_LOG", "INFO"), format="%(asctime)s %(levelname)s %(message)s")
    if len(sys.argv) != 2:
        print("usage: python3 -m bounceback.rollback EXPERIMENT-UID", file=sys.stderr)
        return 2
    asyncio.run(serve(sys.argv[1], os.environ.get("BOUNCEBACK_NAMESPACE", "bounceback-system")))
    return 0


async def serve(run: str, namespace: str) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with Kube.connected() as kube:
        await Undoing(kube, namespace, run, stopping).to_the_end()


if __name__ == "__main__":
    sys.exit(main())
