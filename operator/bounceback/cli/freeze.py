"""bounceback freeze: stop all experiments and let none begin, or let them again."""

from __future__ import annotations

import argparse
from typing import Final

from bounceback.cli.cluster import CONFIG_MAPS, connect
from bounceback.cli.cluster import arguments as cluster_arguments
from bounceback.cli.exits import PASSED

FREEZE: Final = "bounceback-freeze"
"""The ConfigMap whose existence freezes; the operator watches it."""


def operator_namespace(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--operator-namespace", default="bounceback-system", metavar="NAMESPACE", help="where the operator runs"
    )


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--off", action="store_true", help="end the freeze")
    parser.add_argument("--reason", default="", help="why; shown in the reports of the experiments that it stops")
    operator_namespace(parser)
    cluster_arguments(parser, namespaced=False)


def run(options: argparse.Namespace) -> int:
    cluster, namespace = connect(options), options.operator_namespace
    there = cluster.get(CONFIG_MAPS, namespace, FREEZE)
    if options.off:
        if there is not None:
            cluster.delete(CONFIG_MAPS, namespace, FREEZE, there["metadata"]["uid"])
        print("not frozen: experiments may begin" if there else "nothing was frozen")
        return PASSED
    body = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": FREEZE, "namespace": namespace},
        "data": {"reason": options.reason},
    }
    if there is None:
        cluster.create(CONFIG_MAPS, body)
    else:
        cluster.replace(CONFIG_MAPS, body)
    print("frozen: what runs is being cleared, and nothing begins until bounceback freeze --off")
    return PASSED
