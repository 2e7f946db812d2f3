"""Where a cluster keeps what it is: one folder by its name, which `down` removes."""

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from dev import cache
from dev.progress import DevError

DEFAULT_NAME: Final = "bounceback"
NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,28}[a-z0-9])?")


@dataclass(frozen=True)
class Record:
    """What the other commands must know of a cluster that is up."""

    provider: str  # existing, kind, binaries or build
    nodes: int
    programs: dict[str, str]  # name -> path of every program that belongs to it
    kubeconfig: str  # works from outside


@dataclass(frozen=True)
class Cluster:
    """A cluster's name, and the paths that follow from it."""

    name: str

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise DevError(f"--name {self.name}: use lower-case letters, digits and dashes, 30 at most.")

    @property
    def folder(self) -> Path:
        return clusters_folder() / self.name

    @property
    def kubeconfig(self) -> Path:
        return self.folder / "kubeconfig"

    @property
    def inner_kubeconfig(self) -> Path:
        """For programs that run inside the cluster's namespaces."""
        return self.folder / "conf" / "admin.kubeconfig"

    @property
    def control(self) -> Path:
        return self.folder / "control"

    @property
    def log(self) -> Path:
        return self.folder / "log"

    @property
    def lock(self) -> str:
        return f"cluster-{self.name}"

    def record(self) -> Record | None:
        """What was written down when it came up; None where no cluster of this name is known."""
        try:
            return Record(**json.loads((self.folder / "cluster.json").read_text()))
        except FileNotFoundError:
            return None

    def known(self) -> Record:
        """As `record`; raises DevError where there is none."""
        if record := self.record():
            return record
        raise DevError(f"There is no cluster {self.name}; bring it up with: python -m dev up --name {self.name}")

    def write(self, record: Record) -> None:
        unfinished = self.folder / ".cluster.json"
        unfinished.write_text(json.dumps(asdict(record), indent=1))
        unfinished.replace(self.folder / "cluster.json")


def clusters_folder() -> Path:
    return cache.root() / "clusters"


def all_clusters() -> list[Cluster]:
    """Every cluster that has a folder, also one that is half gone."""
    folder = clusters_folder()
    return [Cluster(path.name) for path in sorted(folder.iterdir())] if folder.is_dir() else []
