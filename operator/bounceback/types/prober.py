"""What passes between the operator and a prober pod: its orders, the lines of its log, the questions it takes."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

ORDERS: Final = "BOUNCEBACK_PROBER"
"""The variable with its orders: JSON."""
PASSWORD: Final = "BOUNCEBACK_PASSWORD"
"""The variable with the password of the workload's user, where it has one."""
AUTHORITIES: Final = "BOUNCEBACK_AUTHORITIES"
"""The variable with the certificates of the authorities that the workload's `tls` names, in PEM."""
SOCKET: Final = "prober.sock"
"""In the container's own /tmp."""


class Said(StrEnum):
    """What a line tells, in its field `said`. Lines are numbered from 0 in `n`, and have the moment in `at`."""

    STARTED = "Started"  # it runs, and has looked at nothing
    LOAD = "Load"  # operations begin
    SECOND = "Second"  # what ended in one second of the load: `second`
    LOAD_ENDED = "LoadEnded"  # no more are begun: `why`
    ACCOUNT = "Account"  # its last line, with `account`
    SAMPLE = "Sample"  # of a probe: `start`, `end`, and what is `wrong`, if anything
    NO_SAMPLE = "NoSample"  # a look that was held up by ourselves: nobody looked from `start` to `end`
    PROBLEM = "Problem"  # why a probe cannot look at all, or that it can again
    REFUSED = "Refused"  # its last line: nothing was written; `why`


class LoadEnd(StrEnum):
    """Why no more operations are begun."""

    ASKED = "Asked"
    SECONDS = "Seconds"  # of the workload
    FULL = "Full"  # mostOperations
    DEADLINE = "Deadline"  # of the run
