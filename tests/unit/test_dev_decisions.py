"""The decisions of the development cluster: what it is made from, where it keeps things, and what it refuses."""

import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from dev import addons, build, cache, cgroups, control_plane, host, layout, node, providers
from dev.plan import Plan, Process
from dev.progress import DevError
from dev.state import Cluster, Record


@pytest.fixture(autouse=True)
def cache_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOUNCEBACK_CACHE", str(tmp_path / "cache"))


def only(*there: str) -> Callable[..., str | None]:
    """A machine on which just these programs are found."""
    return lambda program, path=None: f"/somewhere/{program}" if program in there else None


def test_a_lone_kubectl_is_no_set_of_binaries() -> None:
    assert providers.find_binaries({"PATH": "/somewhere"}, only("kubectl")) is None


def test_a_complete_set_of_binaries_is_taken() -> None:
    found = providers.find_binaries({"KUBEBUILDER_ASSETS": "/somewhere"}, only(*providers.needed_programs()))
    assert found is not None
    assert found["kubelet"] == "/somewhere/kubelet"


def test_an_existing_cluster_is_used_only_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", only())
    assert providers.choose("auto", {"KUBECONFIG": "/some/config"}) == "build"
    assert providers.choose("auto", {"KUBECONFIG": "/some/config", "BOUNCEBACK_USE_KUBECONFIG": "1"}) == "existing"


def test_kind_is_taken_only_where_a_docker_engine_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", only("kind", "docker"))
    for answers, expected in ((True, "kind"), (False, "build")):
        monkeypatch.setattr(providers, "docker_answers", lambda answers=answers: answers)
        assert providers.choose("auto", {}) == expected


def test_an_existing_cluster_must_have_a_kubeconfig() -> None:
    with pytest.raises(DevError, match="KUBECONFIG=/no/such/file"):
        providers.existing_kubeconfig({"KUBECONFIG": "/no/such/file"})


def test_the_packages_of_missing_programs_are_named_once() -> None:
    assert host.missing(["nsenter", "unshare", "runc"], only("runc")) == ["util-linux"]


@pytest.mark.parametrize("name", ["Web", "a_b", "-a", "a-", "", "a" * 31, "../x"])
def test_a_cluster_name_that_would_not_do_is_refused(name: str) -> None:
    with pytest.raises(DevError, match="--name"):
        Cluster(name)


def test_what_is_written_down_of_a_cluster_is_read_again() -> None:
    one = Cluster("one")
    assert one.record() is None
    one.folder.mkdir(parents=True)
    record = Record("build", 2, {"kubectl": "/somewhere/kubectl"}, str(one.kubeconfig))
    one.write(record)
    assert one.known() == record


def test_an_unknown_cluster_is_refused_with_the_way_out() -> None:
    with pytest.raises(DevError, match="python -m dev up --name other"):
        Cluster("other").known()


def test_another_version_tag_or_toolchain_is_another_build() -> None:
    made = build.Component("x", "v1", {"x": "example.com/x"})
    others = [
        build.Component("x", "v2", {"x": "example.com/x"}),
        build.Component("x", "v1", {"x": "example.com/x"}, tags=("small",)),
        build.Component("x", "v1", {"x": "example.com/x"}, stamps={"a": "b"}),
    ]
    keys = {build.key(one, "go1") for one in (made, *others)} | {build.key(made, "go2")}
    assert len(keys) == 5
    assert build.key(made, "go1") in keys


@pytest.mark.parametrize(
    ("package", "program"),
    [("go.etcd.io/etcd/server/v3", "server"), ("example.com/cmd/kubectl", "kubectl"), ("example.com/v2/cmd/v", "v")],
)
def test_a_program_is_called_after_its_package(package: str, program: str) -> None:
    assert build.program_of(package) == program


def test_what_fails_to_be_made_does_not_count_as_made() -> None:
    def half(folder: Path) -> None:
        (folder / "part").write_text("half")
        raise DevError("interrupted")

    with pytest.raises(DevError):
        cache.entry("things", "one", half)
    made = cache.entry("things", "one", lambda folder: (folder / "all").mkdir())
    assert [path.name for path in made.iterdir()] == ["all"]
    assert [path.name for path in made.parent.iterdir()] == ["one"]


