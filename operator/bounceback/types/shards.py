"""What is too large for one object is spread over several."""

from __future__ import annotations

from typing import Final

SHARD: Final = 900 * 1024
"""Bytes; a Secret or a ConfigMap holds 1 MiB (core/v1, MaxSecretSize), names and notes included."""


def pieces(data: bytes, shard: int = SHARD) -> list[bytes]:
    """At most so many bytes each; one, though it is empty."""
    return [data[start : start + shard] for start in range(0, max(1, len(data)), shard)]
