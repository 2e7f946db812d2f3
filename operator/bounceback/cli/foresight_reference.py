"""What a reference run would compare, found out by reads only."""

from __future__ import annotations

from collections.abc import Iterator

from bounceback.api.experiment import FaultExperimentSpec
from bounceback.cli.cluster import Cluster, Place, RefusedError
from bounceback.cli.foresight_objects import Unforeseen


def compared(acting: Cluster, namespace: str, spec: FaultExperimentSpec) -> Iterator[str | Unforeseen]:
    """A note on what is compared and how much of it there is; what stands against it."""
    if spec.reference is None:
        return
    found = []
    for index, entry in enumerate(spec.reference.objects):
        field = f"spec.reference.objects[{index}]"
        served = next((each for each in acting.served(entry.api_version) if each["kind"] == entry.kind), None)
        if served is None or not served["namespaced"]:
            why = "serves no such kind" if served is None else "has it for the whole cluster, and not in a namespace"
            yield Unforeseen(f"{field}.kind", f"{entry.kind} of {entry.api_version}: the cluster {why}")
            continue
        place = Place(entry.api_version, served["name"])
        try:
            there = acting.list(place, namespace, str(entry.selector) if entry.selector else "")
        except RefusedError as error:
            yield Unforeseen("spec.serviceAccountName", error.words)
            continue
        found.append(f"{len(there)} {entry.kind}s" + (f" with {entry.selector}" if entry.selector else ""))
        if not there:
            yield f"{field} selects nothing now: a reference run that sees none of an entry is Inconclusive"
    if found:
        yield (
            f"a run of {spec.longest_fault_seconds} s without faults comes first, and what it ends with is compared: "
            f"{', '.join(found)} now"
        )
