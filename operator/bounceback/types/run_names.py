"""What tells the runs of one experiment apart in the names of what they make. Standard library only."""

from __future__ import annotations

MARK = "-run"
"""In no UID: those have hexadecimal digits and hyphens."""
REFERENCE = 0
"""The number of the run without faults that comes before the others."""


def run_name(experiment: str, number: int) -> str:
    """Of the number-th run of the experiment with that UID; the first one's is the UID."""
    return experiment if number == 1 else f"{experiment}{MARK}{number}"


def reference_record(experiment: str) -> str:
    """What the reference run leaves for those after it to be compared with."""
    return f"{experiment}{MARK}{REFERENCE}-end"


def experiment_of(run: str) -> str:
    """The UID of the experiment whose run it is."""
    return run.partition(MARK)[0]
