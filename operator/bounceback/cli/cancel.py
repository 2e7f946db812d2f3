"""bounceback cancel: end an experiment; what was injected is cleared, checked and reported."""

from __future__ import annotations

import argparse

from bounceback.cli.cluster import arguments as cluster_arguments
from bounceback.cli.cluster import connect
from bounceback.cli.exits import ABORTED, PASSED, CommandError
from bounceback.cli.follow import Key, is_finished
from bounceback.cli.progress import output_argument
from bounceback.cli.status import experiment
from bounceback.cli.waiting import Waiting, cancel


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="the experiment")
    parser.add_argument("--wait", action="store_true", help="wait until it is cleared and judged")
    output_argument(parser)
    cluster_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """0 too when the verdict is Aborted: that is what was asked for."""
    cluster = connect(options)
    body = experiment(cluster, options.namespace or cluster.namespace, options.name)
    key = Key.of(body)
    if is_finished(body):
        raise CommandError(f"{key} is finished already: {body['status'].get('verdict')}")
    cancel(cluster, key)
    if not options.wait:
        print(f"{key} is being cancelled")
        return PASSED
    code = Waiting(cluster, [key], options.output).run()
    return PASSED if code == ABORTED else code
