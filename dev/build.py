"""Kubernetes and what it needs, built from Go modules into the cache: a folder a component, keyed by versions."""

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final

from dev import cache
from dev.progress import DevError, run_logged, say

KUBERNETES: Final = "v1.36.3"
STAGING: Final = "v0.36.3"
WRAPPER_MODULE: Final = "module local/build\n\ngo 1.26.0\n"


@dataclass(frozen=True)
class Component:
    """Programs that are built together from one module: `programs` maps the name that we use to the Go package."""

    name: str
    version: str
    programs: Mapping[str, str]
    tags: tuple[str, ...] = ()
    stamps: Mapping[str, str] = field(default_factory=dict)  # Go variables that carry the version
    staging: str | None = None  # the module pins its siblings at v0.0.0; this is the version they are published as


def _kubernetes() -> Component:
    commands = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl")
    _, minor, _ = KUBERNETES.split(".")
    return Component(
        "kubernetes",
        KUBERNETES,
        {command: f"k8s.io/kubernetes/cmd/{command}" for command in commands},
        stamps={
            "k8s.io/component-base/version.gitVersion": KUBERNETES,
            "k8s.io/component-base/version.gitMajor": "1",
            "k8s.io/component-base/version.gitMinor": minor,
            "k8s.io/client-go/pkg/version.gitVersion": KUBERNETES,
        },
        staging=STAGING,
    )


def _containerd() -> Component:
    commands = ("containerd", "containerd-shim-runc-v2", "ctr")
    return Component(
        "containerd",
        "v2.4.2",
        {command: f"github.com/containerd/containerd/v2/cmd/{command}" for command in commands},
        tags=("no_btrfs", "no_zfs", "no_aufs", "no_devmapper"),
    )


def _cni() -> Component:
    plugins = ("main/ptp", "main/bridge", "main/loopback", "ipam/host-local", "meta/portmap")
    home = "github.com/containernetworking/plugins/plugins"
    return Component("cni", "v1.9.1", {PurePosixPath(plugin).name: f"{home}/{plugin}" for plugin in plugins})


CLUSTER: Final = (
    _kubernetes(),
    _containerd(),
    _cni(),
    Component("etcd", "v3.7.3", {"etcd": "go.etcd.io/etcd/server/v3"}),
    Component("helm", "v4.3.1", {"helm": "helm.sh/helm/v4/cmd/helm"}),
    Component("coredns", "v1.15.0", {"coredns": "github.com/coredns/coredns"}),
)
TOOLS: Final = {
    "toxiproxy": Component("toxiproxy", "v2.5.0", {"toxiproxy": "github.com/Shopify/toxiproxy/v2/cmd/server"}),
    "nats-server": Component("nats-server", "v2.12.3", {"nats-server": "github.com/nats-io/nats-server/v2"}),
    "versitygw": Component("versitygw", "v1.8.0", {"versitygw": "github.com/versity/versitygw/cmd/versitygw"}),
}


def program_of(package: str) -> str:
    """What `go build` calls the program of a package: its last element that is not a major version."""
    *_, before, last = ("", *PurePosixPath(package).parts)
    return before if last[:1] == "v" and last[1:].isdigit() else last


def key(component: Component, toolchain: str) -> str:
    """The component's folder in the cache: another version, tag, package or toolchain is another folder."""
    made_from = cache.digest(
        component.version,
        dict(component.programs),
        component.tags,
        dict(component.stamps),
        component.staging,
        toolchain,
    )
    return f"{component.name}-{component.version}-{made_from}"


def toolchain() -> str:
    """The Go that is installed, as `go1.26.0 linux/amd64`. Raises DevError where there is none."""
    if not shutil.which("go"):
        raise DevError(
            "Kubernetes must be built here, and there is no Go toolchain: install Go 1.26 or later, or start Docker "
            "and install kind, or name a folder with all of the binaries in KUBEBUILDER_ASSETS."
        )
    answer = subprocess.run(["go", "env", "GOVERSION", "GOOS", "GOARCH"], check=True, capture_output=True, text=True)
    version, system, machine = answer.stdout.split()
    return f"{version} {system}/{machine}"


