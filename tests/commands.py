"""A cluster as its users have it: kubectl, helm and our command line, and namespaces that go away."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dev.state import Cluster, clusters_folder
from tests.preloaded import Preloaded

PROJECT: Final = Path(__file__).resolve().parents[1]
CHART: Final = PROJECT / "helm" / "bounceback"
SYSTEM: Final = "bounceback-system"
PRELOADED: Final = Preloaded(PROJECT)
Json = dict[str, Any]


@dataclass(frozen=True)
class Result:
    """What a command said."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Commands:
    """What people type at a cluster; `programs` are those of its own version, by name, where it has such."""

    kubeconfig: str
    programs: dict[str, str]

    @classmethod
    def of(cls, kubeconfig: str) -> Commands:
        record = Cluster(Path(kubeconfig).parent.name).record() if _is_ours(kubeconfig) else None
        return cls(kubeconfig, record.programs if record else {})

    def kubectl(self, *words: str, stdin: str | None = None) -> str:
        """Its output; fails the test where kubectl fails."""
        result = self.ask("kubectl", *words, stdin=stdin)
        assert result.code == 0, f"kubectl {' '.join(words)}\n{result.err}"
        return result.out

    def helm(self, *words: str) -> str:
        result = self.ask("helm", *words)
        assert result.code == 0, f"helm {' '.join(words)}\n{result.err}{result.out}"
        return result.out

    def bounceback(self, *words: str) -> Result:
        """Our command line, from outside the cluster."""
        return _said(PRELOADED.run(words, _environment() | {"KUBECONFIG": self.kubeconfig}))

    def ask(self, program: str, *words: str, stdin: str | None = None) -> Result:
        """kubectl or helm, whatever it answers."""
        return _run([self.programs.get(program, program), f"--kubeconfig={self.kubeconfig}", *words], stdin)

    def get(self, *words: str) -> Json:
        """One object, or a list, as kubectl names it."""
        found: Json = json.loads(self.kubectl("get", *words, "-o", "json"))
        return found

    def apply(self, namespace: str, *objects: Json) -> None:
        """Applied in the order given."""
        listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
        self.kubectl("apply", "--namespace", namespace, "-f", "-", stdin=listed)

    @contextlib.contextmanager
    def namespace(self, prefix: str) -> Iterator[str]:
        """A namespace of its own for one test; it goes, with all in it, at the end."""
        name = f"{prefix}-{uuid.uuid4().hex[:6]}"
        self.kubectl("create", "namespace", name)
        try:
            yield name
        finally:
            self.kubectl("delete", "namespace", name, "--wait=false")


def until(condition: Callable[[], Any], what: str, seconds: float = 60) -> Any:
    """What `condition` returns once that is true; fails the test with `what` after so many seconds.

    It rests for twice as long as it looked: a look is a process, and others need the processor, too.
    """
    deadline = time.monotonic() + seconds
    while True:
        began = time.monotonic()
        if found := condition():
            return found
        ended = time.monotonic()
        assert ended < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(max(0.2, 2 * (ended - began)))


def _is_ours(kubeconfig: str) -> bool:
    return clusters_folder() in Path(kubeconfig).parents


def _run(line: list[str], stdin: str | None) -> Result:
    done = subprocess.run(
        line,
        cwd=PROJECT,
        input=stdin,
        env=_environment(),
        capture_output=True,
        text=True,
        start_new_session=True,  # which the kernel gives as much of a processor as all that the tests start
    )
    return _said(done)


def _said(done: subprocess.CompletedProcess[str]) -> Result:
    return Result(done.returncode, done.stdout, done.stderr)


def _environment() -> dict[str, str]:
    """A copy: pytest changes this process's own in its main thread, and a program that another thread starts meanwhile
    would be given what is just being moved (execve: EFAULT)."""
    return {name: value for name in list(os.environ) if (value := os.environ.get(name)) is not None}
