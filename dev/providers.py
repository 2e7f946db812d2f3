"""Where a cluster comes from: one that exists, kind, ready-made binaries, or our own build, in this order."""

import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from dev import build
from dev.progress import DevError, say

PROVIDERS: Final = ("existing", "kind", "binaries", "build")
DOCKER_SECONDS: Final = 10


def choose(wanted: str, environment: Mapping[str, str]) -> str:
    """The provider to use; `auto` takes the first that this machine can offer, and says which and why."""
    if wanted != "auto":
        return wanted
    if environment.get("BOUNCEBACK_USE_KUBECONFIG") == "1":
        say("provider existing: BOUNCEBACK_USE_KUBECONFIG=1")
        return "existing"
    if shutil.which("kind") and docker_answers():
        say("provider kind: a Docker engine answers")
        return "kind"
    if find_binaries(environment):
        say("provider binaries: all of the programs are there")
        return "binaries"
    say("provider build: neither a Docker engine with kind, nor a complete set of binaries")
    return "build"


def docker_answers() -> bool:
    """Whether a Docker engine is there and answers; a client alone is not enough."""
    if not shutil.which("docker"):
        return False
    try:
        asked = subprocess.run(
            ["docker", "version", "--format", "{{.Server.Version}}"], capture_output=True, timeout=DOCKER_SECONDS
        )
    except subprocess.TimeoutExpired:
        return False
    return asked.returncode == 0 and bool(asked.stdout.strip())


def needed_programs() -> list[str]:
    """Every program that a cluster of ours is made of."""
    return [program for component in build.CLUSTER for program in component.programs]


def find_binaries(
    environment: Mapping[str, str], which: Callable[..., str | None] = shutil.which
) -> dict[str, str] | None:
    """The programs in KUBEBUILDER_ASSETS or PATH, by name; None unless the set is complete."""
    places = [environment.get("KUBEBUILDER_ASSETS", ""), environment.get("PATH", ""), "/opt/cni/bin"]
    search = ":".join(place for place in places if place)
    found = {program: path for program in needed_programs() if (path := which(program, path=search))}
    return found if len(found) == len(needed_programs()) else None


def programs(provider: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Where each program is, for a cluster of ours; raises DevError with what is missing."""
    if provider == "build":
        return {name: str(path) for name, path in build.build_all(build.CLUSTER).items()}
    found = find_binaries(environment)
    if found is None:
        missing = [name for name in needed_programs() if not shutil.which(name)]
        raise DevError(
            f"The set of binaries is not complete; not found: {', '.join(missing)}. Or use --provider build."
        )
    return found


def existing_kubeconfig(environment: Mapping[str, str]) -> str:
    """The kubeconfig of the cluster that is to be used as it is; raises DevError where none is named."""
    path = environment.get("KUBECONFIG", "")
    if not path or not Path(path).is_file():
        raise DevError(f"KUBECONFIG={path or '(not set)'}: name the kubeconfig file of the cluster to use.")
    return path
