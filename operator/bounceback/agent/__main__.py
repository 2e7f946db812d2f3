"""python3 -m bounceback.agent run|guard|probe [REALM...]|verify|control|clock"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence

from bounceback.types.plan import NOTES_VARIABLE, PLAN_VARIABLE, Plan


def main(arguments: list[str]) -> int:
    """Each command imports what it needs and no more: an agent is billed to the pod that it troubles."""
    commands: dict[str, Callable[[], int]] = {
        "run": _run,
        "guard": _guard,
        "verify": _verify,
        "probe": _probe,
        "control": _control,
        "clock": _clock,
    }
    more = arguments[1:]  # what a probe is to ask about
    if not arguments or arguments[0] not in commands or (more and arguments[0] != "probe"):
        print(f"usage: python3 -m bounceback.agent {'|'.join(commands)}", file=sys.stderr)
        return 2
    from bounceback.agent import evidence

    try:
        code = _probe(more) if more else commands[arguments[0]]()
        evidence.flush()
        return code
    except ValueError as error:  # a plan of another version or shape: nothing was touched
        print(f"{PLAN_VARIABLE}: {error}", file=sys.stderr)
        return 2


def _plan() -> Plan:
    if PLAN_VARIABLE not in os.environ:
        raise ValueError("is not set; the plan goes there as JSON")
    return Plan.from_json(os.environ[PLAN_VARIABLE])


def _run() -> int:
    from bounceback.agent.run import run

    return run(_plan())


def _guard() -> int:
    from bounceback.agent.guard import guard

    return guard(_plan())


def _verify() -> int:
    from bounceback.agent.verify import verify

    notes = json.loads(os.environ.get(NOTES_VARIABLE) or "{}")
    return verify(_plan(), {injection: kept for injection, kept in notes.items() if isinstance(kept, dict)})


def _probe(realms: Sequence[str] = ()) -> int:
    from bounceback.agent.probe import probe

    return probe(realms)


def _control() -> int:
    from bounceback.agent.control import main as control

    return control(_plan().agent)


def _clock() -> int:
    from bounceback.agent.clock import clock

    return clock()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
