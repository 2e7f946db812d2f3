"""bounceback repaired: with `expect: Manual` and `repair.byHand`, say that the repair is done."""

from __future__ import annotations

import argparse

from bounceback.cli.cluster import EXPERIMENTS, connect
from bounceback.cli.cluster import arguments as cluster_arguments
from bounceback.cli.exits import PASSED, CommandError
from bounceback.cli.follow import Key
from bounceback.cli.progress import output_argument
from bounceback.cli.status import experiment
from bounceback.cli.waiting import Waiting
from bounceback.engine.repairing import REPAIRED_ANNOTATION
from bounceback.report.subject import Subject
from bounceback.types.outcome import RepairState


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="the experiment")
    parser.add_argument("--wait", action="store_true", help="wait until it is judged")
    output_argument(parser)
    cluster_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Refused before the run asks for it: a mark set beforehand would prove nothing."""
    cluster = connect(options)
    body = experiment(cluster, options.namespace or cluster.namespace, options.name)
    key, subject = Key.of(body), Subject.of(body)
    repair = subject.status.repair
    if subject.spec.repair is None or subject.spec.repair.by_hand is None:
        raise CommandError(f"{key} has no spec.repair.byHand: nobody is waited for")
    if repair is None or repair.state is not RepairState.RUNNING:
        state = subject.status.phase if repair is None else f"{subject.status.phase}, its repair {repair.state}"
        raise CommandError(f"{key} is not waiting for a repair: it is {state}")
    annotations = {REPAIRED_ANNOTATION: repair.name}
    cluster.patch(EXPERIMENTS, key.namespace, key.name, {"metadata": {"uid": key.uid, "annotations": annotations}})
    if not options.wait:
        print(f"{key} is told that it is repaired")
        return PASSED
    return Waiting(cluster, [key], options.output).run()
