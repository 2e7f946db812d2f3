"""What the engine knows of the cluster: values that the effects bring in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from bounceback.types.inside import Container
from bounceback.types.objects import Json, ObjectKey
from bounceback.types.outcome import VehicleKind
from bounceback.types.plan import Feature


@dataclass(frozen=True, slots=True)
class Controller:
    """What an object says of who controls it."""

    kind: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class PodInfo:
    """A pod that could be a target."""

    namespace: str
    name: str
    uid: str
    node: str
    labels: Mapping[str, str]
    ips: tuple[str, ...]
    host_network: bool
    running: bool  # phase Running and not being deleted
    finished_agents: int  # ephemeral containers of ours that it carries already
    memory_limit: int | None  # bytes, where every container has one: then the pod as a whole has one too
    armed: bool = False  # our API proxy stands between it and the API server
    not_armed: str = ""  # why it does not, where it was to
    containers: tuple[Container, ...] = ()  # the ordinary ones and the sidecars, in that order
    controller: Controller | None = None
    restarts: int = 0  # of these containers, all together
    own_users: bool = False  # root in it is not root of its node (hostUsers: false)


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """A Kubernetes object that could be a target. What it holds may be secret, and is never shown."""

    key: ObjectKey
    uid: str
    body: Json = field(repr=False, compare=False)

    @property
    def name(self) -> str:
        return self.key.name

    @property
    def running(self) -> bool:
        """It is there, and nobody deletes it."""
        return not self.body["metadata"].get("deletionTimestamp")


@dataclass(frozen=True, slots=True)
class NodeCapability:
    """What a node's kernel can do, or why nobody could find out (`problem`)."""

    node: str
    kernel: str = ""
    features: frozenset[Feature] = frozenset()
    problem: str = ""


@dataclass(frozen=True, slots=True)
class AgentRef:
    """Where an agent runs: an ephemeral container of the target pod, or a pod of ours on the target's node."""

    vehicle: VehicleKind
    namespace: str
    pod: str
    container: str
    node: str
    guarded: bool

    @property
    def guard(self) -> str:
        """The guard's container."""
        return f"{self.container}-guard"


class AgentFate(StrEnum):
    FINISHED = "Finished"  # it told all, and ended by itself
    KILLED = "Killed"  # it was ended by something else, and could not tell
    NEVER_STARTED = "NeverStarted"  # the image cannot be pulled, the container cannot be made
    GONE = "Gone"  # its pod is not there any more
    UNREACHABLE = "Unreachable"  # the kubelet does not answer


@dataclass(frozen=True, slots=True)
class AgentEnd:
    """How an agent ended, as the kubelet tells it; always the last thing that is heard of it."""

    fate: AgentFate
    message: str = ""
