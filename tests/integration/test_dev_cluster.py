"""The local development cluster itself: it comes up fast, works as users' clusters do, and leaves nothing behind."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dev import cgroups, cluster, control, layout, providers
from dev.state import Cluster

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(os.geteuid() != 0, reason="a cluster of our own needs root"),
]
PROJECT = Path(__file__).resolve().parents[2]
NAME = f"test-{os.getpid()}"
# Where a node's programs would write, had it no folders of its own there.
USUAL_PLACES = (
    *(
        "/var/lib/kubelet",
        "/var/lib/containerd",
        "/var/lib/cni",
        "/var/lib/etcd",
        "/var/log/pods",
        "/var/log/containers",
    ),
    *("/run/containerd", "/run/netns", "/run/notify", "/run/nri", "/etc/cni/net.d", "/etc/kubernetes"),
    *("/opt/cni", "/opt/containerd", "/usr/libexec/kubernetes"),
)
READY_SECONDS = 60
UNSUPPORTED = 3

WEB = """
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: web, image: "bounceback.local/busybox:1", command: [sh, -c, "exec httpd -f -vv -p 8080 -h /etc"]}]
---
apiVersion: v1
kind: Pod
metadata: {name: client}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: client, image: "bounceback.local/busybox:1", command: [sleep, infinity]}]
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
"""


def dev(*words: str) -> "subprocess.CompletedProcess[str]":
    """A command of the development cluster; skips the test where this machine cannot have what it asks for."""
    done = subprocess.run([sys.executable, "-m", "dev", *words], cwd=PROJECT, capture_output=True, text=True)
    if done.returncode == UNSUPPORTED:
        pytest.skip(done.stderr.splitlines()[-1])
    assert done.returncode == 0, done.stderr
    return done


def up(name: str, *more: str) -> "subprocess.CompletedProcess[str]":
    """A cluster made here, also where kind or an existing one would be taken by itself."""
    provider = "binaries" if providers.find_binaries(os.environ) else "build"
    return dev("up", "--name", name, "--provider", provider, *more)


def kubectl(name: str, *words: str, text: str | None = None) -> str:
    record = Cluster(name).known()
    command = [record.programs["kubectl"], f"--kubeconfig={record.kubeconfig}", *words]
    done = subprocess.run(command, input=text, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def start_web(name: str) -> None:
    kubectl(name, "apply", "-f", "-", text=WEB)
    kubectl(name, "wait", "--for=condition=Ready", "pod/web", "pod/client", f"--timeout={READY_SECONDS}s")


def get_from_client(name: str, address: str) -> str:
    """What the pod `client` gets for /hostname; asked again while kube-proxy has not yet heard of the Service."""
    script = f"printf 'GET /hostname HTTP/1.0\\r\\n\\r\\n' | nc -w 5 {address} 80 | tail -n 1"
    deadline = time.monotonic() + READY_SECONDS
    while not (answer := kubectl(name, "exec", "client", "--", "sh", "-c", script).strip()):
        assert time.monotonic() < deadline, f"{address} does not answer"
    return answer


def traces(name: str) -> dict[str, set[str]]:
    """What the cluster could leave on the machine: not what is another cluster's, nor what somebody else mounted."""
    mine = str(Cluster(name).folder)
    processes = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            group = (process / "cgroup").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended while we looked
        if mine in words or cgroups.name_of(name) in group:
            processes.add(f"{process.name} {words}")
    mounted = {line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()}
    mounts = {path for path in mounted if path.startswith((mine, "/run/netns/cni-", "/run/containerd", "/var"))}
    groups = {group for group in all_cgroups() if cgroups.name_of("") not in group or cgroups.name_of(name) in group}
    links = {path.name for path in Path("/sys/class/net").iterdir()}
    places = {place for place in (*USUAL_PLACES, mine) if Path(place).exists()}
    return {"processes": processes, "mounts": mounts, "cgroups": groups, "links": links, "places": places}


def all_cgroups() -> set[str]:
    return {folder for root in cgroups.hierarchies() for folder, _, _ in os.walk(root)}


def left_behind(before: dict[str, set[str]], after: dict[str, set[str]]) -> dict[str, set[str]]:
    return {kind: more for kind in before if (more := after[kind] - before[kind])}


def first_process(name: str) -> int:
    pid = control.first_process(Cluster(name).control)
    assert pid is not None
    return pid


def kill_nothing(name: str) -> None:
    """`down` finds it running."""


def kill_the_first_process(name: str) -> None:
    os.kill(first_process(name), signal.SIGKILL)