def build(component: Component, position: str = "") -> Path:
    """The folder of the component's programs, built if it is not in the cache. `position` is shown (`2 of 6`)."""

    def make(folder: Path) -> None:
        say(f"building {component.name} {component.version} {position}")
        started = time.monotonic()
        log = cache.root() / "log" / f"build-{component.name}"
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_bytes(b"")
        with tempfile.TemporaryDirectory(prefix="bounceback-build-") as source:
            _compile(component, Path(source), folder, log)
        say(f"  {component.name} built in {time.monotonic() - started:.0f} s")

    return cache.entry("build", key(component, toolchain()), make)


def build_own(file: Path, module: str, version: str) -> Path:
    """A Go program of ours, in one file, that imports packages of that module; built again when the file changes."""

    def make(folder: Path) -> None:
        say(f"building {file.name}")
        log = cache.root() / "log" / f"build-{file.stem}"
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_bytes(b"")
        env = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=mod", "GOWORK": "off"}
        with tempfile.TemporaryDirectory(prefix="bounceback-build-") as source:
            Path(source, "go.mod").write_text(WRAPPER_MODULE)
            shutil.copy(file, source)
            run_logged(["go", "get", f"{module}@{version}"], log, f"fetching {module}", Path(source), env)
            command = [
                "go",
                "build",
                "-trimpath",
                "-buildvcs=false",
                "-ldflags=-s -w",
                "-o",
                f"{folder / file.stem}",
                ".",
            ]
            run_logged(command, log, f"compiling {file.name}", Path(source), env)

    made_from = cache.digest(file.read_text(), module, version, toolchain())
    return cache.entry("build", f"{file.stem}-{made_from}", make) / file.stem


def build_all(components: Iterable[Component]) -> dict[str, Path]:
    """Every program of the components, by name."""
    wanted = list(components)
    programs: dict[str, Path] = {}
    for number, component in enumerate(wanted, 1):
        folder = build(component, f"({number} of {len(wanted)})")
        programs |= {program: folder / program for program in component.programs}
    return programs


def _compile(component: Component, source: Path, folder: Path, log: Path) -> None:
    env = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=mod", "GOWORK": "off"}
    packages = list(component.programs.values())
    (source / "go.mod").write_text(WRAPPER_MODULE + _replacements(component, env))
    versioned = [f"{package}@{component.version}" for package in packages]
    run_logged(["go", "get", "-tool", *versioned], log, f"fetching {component.name}", source, env)
    flags = ["-trimpath", "-buildvcs=false", "-v"]
    if component.tags:
        flags.append(f"-tags={','.join(component.tags)}")
    stamps = " ".join(f"-X {variable}={value}" for variable, value in component.stamps.items())
    command = ["go", "build", *flags, f"-ldflags=-s -w {stamps}", "-o", f"{folder}/", *packages]
    run_logged(command, log, f"compiling {component.name}", source, env)
    for program, package in component.programs.items():
        (folder / program_of(package)).rename(folder / program)


def _replacements(component: Component, env: Mapping[str, str]) -> str:
    """Lines for go.mod that point each sibling module at its published version."""
    if component.staging is None:
        return ""
    module = "/".join(next(iter(component.programs.values())).split("/")[:2])
    answer = subprocess.run(
        ["go", "mod", "download", "-json", f"{module}@{component.version}"], env=env, capture_output=True, text=True
    )
    if answer.returncode:
        raise DevError(f"{module} {component.version} cannot be fetched from the Go module proxy:\n{answer.stdout}")
    described = ["go", "mod", "edit", "-json", json.loads(answer.stdout)["GoMod"]]
    required = json.loads(subprocess.run(described, check=True, capture_output=True, text=True).stdout)["Require"]
    siblings = sorted({str(one["Path"]) for one in required if one["Version"] == "v0.0.0"})
    return "\nreplace (\n" + "".join(f"\t{path} => {path} {component.staging}\n" for path in siblings) + ")\n"
