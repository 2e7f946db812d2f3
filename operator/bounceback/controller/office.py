"""What all runs of one operator share."""

from __future__ import annotations

from dataclasses import dataclass, field

from bounceback.controller.admitted import Admitted
from bounceback.controller.events import Recorder
from bounceback.controller.freeze import Freeze
from bounceback.controller.leader import Leadership
from bounceback.controller.locks import Locks
from bounceback.controller.results import Results
from bounceback.controller.settings import Settings
from bounceback.engine.recording import LINES_OF_OPERATOR, SAMPLES_OF_OPERATOR, Room
from bounceback.kube import Kube
from bounceback.recovery.sampling import Pulse
from bounceback.vehicles.admission import Webhooks
from bounceback.vehicles.agents import Agents
from bounceback.vehicles.capabilities import Nodes
from bounceback.vehicles.journal import Journal


@dataclass(frozen=True)
class Office:
    settings: Settings
    kube: Kube
    leadership: Leadership
    freeze: Freeze
    recorder: Recorder
    agents: Agents
    nodes: Nodes
    journal: Journal
    results: Results
    admitted: Admitted
    webhooks: Webhooks
    locks: Locks = field(default_factory=Locks)
    pulse: Pulse = field(default_factory=Pulse)
    lines: Room = field(default_factory=lambda: Room(LINES_OF_OPERATOR))
    samples: Room = field(default_factory=lambda: Room(SAMPLES_OF_OPERATOR))
    kept: dict[str, int] = field(default_factory=dict)  # bytes of evidence by namespace: at the most so many