def kill_everything(name: str) -> None:
    for pid in cgroups.members(name):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue  # it went with another one


@pytest.fixture
def name() -> Iterator[str]:
    yield NAME
    dev("down", "--name", NAME)


@pytest.fixture(scope="module")
def shared() -> Iterator[str]:
    """One cluster for the tests that only look."""
    one = f"{NAME}-shared"
    up(one, "--wait-dns")
    start_web(one)
    yield one
    dev("down", "--name", one)


def test_a_warm_start_says_how_long_it_took(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    up(name)
    dev("down", "--name", name)
    started = time.monotonic()
    said = up(name)
    took = time.monotonic() - started
    found = re.search(r"node-1 ready after ([0-9.]+) s", said.stderr)
    assert found, said.stderr
    assert Path(said.stdout.strip()).is_file()
    with capsys.disabled():
        print(f"\nwarm start: node-1 Ready after {found[1]} s, the command returned after {took:.1f} s")


def test_a_cluster_that_is_up_stays(name: str) -> None:
    up(name)
    before = first_process(name)
    assert "is up" in up(name).stderr
    assert first_process(name) == before


@pytest.mark.parametrize("end", [kill_nothing, kill_the_first_process, kill_everything])
def test_down_leaves_nothing_behind(end: Callable[[str], None]) -> None:
    before = traces(NAME)
    up(NAME)
    start_web(NAME)
    assert left_behind(before, traces(NAME)).keys() >= {"processes", "cgroups", "places"}, "nothing to be left behind"
    pid = first_process(NAME)
    end(NAME)
    dev("down", "--name", NAME)
    assert left_behind(before, traces(NAME)) == {}
    assert not Path(f"/proc/{pid}").exists()


def test_killing_the_first_process_ends_every_other_one(name: str) -> None:
    up(name)
    start_web(name)
    pids = cgroups.members(name)
    assert len(pids) > 8
    cluster.kill_and_wait(first_process(name))
    assert cgroups.members(name) == set()
    assert "not running" in dev("status", "--name", name).stdout


def test_a_killed_cluster_comes_up_again(name: str) -> None:
    up(name)
    cluster.kill_and_wait(first_process(name))
    assert "removing what is left" in up(name).stderr
    assert "node-1" in kubectl(name, "get", "nodes")


def test_two_clusters_do_not_disturb_each_other(shared: str, name: str) -> None:
    up(name)
    start_web(name)
    for one in (shared, name):
        pods = json.loads(kubectl(one, "get", "pods", "-o", "json"))["items"]
        started = {pod["metadata"]["name"]: pod["status"]["containerStatuses"][0]["containerID"] for pod in pods}
        # Two rounds of the kubelet's housekeeping, in which it would remove the pods that it takes for orphans.
        kubectl(one, "exec", "client", "--", "sleep", "5")
        pods = json.loads(kubectl(one, "get", "pods", "-o", "json"))["items"]
        assert {p["metadata"]["name"]: p["status"]["containerStatuses"][0]["containerID"] for p in pods} == started
    dev("down", "--name", name)
    assert get_from_client(shared, service_address(shared)) == "web"


def service_address(name: str) -> str:
    return kubectl(name, "get", "service", "web", "-o", "jsonpath={.spec.clusterIP}")


def test_a_service_shows_its_endpoint_the_callers_own_address(shared: str) -> None:
    client = kubectl(shared, "get", "pod", "client", "-o", "jsonpath={.status.podIP}")
    assert get_from_client(shared, service_address(shared)) == "web"
    assert f"{client}]" in kubectl(shared, "logs", "web", "--tail=1")


def test_names_of_services_resolve_and_others_are_unknown_at_once(shared: str) -> None:
    found = kubectl(shared, "exec", "client", "--", "nslookup", "-type=a", f"web.default.svc.{layout.DOMAIN}")
    assert service_address(shared) in found
    started = time.monotonic()
    script = "nslookup -type=a example.com; true"
    assert "NXDOMAIN" in kubectl(shared, "exec", "client", "--", "sh", "-c", script)
    assert time.monotonic() - started < 10  # who has to ask elsewhere waits for 15


def test_a_cluster_weighs_as_much_as_was_asked(shared: str) -> None:
    def weights() -> set[int]:
        branches = [root / cgroups.name_of(shared) for root in cgroups.hierarchies()]
        files = [(branch / file, one) for branch in branches for file, one in cgroups.OF_ONE.items()]
        return {int(file.read_text()) // one for file, one in files if file.exists()}

    assert weights() == {1}
    up(shared, "--weight", "2")
    assert weights() == {2}


@pytest.mark.parametrize("websockets", ["true", "false"])
def test_exec_works_over_both_protocols(shared: str, websockets: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", websockets)
    assert kubectl(shared, "exec", "client", "--", "echo", "hello") == "hello\n"


def test_an_ephemeral_container_sees_its_targets_processes(shared: str) -> None:
    container = {"name": "look", "image": layout.BUSYBOX_IMAGE, "command": ["ps"], "targetContainerName": "web"}
    patch = json.dumps({"spec": {"ephemeralContainers": [container]}})
    kubectl(shared, "patch", "pod", "web", "--subresource=ephemeralcontainers", "-p", patch)
    path = "{.status.ephemeralContainerStatuses[0].state.terminated.reason}"
    kubectl(shared, "wait", f"--for=jsonpath={path}=Completed", "pod/web", f"--timeout={READY_SECONDS}s")
    assert "httpd" in kubectl(shared, "logs", "web", "-c", "look")


def test_exec_runs_inside_with_a_kubeconfig_that_works_there(shared: str) -> None:
    assert "node-1" in dev("exec", "--name", shared, "--", "kubectl", "get", "nodes").stdout
    wrong = subprocess.run(
        [sys.executable, "-m", "dev", "exec", "--name", shared, "--", "sh", "-c", "exit 7"], cwd=PROJECT
    )
    assert wrong.returncode == 7


def test_a_stopped_kubelet_stays_stopped_until_it_is_started(name: str) -> None:
    up(name)
    dev("stop-kubelet", "--name", name)
    assert re.search(r"kubelet +stopped", dev("status", "--name", name).stdout)
    dev("start-kubelet", "--name", name)
    assert re.search(r"kubelet +running", dev("status", "--name", name).stdout)


def test_a_program_that_ends_by_itself_is_started_again(name: str) -> None:
    up(name)
    programs = control.request(Cluster(name).control, {"do": "status"})["programs"]
    dev("exec", "--name", name, "--", "kill", "-9", str(programs["kube-scheduler"]["pid"]))
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        now = control.request(Cluster(name).control, {"do": "status"})["programs"]["kube-scheduler"]
        if now["state"] == "running" and now["starts"] == 2:
            return
    pytest.fail(f"the scheduler is {now}")


def test_a_packed_image_is_loaded_under_the_name_that_a_pod_uses(shared: str, tmp_path: Path) -> None:
    busybox = tmp_path / "root" / "bin"
    busybox.mkdir(parents=True)
    (busybox / "busybox").write_bytes(Path("/bin/busybox").read_bytes())
    (busybox / "busybox").chmod(0o755)
    dev("pack-image", "short:1", str(tmp_path / "root"), str(tmp_path / "short.tar"), "/bin/busybox", "echo", "packed")
    dev("load-image", "--name", shared, str(tmp_path / "short.tar"))
    run = ("run", "packed", "--image=short:1", "--image-pull-policy=Never", "--restart=Never")
    kubectl(shared, *run)
    kubectl(shared, "wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/packed", f"--timeout={READY_SECONDS}s")
    assert kubectl(shared, "logs", "packed") == "packed\n"


@pytest.mark.slow
def test_the_second_node_has_another_kernel_with_netem(name: str) -> None:
    before = traces(name)
    up(name, "--nodes", "2")
    on_node = ("exec", "--name", name, "--node", layout.OTHER_KERNEL_NODE, "--")
    assert dev(*on_node, "uname", "-r").stdout.strip() != os.uname().release
    netem = "ip link add probe type veth && tc qdisc add dev probe root netem delay 10ms && tc qdisc show dev probe"
    assert "delay 10ms" in dev(*on_node, "sh", "-c", netem).stdout
    there = {"nodeName": layout.OTHER_KERNEL_NODE}
    kubectl(
        name, "apply", "-f", "-", text=WEB.replace("spec:\n  term", f"spec:\n  nodeName: {there['nodeName']}\n  term")
    )
    kubectl(name, "wait", "--for=condition=Ready", "pod/web", "pod/client", f"--timeout={READY_SECONDS}s")
    client = kubectl(name, "get", "pod", "client", "-o", "jsonpath={.status.podIP}")
    assert get_from_client(name, service_address(name)) == "web"
    assert f"{client}]" in kubectl(name, "logs", "web", "--tail=1")
    dev("stop-kubelet", "--name", name, "--node", layout.OTHER_KERNEL_NODE)
    assert re.search(r"node-uml(.|\n)*kubelet +stopped", dev("status", "--name", name).stdout)
    dev("down", "--name", name)
    assert left_behind(before, traces(name)) == {}
