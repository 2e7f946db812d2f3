"""What a prober tells: numbered lines of JSON on its standard output."""

from __future__ import annotations

import json
from typing import Any

from bounceback.types.instants import Instant
from bounceback.types.prober import Said


class Lines:
    """Whoever reads them from the start knows by their numbers which were read before."""

    def __init__(self) -> None:
        self._next = 0

    def tell(self, said: Said, **more: Any) -> None:
        print(json.dumps({"n": self._next, "said": said, "at": Instant.now().to_json(), **more}), flush=True)
        self._next += 1
