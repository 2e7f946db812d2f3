"""python -m dev.demo: a real cluster, a shop that keeps its promises and one that does not, and a verdict on each.

Everything that it types is shown. It can be run again: what is there already is used.
"""

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dev.progress import DevError, say
from dev.state import DEFAULT_NAME, Cluster

PROJECT: Final = Path(__file__).resolve().parent.parent
EXAMPLE: Final = "examples/A1.9-partition"
EXPERIMENT: Final = "web-partition"
SYSTEM: Final = "bounceback-system"
REPLICAS: Final = 4


@dataclass(frozen=True)
class Shop:
    """A namespace with one variant of the sample system, and what is to be found out about it."""

    namespace: str
    variant: str
    expected: str


SHOPS: Final = (Shop("shop", "web", "Passed"), Shop("shop-broken", "web-broken", "Failed"))


@dataclass(frozen=True)
class Shell:
    """Commands at the cluster, shown as they are typed."""

    environment: Mapping[str, str]

    def show(self, *words: str) -> int:
        """Run it, with its output; the exit code."""
        print(f"\n$ {shlex.join(words)}", flush=True)
        return subprocess.run(words, cwd=PROJECT, env=self.environment).returncode

    def get(self, *words: str, text: str | None = None) -> str:
        """Its output, not shown. Raises DevError with what it says when it fails."""
        print(f"$ {shlex.join(words)}", flush=True)
        done = subprocess.run(words, cwd=PROJECT, env=self.environment, input=text, capture_output=True, text=True)
        if done.returncode:
            raise DevError(f"{shlex.join(words)} ended with {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout


def main(arguments: Sequence[str]) -> int:
    """0 when each shop got the verdict that it deserves."""
    parser = argparse.ArgumentParser(prog="python -m dev.demo", description="The whole path, on a real cluster.")
    parser.add_argument("--name", default=DEFAULT_NAME, help="which cluster (default: %(default)s)")
    name = parser.parse_args(arguments).name
    started = time.monotonic()
    try:
        shell, version = prepare(name)
        for shop in SHOPS:
            open_shop(shell, shop)
        install(shell, version)
        verdicts = {shop: run(shell, shop) for shop in SHOPS}
    except DevError as failure:
        say(f"error: {failure}")
        return 1
    return conclude(name, verdicts, time.monotonic() - started)


def prepare(name: str) -> tuple[Shell, str]:
    """A cluster with our image in it, and the image's version. Both take minutes the first time: side by side."""
    say("== A cluster, and the image of what is in this folder")
    tool = [sys.executable, "-m"]
    builder = subprocess.Popen([*tool, "dev.image", "build"], cwd=PROJECT, stdout=subprocess.PIPE, text=True)
    up = subprocess.run([*tool, "dev", "up", "--name", name, "--wait-dns"], cwd=PROJECT, stdout=subprocess.DEVNULL)
    archive = Path(builder.communicate()[0].strip())
    if up.returncode or builder.returncode:
        raise DevError("what is needed could not be made; what went wrong stands above")
    subprocess.run([*tool, "dev", "load-image", "--name", name, archive], cwd=PROJECT, check=True)
    return Shell(environment(name)), archive.parent.name


def environment(name: str) -> dict[str, str]:
    """Where `kubectl`, `helm` and `bounceback` are the right ones, and mean that cluster."""
    record = Cluster(name).known()
    folders = {Path(path).parent for tool, path in record.programs.items() if tool in ("kubectl", "helm")}
    path = ":".join([str(Path(sys.executable).parent), *map(str, folders), os.environ["PATH"]])
    for tool in ("kubectl", "helm", "bounceback"):
        if not shutil.which(tool, path=path):
            raise DevError(f"{tool} is not in PATH: install it, or let `make venv` and `python -m dev up` bring it")
    return {**os.environ, "PATH": path, "KUBECONFIG": record.kubeconfig}


def open_shop(shell: Shell, shop: Shop) -> None:
    """The sample system, new, and with as many replicas as half of them are worth cutting off."""
    say(f"\n== A shop in namespace {shop.namespace} ({shop.variant})")
    namespace = f"--namespace={shop.namespace}"
    manifest = shell.get("kubectl", "create", "namespace", shop.namespace, "--dry-run=client", "-o", "yaml")
    shell.get("kubectl", "apply", "-f", "-", text=manifest)
    shell.get("kubectl", "apply", namespace, "-f", f"examples/systems/{shop.variant}/system.yaml")
    shell.get("kubectl", "scale", namespace, "deployment/web", f"--replicas={REPLICAS}")
    for app in ("store", "web", "shopper"):
        if app == "web":  # begun anew once the store is there: an earlier demo may have left it broken
            shell.get("kubectl", "rollout", "restart", namespace, "deployment/web")
        shell.get("kubectl", "rollout", "status", namespace, f"deployment/{app}", "--timeout=120s")


def install(shell: Shell, version: str) -> None:
    say("\n== The operator, by its chart; experiments may run in the namespaces of the shops only")
    opened = [{"name": shop.namespace} for shop in SHOPS]
    values = ["--set=image.tag=dev", f"--set=podAnnotations.image={version}"]
    values.append(f"--set-json=targetNamespaces={json.dumps(opened)}")
    place = ["--namespace", SYSTEM, "--create-namespace", "--wait", "--timeout=180s"]
    shell.get("helm", "upgrade", "--install", "bounceback", "helm/bounceback", *place, *values)


def run(shell: Shell, shop: Shop) -> str:
    """The verdict; the report goes to out/."""
    say(f"\n== Half of the replicas in {shop.namespace} are cut off from the store")
    files = [f"{EXAMPLE}/check.yaml", f"{EXAMPLE}/experiment.yaml"]
    shell.show("bounceback", "run", "--namespace", shop.namespace, "--wait", "--replace", *files)
    (PROJECT / "out").mkdir(exist_ok=True)
    report = f"out/{shop.namespace}.html"
    shell.get("bounceback", "report", "--namespace", shop.namespace, EXPERIMENT, "--output", "html", "--file", report)
    path = ["get", "faultexperiment", EXPERIMENT, "--namespace", shop.namespace]
    return shell.get("kubectl", *path, "-o", "jsonpath={.status.verdict}")


def conclude(name: str, verdicts: Mapping[Shop, str], seconds: float) -> int:
    print(f"\n== After {seconds:.0f} s")
    for shop, verdict in verdicts.items():
        print(f"{shop.variant:<12} {verdict:<12} expected {shop.expected:<8} out/{shop.namespace}.html")
    print(
        f"""
Look around:  eval "$(python -m dev env --name {name})"; export PATH="$PWD/.venv/bin:$PATH"
              kubectl get faultexperiments -A
              bounceback status -n shop {EXPERIMENT}
Try another:  bounceback run -n shop --wait examples/A6-pod-delete/*.yaml
Tear down:    python -m dev down --name {name}"""
    )
    return 0 if all(verdict == shop.expected for shop, verdict in verdicts.items()) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
