"""The containers that carry agents: what they may do, and how the kubelet says they fare. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from bounceback.kube.client import Json
from bounceback.types.plan import NOTES_VARIABLE, PLAN_VARIABLE, Plan
from bounceback.vehicles.errors import Refused

Noted = Mapping[str, Mapping[str, Any]]
"""By injection: what its agent wrote down to undo it by."""
RUN: Final = "run"
GUARD: Final = "guard"
PROBE: Final = "probe"
VERIFY: Final = "verify"
LONGEST_PLAN: Final = 100 * 1024
"""Bytes; execve(2) takes 128 KiB for one variable."""
RUN_LABEL: Final = "bounceback.dev/experiment-uid"
ROLE_LABEL: Final = "bounceback.dev/role"
AGENT_ACCOUNT: Final = "bounceback-agent"
"""Service account of our own pods: it has no rights, and no token is mounted."""

NEVER: Final = frozenset({"StartError", "ContainerCannotRun"})
"""A container that ended with one of these reasons did not run a single instruction of ours."""

KILLED: Final = ("Error", 128 + 9)
"""By SIGKILL, and not for its memory."""

NO_IMAGE: Final = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "ErrImageNeverPull",
        "ImageInspectError",
        "InvalidImageName",
        "RegistryUnavailable",
        "SignatureValidationFailed",
    }
)
CANNOT_BE_MADE: Final = NO_IMAGE | {
    "CreateContainerConfigError",
    "CreateContainerError",
    "PreCreateHookError",
    "RunContainerError",
}


USER: Final = 65532


def command(mode: str) -> list[str]:
    return ["python3", "-m", "bounceback.agent", mode]


def plan_variable(plan: Plan) -> list[Json]:
    """The environment that hands the plan over. Raises Refused when it is too long for one."""
    value = plan.packed()
    if len(value) > LONGEST_PLAN:
        raise Refused(
            "spec.faults",
            "PlanTooLarge",
            f"the plan for {len(plan.orders)} injections of one agent takes {len(value):,} bytes of at most "
            f"{LONGEST_PLAN:,}; choose fewer targets (maxCount) or peers with fewer addresses (a cidr)",
        )
    return [{"name": PLAN_VARIABLE, "value": value}]


def notes_variable(notes: Noted) -> Json:
    """Those that have no room together are left out: of such orders is undone what can be without."""
    held: dict[str, Mapping[str, Any]] = {}
    room = LONGEST_PLAN
    for injection, kept in notes.items():
        size = len(json.dumps(kept))
        held[injection] = kept if size <= room else {}
        room -= size if size <= room else 0
    return {"name": NOTES_VARIABLE, "value": json.dumps(held)}


def plan_in(pod: Json, container: str) -> Plan | None:
    """The plan that a container of that pod was given; None if there is no such container, or no plan."""
    spec = pod["spec"]
    for each in (*(spec.get("ephemeralContainers") or []), *(spec.get("containers") or [])):
        if each["name"] == container:
            for variable in each.get("env") or []:
                if variable["name"] == PLAN_VARIABLE:
                    return Plan.from_json(variable.get("value") or "")
    return None


TELLS_ITS_END: Final[Json] = {"terminationMessagePolicy": "FallbackToLogsOnError"}
"""Of a container whose last words matter: the kubelet keeps them when it fails."""


NO_RIGHTS: Final[Json] = {
    "runAsUser": USER,
    "runAsGroup": USER,
    "runAsNonRoot": True,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
"""Of an agent that has no business with the kernel: what Pod Security's `restricted` asks for, and the user of the API
proxy, which listens to no other but root."""


def rights(*capabilities: str) -> Json:
    """Root, but with nothing of root's power except the named capabilities."""
    return {
        "runAsUser": 0,
        "runAsGroup": 0,
        "runAsNonRoot": False,
        "capabilities": {"drop": ["ALL"], "add": list(capabilities)},
        "seccompProfile": {"type": "RuntimeDefault"},
    }


@dataclass(frozen=True, slots=True)
class Waiting:
    """Not yet started; `words` are the kubelet's: ImagePullBackOff: ..."""

    words: str

    @property
    def hopeless(self) -> bool:
        """The kubelet says that it cannot make the container; it goes on trying all the same."""
        return self.words.partition(":")[0] in CANNOT_BE_MADE

    @property
    def lacks_image(self) -> bool:
        """And that it is for its image."""
        return self.words.partition(":")[0] in NO_IMAGE


@dataclass(frozen=True, slots=True)
class Running:
    """It runs."""


@dataclass(frozen=True, slots=True)
class Ended:
    """It is over; `ran` unless it never got to run. `code` is its exit code, where the kubelet has one."""

    words: str
    ran: bool
    code: int | None = None


@dataclass(frozen=True, slots=True)
class Missing:
    """The pod has no such container: it is another pod of the same name."""


State = Waiting | Running | Ended | Missing


def state_of(pod: Json, container: str) -> State:
    """How one container of a pod fares."""
    spec, status = pod["spec"], pod.get("status") or {}
    declared = (*(spec.get("containers") or []), *(spec.get("ephemeralContainers") or []))
    if not any(each["name"] == container for each in declared):
        return Missing()
    told = (*(status.get("containerStatuses") or []), *(status.get("ephemeralContainerStatuses") or []))
    state = next((each.get("state") or {} for each in told if each["name"] == container), {})
    if "running" in state:
        return Running()
    if (ended := state.get("terminated")) is not None:
        return Ended(_ended_words(ended), ended.get("reason") not in NEVER, ended.get("exitCode"))
    if status.get("phase") in ("Failed", "Succeeded"):
        return Ended(_words(status.get("reason") or status["phase"], status.get("message")), ran=False)
    waiting = state.get("waiting") or {}
    return Waiting(_words(waiting.get("reason") or "not yet begun by the kubelet", waiting.get("message")))


def _ended_words(ended: dict[str, Any]) -> str:
    code = f"exit code {ended['exitCode']}" if "exitCode" in ended else ""
    # Of a log: the end of it says what was wrong, where there was time to say it.
    last = "" if (ended.get("reason"), ended.get("exitCode")) == KILLED else (ended.get("message") or "").strip()[-400:]
    return _words(", ".join(part for part in (ended.get("reason") or "", code) if part), last)


def _words(reason: str, message: str | None) -> str:
    return f"{reason}: {message.strip()[:400]}" if message and message.strip() else reason
