"""What an agent hands to the relay that it starts in a target's network, and where that listens."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from typing import Any, Final

from bounceback.types.datagrams import Pair

LOCAL: Final = {"ip": "127.0.0.1", "ip6": "::1"}
ANY: Final = {"ip": "0.0.0.0", "ip6": "::"}
Json = dict[str, Any]
Ports = dict[str, dict[str, int]]
"""By side ("out": connections that the target opens, "in": that it takes) and family ("ip", "ip6"); those for datagrams
by "udp" and the peer (`types.datagrams.named`)."""


@dataclass(frozen=True, slots=True)
class Task:
    """What the agent hands over at the start."""

    parent: int  # the agent's process id
    speaks: str  # "tcp", "dns" or "tls"
    sides: tuple[str, ...]  # "out", "in"
    mark: int  # SO_MARK of what goes on to the true peers
    servers: tuple[str, ...]  # the target's resolvers, for "dns"
    rules: tuple[Json, ...]
    pairs: tuple[Pair, ...] = ()  # peers of UDP, for "tcp"

    @classmethod
    def from_json(cls, text: bytes) -> Task:
        data: Json = json.loads(text)
        return cls(
            parent=data["parent"],
            speaks=data["speaks"],
            sides=tuple(data["sides"]),
            mark=data["mark"],
            servers=tuple(data["servers"]),
            rules=tuple(data["rules"]),
            pairs=pairs_from(data["pairs"]),
        )


def pairs_from(listed: list[list[Any]]) -> tuple[Pair, ...]:
    """As JSON has them."""
    return tuple((str(address), int(port)) for address, port in listed)


def can_listen(host: str) -> bool:
    """Whether this network knows the address's family at all."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as tried:
            tried.bind((host, 0))
    except OSError:
        return False
    return True


def unnamed(rule: Json) -> Json:
    """A rule as types/names.py knows it: there the name stands beside it."""
    return {key: value for key, value in rule.items() if key != "name"}