def test_a_thing_is_made_once_however_many_ask_for_it() -> None:
    made: list[Path] = []
    asking = [threading.Thread(target=cache.entry, args=("things", "one", made.append)) for _ in range(4)]
    for one in asking:
        one.start()
    for one in asking:
        one.join()
    assert len(made) == 1


def test_a_folder_that_the_nodes_own_var_would_hide_is_mounted_again(tmp_path: Path) -> None:
    commands = node.mounts(tmp_path, [Path("/var/cache/b"), Path("/home/me"), Path("/run/user/b")])
    bound = [command[2:] for command in commands if command[:2] == ["mount", "--bind"]]
    assert bound == [
        ["/var/cache/b", f"{tmp_path}/cache/b"],
        ["/run/user/b", f"{tmp_path}/run-of-node/user/b"],
    ]
    assert commands.index(["mount", "--rbind", str(tmp_path), "/var"]) > commands.index(["mount", "--bind", *bound[1]])


def test_each_node_has_addresses_of_its_own_for_pods() -> None:
    ranges = [
        json.loads(node.network_config(pods))["plugins"][0]["ipam"]["ranges"] for pods in layout.NODE_PODS.values()
    ]
    assert ranges == [[[{"subnet": "10.244.0.0/24"}]], [[{"subnet": "10.244.1.0/24"}]]]


def test_a_plan_is_read_as_it_was_written(tmp_path: Path) -> None:
    processes = [Process("etcd", ["etcd"], notifies=True), Process("relay", ["relay"], after=["etcd"], socket=5)]
    plan = Plan("node-1", "/bin", "/log", "/control", ["/sys/fs/cgroup/x"], [["true"]], processes)
    plan.write(tmp_path / "plan.json")
    assert Plan.read(tmp_path / "plan.json") == plan


def test_every_program_waits_only_for_programs_that_exist() -> None:
    programs = {name: f"/somewhere/{name}" for name in providers.needed_programs()}
    first = node.Node(layout.FIRST_NODE, Path("/state"), programs)
    processes = [
        *control_plane.processes(programs, Path("/pki"), Path("/conf")),
        *node.processes(first, [], after=["kube-apiserver"]),
    ]
    names = [process.name for process in processes]
    assert len(set(names)) == len(names)
    assert {wanted for process in processes for wanted in process.after} <= set(names)


def test_hierarchies_of_both_cgroup_versions_are_found(tmp_path: Path) -> None:
    (tmp_path / "cpu,cpuacct").mkdir()
    (tmp_path / "cpu").symlink_to("cpu,cpuacct")
    (tmp_path / "memory").mkdir()
    for hierarchy in ("cpu", "memory"):
        (tmp_path / hierarchy / "cgroup.procs").touch()
    (tmp_path / "hugetlb").mkdir()  # left behind: nothing is mounted there
    assert cgroups.hierarchies(tmp_path) == [tmp_path / "cpu,cpuacct", tmp_path / "memory"]
    (tmp_path / "cgroup.controllers").write_text("cpu memory")
    assert cgroups.hierarchies(tmp_path) == [tmp_path]


def test_a_cluster_is_found_by_its_cgroups_alone(tmp_path: Path) -> None:
    for group in ("memory/bounceback-one", "cpu/bounceback-one", "cpu/bounceback-two/daemons", "cpu/other"):
        (tmp_path / group).mkdir(parents=True)
        (tmp_path / group.partition("/")[0] / "cgroup.procs").touch()
    assert cgroups.clusters(tmp_path) == {"one", "two"}


def test_dns_serves_at_the_address_that_pods_are_told() -> None:
    service = addons.dns_objects()["/api/v1/namespaces/kube-system/services/kube-dns"]
    assert service["spec"]["clusterIP"] == layout.DNS_SERVICE
