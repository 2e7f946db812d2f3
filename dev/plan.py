"""What the first process of a node has to do, as data: written by whoever makes the cluster, read by `dev.init`."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Process:
    """A program that the node's first process keeps alive.

    It is started once all of `after` are ready: a program that speaks sd_notify (`notifies`) when it says so, one that
    runs `once` when it has ended well, any other as soon as it runs.
    """

    name: str
    argv: list[str]
    after: list[str] = field(default_factory=list)
    notifies: bool = False
    once: bool = False
    socket: int | None = None  # a descriptor that it gets as its number 3


@dataclass(frozen=True)
class Plan:
    """`setup` commands run first, one by one; then the processes."""

    hostname: str
    path: str  # PATH for everything that is started
    log: str  # folder: one file a process
    control: str  # path of the Unix socket that takes requests
    cgroups: list[str]  # folders whose members the node's first process and its children become
    setup: list[list[str]]
    processes: list[Process]

    def write(self, file: Path) -> None:
        file.write_text(json.dumps(asdict(self), indent=1))

    @classmethod
    def read(cls, file: Path) -> "Plan":
        plan = json.loads(file.read_text())
        return cls(**{**plan, "processes": [Process(**process) for process in plan["processes"]]})
