"""Rules for handshakes, inside a target's network: what none hits passes through the relay, byte for byte."""

from __future__ import annotations

from bounceback.proxy.certificates import Certificates
from bounceback.proxy.inside_tcp import Connections
from bounceback.proxy.task import Json, Task, unnamed
from bounceback.proxy.tls import TlsGate
from bounceback.types.names import TlsRule


class Handshakes(Connections):
    """`accepted` counts the clients that took a certificate which they should have refused."""

    def __init__(self, task: Task) -> None:
        self._gate = TlsGate(Certificates())
        super().__init__(task, self._gate)

    def follow(self, rules: list[Json]) -> None:
        self._gate.put({rule["name"]: TlsRule.from_json(unnamed(rule)) for rule in rules})

    def seen(self) -> Json:
        counts = self._gate.counts().values()
        ends = {str(end): sum(c.ends[end] for c in counts) for end in {end for c in counts for end in c.ends}}
        alerts = {name: sum(c.alerts[name] for c in counts) for name in {name for c in counts for name in c.alerts}}
        return {
            "hits": sum(c.hits for c in counts),
            "open": super().seen()["open"],
            "accepted": sum(c.accepted for c in counts),
            "alerts": alerts,
            "ends": ends,
        }
