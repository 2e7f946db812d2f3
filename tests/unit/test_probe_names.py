"""Host names in checks mean what they mean to the pods of the namespace, so that a check can move with its system."""

from __future__ import annotations

import socket

import pytest

from bounceback.recovery import names
from bounceback.recovery.names import Names


@pytest.mark.parametrize(
    ("host", "asked"),
    [
        ("web", "web.shop.svc"),
        ("web.other.svc", "web.other.svc"),
        ("example.com", "example.com"),
        ("localhost", "localhost"),
    ],
)
async def test_a_name_without_a_dot_is_a_service_of_the_namespace(
    monkeypatch: pytest.MonkeyPatch, host: str, asked: str
) -> None:
    looked_up: list[str] = []

    def look_up(name: str, port: int) -> list[tuple[socket.AddressFamily, tuple[str, int]]]:
        looked_up.append(name)
        return [(socket.AF_INET, ("10.0.0.1", port))]

    monkeypatch.setattr(names, "_look_up", look_up)
    assert await Names("shop").addresses(host, 80) == [(socket.AF_INET, ("10.0.0.1", 80))]
    assert looked_up == [asked]


async def test_an_address_is_nobodys_name() -> None:
    assert await Names("shop").addresses("::1", 80) == [(socket.AF_INET6, ("::1", 80))]
