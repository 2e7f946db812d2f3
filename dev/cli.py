"""The command line of the development cluster: what a person or a test asks for, handed on."""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from dev import archives, build, cache, cgroups, cluster, layout, nodes, providers
from dev.progress import DevError, UnsupportedError, say
from dev.state import DEFAULT_NAME, Cluster, all_clusters

NODES: Final = (layout.FIRST_NODE, layout.OTHER_KERNEL_NODE)


def main(arguments: Sequence[str]) -> int:
    """Carry out one command; returns its exit code, the reason for any but 0 on standard error.

    1: it failed; 3: this machine cannot have what was asked for (a second kernel, say).
    """
    options = parser().parse_args(arguments)
    try:
        code: int = options.command(options)
        return code
    except UnsupportedError as reason:
        say(f"not on this machine: {reason}")
        return 3
    except DevError as failure:
        say(f"error: {failure}")
        return 1
    except KeyboardInterrupt:
        say("interrupted")
        return 130


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m dev", description="A Kubernetes of your own, on this machine.")
    named = argparse.ArgumentParser(add_help=False)
    named.add_argument("--name", default=DEFAULT_NAME, help="which cluster (default: %(default)s)")
    on_node = argparse.ArgumentParser(add_help=False)
    on_node.add_argument("--node", default=layout.FIRST_NODE, help="which node (default: %(default)s)")
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    up = commands.add_parser("up", parents=[named], help="bring a cluster up; prints its kubeconfig's path")
    up.add_argument("--nodes", type=int, choices=(1, 2), default=1, help="2 adds a node with another kernel")
    up.add_argument("--provider", choices=("auto", *providers.PROVIDERS), default="auto")
    up.add_argument("--wait-dns", action="store_true", help="wait until names of Services resolve, too")
    told = "of processor time beside other work on this machine, where there is not enough (1: as one terminal)"
    up.add_argument("--weight", type=int, choices=range(1, 11), metavar="1-10", help=told)
    up.set_defaults(command=_up)

    down = commands.add_parser("down", parents=[named], help="remove a cluster and all that belongs to it")
    down.add_argument("--all", action="store_true", help="every cluster that was made here")
    down.set_defaults(command=_down)

    status = commands.add_parser("status", help="what runs")
    status.add_argument("--name", help="only this cluster (default: all)")
    status.set_defaults(command=_status)

    load = commands.add_parser("load-image", parents=[named], help="load image archives into every node")
    load.add_argument("archives", nargs="+", type=Path, metavar="ARCHIVE.tar")
    load.set_defaults(command=_load_image)

    run = commands.add_parser("exec", parents=[named, on_node], help="run a command in the cluster's namespaces")
    run.add_argument("words", nargs=argparse.REMAINDER, metavar="-- CMD...")
    run.set_defaults(command=_exec)

    path = commands.add_parser("kubeconfig", parents=[named], help="print the path of the kubeconfig")
    path.set_defaults(command=_kubeconfig)

    env = commands.add_parser("env", parents=[named], help="print exports for a shell: KUBECONFIG and PATH")
    env.set_defaults(command=_env)

    for program in ("kubelet", "apiserver"):
        for action in ("stop", "start"):
            switch = commands.add_parser(
                f"{action}-{program}", parents=[named, on_node], help=f"{action} the {program}"
            )
            switch.set_defaults(command=_switch, action=action, program=program)

    pack = commands.add_parser("pack-image", help="pack a folder into an image archive")
    pack.add_argument("image", metavar="NAME:TAG")
    pack.add_argument("rootfs", type=Path)
    pack.add_argument("out", type=Path, metavar="OUT.tar")
    pack.add_argument("words", nargs=argparse.REMAINDER, metavar="CMD...")
    pack.set_defaults(command=_pack_image)

    tool = commands.add_parser("tool", help="build a tool if it is not there and print its path")
    tool.add_argument("tool", choices=sorted(build.TOOLS))
    tool.set_defaults(command=_tool)
    return top


def _up(options: argparse.Namespace) -> int:
    started = time.monotonic()
    wanted = Cluster(options.name)
    with cache.locked(wanted.lock):
        record = nodes.up(wanted, options.provider, options.nodes, started)
        if options.weight:
            cgroups.weigh(wanted.name, options.weight)
    if options.wait_dns and record.programs:
        cluster.wait_for_dns(wanted)
        say(f"  DNS ready after {time.monotonic() - started:.1f} s")
    print(record.kubeconfig)
    return 0


def _down(options: argparse.Namespace) -> int:
    everyone = {one.name for one in all_clusters()} | cgroups.clusters()
    for unwanted in map(Cluster, sorted(everyone) if options.all else [options.name]):
        with cache.locked(unwanted.lock):
            nodes.down(unwanted)
        say(f"{unwanted.name} is gone")
    return 0


def _status(options: argparse.Namespace) -> int:
    known = [Cluster(options.name)] if options.name else all_clusters()
    if not known:
        say("no cluster; bring one up with: python -m dev up")
    for one in known:
        print("\n".join(nodes.describe(one)))
    return 0


def _load_image(options: argparse.Namespace) -> int:
    nodes.load_images(Cluster(options.name), options.archives)
    return 0


def _exec(options: argparse.Namespace) -> int:
    words = _command(options.words)
    if not words:
        raise DevError("Which command? For example: python -m dev exec -- kubectl get pods -A")
    return nodes.execute(Cluster(options.name), options.node, words)


def _kubeconfig(options: argparse.Namespace) -> int:
    print(Cluster(options.name).known().kubeconfig)
    return 0


def _env(options: argparse.Namespace) -> int:
    record = Cluster(options.name).known()
    print(f"export KUBECONFIG={record.kubeconfig}")
    shown = [record.programs[name] for name in ("kubectl", "helm") if name in record.programs]
    if folders := dict.fromkeys(str(Path(program).parent) for program in shown):
        print(f"export PATH={':'.join(folders)}:$PATH")
    return 0


def _switch(options: argparse.Namespace) -> int:
    nodes.switch(Cluster(options.name), options.node, options.action, options.program)
    return 0


def _pack_image(options: argparse.Namespace) -> int:
    archives.pack(options.image, options.rootfs, options.out, _command(options.words))
    return 0


def _tool(options: argparse.Namespace) -> int:
    component = build.TOOLS[options.tool]
    print(build.build(component) / options.tool)
    return 0


def _command(words: list[str]) -> list[str]:
    return words[1:] if words[:1] == ["--"] else words
