"""The report as JUnit XML: a test case for the verdict, each axis, each finding, each workload and each
invariant; the aspects are properties.

Of repeated runs a case for the verdict and each finding: a run that failed is no failure where enough others passed.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass

from bounceback.report.redact import shown
from bounceback.report.subject import Subject
from bounceback.report.words import BAD, GOOD, TONES, summary
from bounceback.report.workloads import told
from bounceback.types.outcome import Judgement


@dataclass(frozen=True, slots=True)
class Case:
    """One test case; `outcome` is a word of the verdict or of an axis, `seconds` how long what it speaks of took."""

    group: str
    name: str
    outcome: str
    message: str = ""
    seconds: float = 0.0


def as_junit(subject: Subject) -> str:
    """Bad outcomes are failures; those that decide nothing are errors, so that no pipeline takes them for a pass."""
    cases = list(_cases(subject))
    bad = sum(TONES[case.outcome] == BAD for case in cases)
    unclear = sum(TONES[case.outcome] not in (BAD, GOOD) for case in cases)
    name = f"{subject.namespace}/{subject.name}"
    counts = {"tests": str(len(cases)), "failures": str(bad), "errors": str(unclear), "time": f"{subject.length:.3f}"}
    root = ET.Element("testsuites", {"name": "bounceback", **counts})
    started = subject.status.started_at
    stamp = {"timestamp": started.time} if started else {}
    suite = ET.SubElement(root, "testsuite", {"name": name, "skipped": "0", **counts, **stamp})
    if subject.status.aspects is not None:
        properties = ET.SubElement(suite, "properties")
        for aspect, found in subject.status.aspects.to_json().items():
            ET.SubElement(properties, "property", {"name": f"aspect.{aspect}", "value": found})
    for case in cases:
        _add(suite, name, case)
    ET.SubElement(suite, "system-out").text = shown("\n".join(summary(subject)))
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _cases(subject: Subject) -> Iterator[Case]:
    status = subject.status
    if status.verdict is not None:
        yield Case("verdict", "verdict", status.verdict, status.message, subject.length)
    if status.axes is not None and status.runs is None:
        recovery = status.figures.recovery
        took = recovery.milliseconds / 1000 if recovery else 0.0
        yield Case("axis", "injection", status.axes.injection)
        yield Case("axis", "recovery", status.axes.recovery, seconds=took)
        yield Case("axis", "consistency", status.axes.consistency)
        yield Case("axis", "cleanup", status.axes.cleanup)
    for finding in status.findings:
        yield Case("finding", finding.reason, finding.verdict, finding.message)
    for each in status.workloads if status.runs is None else ():
        yield Case("workload", each.check, each.result or Judgement.INCONCLUSIVE, told(each))
    for invariant in status.invariants if status.runs is None else ():
        yield Case("invariant", f"{invariant.check}/{invariant.name}", invariant.result, invariant.message)


def _add(suite: ET.Element, name: str, case: Case) -> None:
    element = ET.SubElement(
        suite,
        "testcase",
        {"classname": f"{name}.{case.group}", "name": case.name, "time": f"{case.seconds:.3f}"},
    )
    tone = TONES[case.outcome]
    if tone != GOOD:
        message = shown(case.message or case.outcome)
        kind = "failure" if tone == BAD else "error"
        ET.SubElement(element, kind, {"type": case.outcome, "message": message}).text = message
