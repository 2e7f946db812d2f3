"""The certificates of the proxy's own listener: made by a process that ends when it has.

What makes them takes 8 MiB of memory, which the pod would otherwise pay for as long as it lives.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import dataclass
from typing import Final

from bounceback.gate.places import kept

FILE: Final = "authority.pem"
SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Certified:
    """In PEM: the authority's certificate, that of the listener, and its key."""

    authority: bytes
    certificate: bytes
    key: bytes


async def certified() -> Certified:
    """Made by a process of its own. Raises OSError (TimeoutError is one)."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bounceback.gate", "certify", stdout=asyncio.subprocess.PIPE
    )
    try:
        out, _ = await asyncio.wait_for(process.communicate(), SECONDS)
    except BaseException:
        if process.returncode is None:
            process.kill()
        raise
    if process.returncode:
        raise OSError("certificates could not be made")
    made = json.loads(out)
    return Certified(made["authority"].encode(), made["certificate"].encode(), made["key"].encode())


def certify() -> int:
    """In that process: by the authority that is kept, which is made where there is none."""
    from bounceback.proxy.api.loopback import Loopback

    try:
        loopback = Loopback(asks_for_certificates=False, kept=kept(os.environ) / FILE)
    except (OSError, ValueError) as error:
        print(f"bounceback: the authority of this pod's proxy: {error}", file=sys.stderr)
        return 1
    certificate, key = loopback.server()
    found = {"authority": loopback.authority, "certificate": certificate, "key": key}
    print(json.dumps({name: text.decode() for name, text in found.items()}))
    return 0
