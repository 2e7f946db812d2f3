"""In a network and a mount namespace of its own: `python -m tests.relay.libc_place FOLDER OPTIONS RULES HOST...`.

A resolver of ours stands at 127.0.0.1:53, as the redirect would lead there, a true name server behind it, and the C
library asks. Prints as JSON what it makes of each host, and the counts of each rule.
"""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import uvloop

from bounceback.proxy.dns import Resolver
from bounceback.proxy.upstream import Fixed
from bounceback.types.names import DnsRule
from tests.relay.name_server import name_server

HOST: Final = "127.0.0.1"
SEARCH: Final = "shop.svc.cluster.local.shop.test svc.cluster.local.shop.test cluster.local.shop.test"
"""As a pod has it, below the zone of the tests."""


def prepare(folder: Path, options: str) -> None:
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    settings = folder / "resolv.conf"
    settings.write_text(f"nameserver {HOST}\nsearch {SEARCH}\noptions ndots:5 {options}\n")
    subprocess.run(["mount", "--bind", settings, "/etc/resolv.conf"], check=True)


async def main(folder: Path, rules: dict[str, Any], hosts: list[str]) -> dict[str, Any]:
    with name_server(folder) as port:
        resolver = Resolver(Fixed(HOST, port))
        await resolver.listen(HOST, 53)
        resolver.put({name: DnsRule.from_json(rule) for name, rule in rules.items()})
        found = [await look_up(host) for host in hosts]
        counts = {name: [count.seen, count.hits] for name, count in resolver.counts().items()}
        await resolver.close()
    return {"found": found, "counts": counts}


async def look_up(host: str) -> list[str] | str:
    """Its addresses, or the error by its name."""
    try:
        found = await asyncio.to_thread(socket.getaddrinfo, host, 80, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        return next(name for name in ("EAI_NONAME", "EAI_AGAIN", "EAI_FAIL") if error.errno == getattr(socket, name))
    return sorted({str(address[0]) for *_, address in found})


if __name__ == "__main__":
    where, words, told, *asked = sys.argv[1:]
    prepare(Path(where), words)
    print(json.dumps(uvloop.run(main(Path(where), json.loads(told), asked))))
