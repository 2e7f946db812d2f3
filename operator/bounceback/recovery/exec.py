"""A command in a pod, through the API server and the kubelet, with the account's rights."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any, Final

from bounceback.api.looks_inside import Command, ExecLook
from bounceback.api.probes import ExecObservation
from bounceback.kube.client import Json
from bounceback.kube.errors import KubeError
from bounceback.recovery.errors import NotHealthyError, UnansweredError
from bounceback.recovery.looks import json_or_none
from bounceback.recovery.means import Means
from bounceback.recovery.objects import UNANSWERED
from bounceback.recovery.pods import cannot, chosen_pods, first_container, is_ready

MOST_OUTPUT: Final = 64 * 1024
NEVER_ENDED: Final = -1
LONGEST_SECONDS: Final = 86_400.0
"""After this time nobody waits for the end of a command."""


async def ask_by_exec(means: Means, look: ExecLook, seconds: float) -> dict[str, Any]:
    """Raises NotHealthyError, CannotLookError."""
    began = time.monotonic()
    code, output, errors = await run(means, look, seconds)
    milliseconds = round((time.monotonic() - began) * 1000)
    if look.expression is None and code != 0:
        raise NotHealthyError(f"exit code {code}: {last_line(errors or output)}")
    return {
        "exitCode": code,
        "output": output,
        "errors": errors,
        "json": json_or_none(output),
        "milliseconds": milliseconds,
    }


async def read_by_exec(means: Means, wanted: ExecObservation, seconds: float) -> Any:
    """Raises NotHealthyError, CannotLookError."""
    code, output, errors = await run(means, wanted, seconds)
    if code != 0:
        raise NotHealthyError(f"exit code {code}: {last_line(errors or output)}")
    if wanted.format == "Text":
        return output
    try:
        return json.loads(output)
    except ValueError as error:
        raise NotHealthyError(f"the output is not JSON: {error}; format: Text takes it as it is") from error


async def run(means: Means, wanted: Command, seconds: float) -> tuple[int, str, str]:
    """Exit code, output and errors. A command that outlasts `seconds` goes on in its pod, as the API cannot end it, and
    none like it is begun before it ends.

    Raises NotHealthyError, CannotLookError.
    """
    key = (str(wanted.pods), wanted.container or "", *wanted.command)
    means.commands.refuse_another(key)
    try:
        pod = _chosen(wanted, await chosen_pods(means, wanted.pods))
        code, output, errors = await _followed(means, wanted, pod, key, seconds)
    except KubeError as error:
        if error.gone or error.status == 400:
            raise NotHealthyError(error.message) from error
        raise cannot("exec in pods", error) from error
    except UNANSWERED as error:
        raise UnansweredError("neither API server nor kubelet answers") from error
    if code == NEVER_ENDED:
        raise NotHealthyError(f"the command could not be started, or was cut off: {last_line(errors or output)}")
    return code, output[:MOST_OUTPUT], errors[:MOST_OUTPUT]


async def _followed(
    means: Means, wanted: Command, pod: Json, key: tuple[str, ...], seconds: float
) -> tuple[int, str, str]:
    """To its end, or until nobody waits for it any more; then it is kept for as long as it goes on."""
    name, container = pod["metadata"]["name"], wanted.container or first_container(pod)
    begun = asyncio.Event()
    began = time.monotonic()
    work = asyncio.create_task(
        means.acting.exec(means.namespace, name, container, wanted.command, seconds=LONGEST_SECONDS, begun=begun.set)
    )
    try:
        async with asyncio.timeout(seconds + 1):  # the sample's own time is over first, and says so
            return await asyncio.shield(work)
    finally:
        if not work.done() and begun.is_set():
            means.commands.keep(key, work, f"container {container} of pod {name}", began)
        elif not work.done():
            work.cancel()  # neither API server nor kubelet has said that it is begun


def _chosen(wanted: Command, pods: list[Json]) -> Json:
    ready = [pod for pod in pods if is_ready(pod)]
    if not ready:
        state = f"none of {len(pods)} is ready" if pods else "there is none"
        raise NotHealthyError(f"{wanted.pods}: {state}")
    return ready[0]


def last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1][:160] if lines else "(it says nothing)"
