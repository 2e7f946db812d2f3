"""python -m dev.image: the one image of operator, CLI and agent, as an archive that a cluster can load.

`build` prints the archive's path. It is made by Docker or Podman where they answer, else by buildah from a base that
debootstrap makes. What it was made from names it, so that nothing is built twice.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dev import archives, cache, host, image_archive, image_base
from dev.image_secrets import write_secrets
from dev.progress import DevError, run_logged, say

PROJECT: Final = Path(__file__).resolve().parent.parent
TAG: Final = "bounceback:dev"
DOCKERFILE: Final = "operator/Dockerfile"
# All that reaches the builder: what .dockerignore lets through, and what says how it is built.
INPUTS: Final = (".dockerignore", "LICENSE", "README.md", "operator", "pyproject.toml", "requirements.txt")
CLOCK_INPUTS: Final = ("operator/clock/build.sh", "operator/clock/clock.c")
DEPENDENCY_INPUTS: Final = (".dockerignore", DOCKERFILE, *CLOCK_INPUTS, "operator/rootfs.py", "requirements.txt")
KEPT_ARCHIVES: Final = 4
ENGINES: Final = ("docker", "podman", "buildah")
PROXIES: Final = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")


@dataclass(frozen=True)
class Order:
    """One image to build: from which sources, into which archive, under which name, with which build secrets."""

    sources: Path
    tag: str
    out: Path
    secrets: dict[str, Path]  # the file by the id
    log: Path

    def run(self, what: str, *command: str) -> None:
        run_logged(command, self.log, what, cwd=self.sources)

    def build_options(self) -> list[str]:
        named = [f"--secret=id={name},src={file}" for name, file in self.secrets.items()]
        return [*named, "--file", DOCKERFILE]


def main(arguments: Sequence[str]) -> int:
    """Carry out one command; the exit code is 0, or 1 with the reason on standard error."""
    options = parser().parse_args(arguments)
    try:
        if options.command == "build":
            print(build(options.tag, options.engine, options.fresh))
        else:
            print(image_archive.table(image_archive.read(options.archive or build())))
    except DevError as failure:
        say(f"error: {failure}")
        return 1
    except KeyboardInterrupt:
        say("interrupted")
        return 130
    return 0


def parser() -> argparse.ArgumentParser:
    described = argparse.ArgumentParser(prog="python -m dev.image", description="the image of operator, CLI and agent")
    commands = described.add_subparsers(dest="command", required=True)
    make = commands.add_parser("build", help="build it where anything changed, and print the archive's path")
    make.add_argument("--tag", default=TAG, help="its name (default: %(default)s)")
    make.add_argument("--engine", choices=ENGINES, help="default: the first of %(choices)s that answers")
    make.add_argument("--fresh", action="store_true", help="take Debian's packages anew, with their latest fixes")
    sizes = commands.add_parser("sizes", help="what is in it, by size")
    sizes.add_argument("archive", nargs="?", type=Path, help="default: what build would print")
    return described


def build(tag: str = TAG, engine: str | None = None, fresh: bool = False) -> Path:
    """The path of an archive with the image of the sources as they are now; raises DevError when it cannot be built."""
    with tempfile.TemporaryDirectory(prefix="bounceback-image-") as scratch:
        sources = Path(scratch, "sources")
        snapshot(sources)
        name = f"bounceback-{cache.digest(tag, engine, contents(sources))}"
        if fresh:
            shutil.rmtree(cache.root() / "images" / name, ignore_errors=True)
        folder = cache.entry("images", name, lambda made: make(sources, made / "image.tar", tag, engine, fresh))
    os.utime(folder)
    forget_older("bounceback-*")
    forget_older("dependencies-*")
    return folder / "image.tar"


def snapshot(target: Path) -> None:
    """Copy the inputs: the image must hold what its name was computed from, even if somebody edits meanwhile."""
    for name in INPUTS:
        if (PROJECT / name).is_dir():
            shutil.copytree(PROJECT / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            target.mkdir(exist_ok=True)
            shutil.copy2(PROJECT / name, target / name)


def contents(sources: Path) -> dict[str, str]:
    """A digest of every file that can change the image, by its path."""
    files = (path for path in sources.rglob("*") if path.is_file())
    return {str(path.relative_to(sources)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def forget_older(pattern: str) -> None:
    """Keep only the archives that were made or asked for last: each change of the sources makes another."""
    entries = sorted((cache.root() / "images").glob(pattern), key=lambda path: path.stat().st_mtime, reverse=True)
    for old in entries[KEPT_ARCHIVES:]:
        shutil.rmtree(old, ignore_errors=True)


def make(sources: Path, out: Path, tag: str, engine: str | None, fresh: bool) -> None:
    """Build the archive `out` by the engine, or by the first that answers; one build at a time."""
    chosen = engine or next((name for name in ("docker", "podman") if answers(name)), "buildah")
    log = cache.root() / "log" / "image"
    with cache.locked("image"), tempfile.TemporaryDirectory(prefix="bounceback-secrets-") as secrets:
        log.parent.mkdir(parents=True, exist_ok=True)
        log.unlink(missing_ok=True)
        order = Order(sources, tag, out, write_secrets(Path(secrets)), log)
        say(f"building the image with {chosen}")
        if chosen == "buildah":
            return buildah(order, fresh)
        try:
            docker(order, fresh) if chosen == "docker" else podman(order, fresh)
        except DevError as failure:
            raise DevError(f"{failure}\nWhere no registry is in reach, use --engine buildah.") from failure


def answers(engine: str) -> bool:
    """Is the engine here, and does it do what it is asked? A docker client without a daemon is not."""
    if not shutil.which(engine):
        return False
    try:
        return subprocess.run([engine, "info"], capture_output=True, timeout=20).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def docker(order: Order, fresh: bool) -> None:
    proxies = [f"--build-arg={name}" for name in PROXIES if name in os.environ]
    renewed = ["--pull", "--no-cache"] if fresh else []
    order.run("docker build", "docker", "build", *renewed, *proxies, *order.build_options(), "--tag", order.tag, ".")
    order.run("docker save", "docker", "save", "--output", str(order.out), order.tag)


def podman(order: Order, fresh: bool) -> None:
    name = archives.full_name(order.tag)  # podman would put its own localhost/ before a short name
    renewed = ["--pull=always", "--no-cache"] if fresh else []
    order.run("podman build", "podman", "build", *renewed, *order.build_options(), "--tag", name, ".")
    order.run("podman save", "podman", "save", "--format=oci-archive", "--output", str(order.out), name)


def buildah(order: Order, fresh: bool) -> None:
    """Build with no daemon and no registry; the layers are kept below the cache's root.

    A change of our own package builds the stage `own` alone: the Dockerfile's last step lays it over `dependencies`,
    and so does this, on the archive. That takes a third of the time that buildah takes to compare all files.
    """
    with tempfile.TemporaryDirectory(dir=order.out.parent) as scratch:
        call = buildah_call(order, fresh)
        build_with = [*call, "build", "--isolation=chroot", "--layers", "--pull-never", *order.build_options()]
        # What a later build starts from gets a name, or pruning would take it.
        order.run("tools", *build_with, "--target=tools", "--tag=localhost/bounceback-tools", ".")
        below = cache.entry(
            "images", below_name(order.sources), lambda folder: dependencies(order, build_with, call, folder)
        )
        layer = Path(scratch, "layer.tar")
        order.run("package", *build_with, "--target=own", f"--output=type=tar,dest={layer}", ".")
        order.run("pruning", *call, "rmi", "--prune")
        image_archive.append(below / "image.tar", layer, order.out, order.tag)


def buildah_call(order: Order, fresh: bool = False) -> list[str]:
    """How to call buildah; its storage holds the base when this returns."""
    if os.geteuid() != 0:
        raise DevError(
            "Neither Docker nor Podman answers, and buildah needs root here: start one of them, or use sudo -E."
        )
    if not shutil.which("buildah"):
        host.install(["buildah"])
    call = storage(order, fresh)
    order.run("tidying", *call, "rm", "--all")  # what a build that failed or was killed left
    import_base(order, call)
    return call


def below_name(sources: Path) -> str:
    """Names the archive of all layers below our own package by what it is made from."""
    inputs = {path: digest for path, digest in contents(sources).items() if path in DEPENDENCY_INPUTS}
    return f"dependencies-{cache.digest(image_base.key(), inputs)}"


def dependencies(order: Order, build_with: Sequence[str], call: Sequence[str], folder: Path) -> None:
    name = "localhost/bounceback-dependencies"
    order.run("dependencies", *build_with, "--target=dependencies", f"--tag={name}", ".")
    order.run("archive", *call, "push", name, f"oci-archive:{folder}/image.tar:{name}")
    order.run("archive", *call, "rmi", name)


def storage(order: Order, fresh: bool) -> list[str]:
    """How to call buildah: with a storage for today's base (others are removed), and mounts that end with the call."""
    home = cache.root() / "buildah"
    place = home / image_base.key()
    if fresh:
        for made in (image_base.folder(), cache.root() / "images" / below_name(order.sources), place):
            shutil.rmtree(made, ignore_errors=True)
    for old in home.glob("*"):
        if old != place:
            shutil.rmtree(old, ignore_errors=True)
    place.mkdir(parents=True, exist_ok=True)
    driver = "overlay" if overlays_work(place) else "vfs"
    where = [f"--storage-driver={driver}", f"--root={place}/{driver}", f"--runroot={place}/{driver}-run"]
    return ["unshare", "--mount", "buildah", *where]


def overlays_work(place: Path) -> bool:
    """Can layers be laid over each other below `place`? Not in a container, mostly: there each layer is a full copy."""
    with tempfile.TemporaryDirectory(dir=place) as scratch:
        for name in ("lower", "upper", "work", "merged"):
            Path(scratch, name).mkdir()
        mount = "mount -t overlay -o lowerdir=lower,upperdir=upper,workdir=work overlay merged"
        tried = subprocess.run(["unshare", "--mount", "sh", "-c", mount], cwd=scratch, capture_output=True)
    return tried.returncode == 0


def import_base(order: Order, call: Sequence[str]) -> None:
    """Have the base in buildah's storage under the name that the Dockerfile starts from."""
    if (
        subprocess.run(
            [*call, "inspect", "--type=image", f"localhost/{image_base.NAME}"], capture_output=True
        ).returncode
        == 0
    ):
        return
    base = image_base.archive()
    container = "bounceback-base"
    order.run("the base", *call, "from", f"--name={container}", "scratch")
    order.run("the base", *call, "add", "--quiet", container, str(base), "/")
    order.run("the base", *call, "commit", "--quiet", "--rm", container, f"localhost/{image_base.NAME}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
