"""`bounceback proxy --write-kubeconfig OUT -- COMMAND`: what it runs, how that ends, and what it makes of it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.relay.command import Proxy, proxy, until
from tests.relay.conftest import PATIENCE

Json = dict[str, Any]
ASKING = """
import base64, os, ssl, sys, urllib.error, urllib.request, yaml
cluster = yaml.safe_load(open(os.environ["KUBECONFIG"]))["clusters"][0]["cluster"]
tls = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
for method in sys.argv[1:]:
    url = cluster["server"] + "/api/v1/namespaces/shop/configmaps"
    try:
        urllib.request.urlopen(urllib.request.Request(url, b"{}" if method == "POST" else None), context=tls).read()
    except urllib.error.HTTPError as error:
        print("was told", error.code, flush=True)
"""
"""A client: GET and POST, as many as it is told."""
GROUPS = """
import os, signal, subprocess, sys, time
word, deaf, folder = sys.argv[1:4]
if word == "parent":
    subprocess.Popen([sys.executable, sys.argv[4], "child", *sys.argv[2:]])
def end(*_):
    open(f"{folder}/{word}-ended", "w")
    sys.exit()
signal.signal(signal.SIGTERM, signal.SIG_IGN if deaf == "deaf" else end)
open(f"{folder}/{word}-begun.new", "w").write(str(os.getpid()))
os.rename(f"{folder}/{word}-begun.new", f"{folder}/{word}-begun")
time.sleep(600)
"""
"""One that begins another, both of which listen to signals or do not."""
WRITES = {"verbs": ["create"], "apiGroups": [""], "resources": ["configmaps"]}


class Objects(BaseHTTPRequestHandler):
    """An API server that takes whatever comes."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b'{"kind": "ConfigMapList", "apiVersion": "v1", "items": []}'
        self.send_response(201 if self.command == "POST" else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Path]:
    """The kubeconfig of one."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Objects)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    document = {
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path = tmp_path / "in.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    yield path
    server.shutdown()
    server.server_close()


def faults(folder: Path, *listed: Json, **behavior: Any) -> list[str]:
    """--fault, and a file with these."""
    path = folder / "faults.yaml"
    path.write_text(yaml.safe_dump({"faults": list(listed), **behavior}), encoding="utf-8")
    return ["--fault", str(path)]


def before(cluster: Path) -> list[str]:
    return ["--kubeconfig", str(cluster), "--write-kubeconfig", str(cluster.with_name("out.yaml"))]


def ended(running: Proxy, seconds: float = PATIENCE) -> tuple[int, str]:
    """Its exit code, and all that it said."""
    assert running.process.stdout is not None
    out = running.process.stdout.read()
    code = running.process.wait(seconds)
    running._reading.join(PATIENCE)
    return code, out + "\n".join(running.lines)


def asking(*methods: str) -> list[str]:
    return ["--", sys.executable, "-c", ASKING, *methods]


def is_there(number: int) -> bool:
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(number)], capture_output=True, text=True).stdout
    return bool(state.strip()) and not state.startswith("Z")


# What it runs


def test_a_command_finds_the_proxy_by_its_environment_and_the_proxy_ends_with_it(cluster: Path) -> None:
    with proxy(*before(cluster), "-o", "json", *asking("GET", "POST")) as running:
        code, said = ended(running)
    assert code == 0, said
    counted = json.loads(said.splitlines()[0])["cluster"]
    assert counted["requests"] == 2
    assert not cluster.with_name("out.yaml").exists()


def test_what_follows_the_two_dashes_is_the_commands_own(cluster: Path) -> None:
    line = ["--", sys.executable, "-c", "import sys; print(sys.argv[1:])", "--for", "3", "--", "-o"]
    with proxy(*before(cluster), *line) as running:
        code, said = ended(running)
    assert (code, "['--for', '3', '--', '-o']" in said) == (0, True), said


@pytest.mark.parametrize(("end", "code"), [("sys.exit(7)", 7), ("os.kill(os.getpid(), 11)", 139)])
def test_without_a_verdict_the_exit_code_is_the_commands_own(cluster: Path, end: str, code: int) -> None:
    with proxy(*before(cluster), "--", sys.executable, "-c", f"import os, sys; {end}") as running:
        assert ended(running)[0] == code


def test_for_so_many_seconds(cluster: Path, tmp_path: Path) -> None:
    """The command is ended then, which is no fault of its own."""
    began = time.monotonic()
    line = ["--for", "1", *faults(tmp_path, clientBehavior={"maxHotLoops": 0}), "--", "sleep", "600"]
    with proxy(*before(cluster), *line) as running:
        code, said = ended(running)
    assert code == 0, said
    assert time.monotonic() - began >= 1


def test_a_command_that_is_not_there_is_bad_input(cluster: Path) -> None:
    with proxy(*before(cluster), "--", "/no/such/program") as running:
        code, said = ended(running)
    assert code == 2
    assert "bounceback proxy: -- /no/such/program: cannot be run: No such file or directory" in said
    assert not cluster.with_name("out.yaml").exists()


# How that ends


def group(tmp_path: Path, deaf: str, stay: str = "") -> list[str]:
    program = tmp_path / "program.py"
    program.write_text(GROUPS, encoding="utf-8")
    line = [sys.executable, str(program), "parent", deaf, str(tmp_path), str(program)]
    return ["--", "sh", "-c", f'"$@" & {stay}', "sh", *line]


def begun(tmp_path: Path) -> list[int]:
    """The ids of both."""
    files = [tmp_path / f"{word}-begun" for word in ("parent", "child")]
    until(lambda: all(file.exists() for file in files), "both have begun")
    return [int(file.read_text(encoding="utf-8")) for file in files]


def test_all_that_a_command_began_is_asked_to_end(cluster: Path, tmp_path: Path) -> None:
    """Also where what was begun first, a shell, ends at once; each may end as it likes."""
    with proxy(*before(cluster), *group(tmp_path, "listening", "wait")) as running:
        numbers = begun(tmp_path)
        running.process.send_signal(signal.SIGTERM)
        code, said = ended(running)
    assert code == 0, said
    assert {path.name for path in tmp_path.glob("*-ended")} == {"parent-ended", "child-ended"}
    assert not any(map(is_there, numbers))


def test_who_does_not_listen_is_killed(cluster: Path, tmp_path: Path) -> None:
    with proxy(*before(cluster), *group(tmp_path, "deaf", "wait")) as running:
        numbers = begun(tmp_path)
        running.process.send_signal(signal.SIGINT)
        code, said = ended(running, 30)
    assert code == 0, said
    assert not any(map(is_there, numbers))


def test_a_command_does_not_outlive_a_proxy_that_is_killed(cluster: Path, tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text(GROUPS, encoding="utf-8")
    command = [sys.executable, str(tmp_path / "one.py"), "alone", "listening", str(tmp_path)]
    with proxy(*before(cluster), "--", *command) as running:
        file = tmp_path / "alone-begun"
        until(file.exists, "it has begun")
        running.process.kill()
        until(lambda: not is_there(int(file.read_text(encoding="utf-8"))), "it has ended")
    assert (tmp_path / "alone-ended").exists(), "it was asked to"


def test_who_asks_twice_is_not_made_to_wait(cluster: Path, tmp_path: Path) -> None:
    with proxy(*before(cluster), *group(tmp_path, "deaf", "trap '' TERM; wait")) as running:
        numbers = begun(tmp_path)
        began = time.monotonic()
        running.process.send_signal(signal.SIGINT)
        running.process.send_signal(signal.SIGTERM)
        code, said = ended(running)
    assert code == 0, said
    assert time.monotonic() - began < 9
    assert not any(map(is_there, numbers))


def test_what_a_command_leaves_behind_ends_with_it(cluster: Path, tmp_path: Path) -> None:
    wait = f"until [ -e {tmp_path}/child-begun -a -e {tmp_path}/parent-begun ]; do sleep 0.05; done; exit 3"
    with proxy(*before(cluster), *group(tmp_path, "listening", wait)) as running:
        numbers = begun(tmp_path)
        code, said = ended(running)
    assert code == 3, said
    assert not any(map(is_there, numbers))


# Crashes


def test_a_crash_kills_the_command_and_begins_it_again(cluster: Path, tmp_path: Path) -> None:
    """At its second write, with all that it began; what comes after the second start is not hit."""
    crash = {"name": "crash", "apiFault": {"crash": {}, "requests": [WRITES]}, "nth": 2, "firstN": 1}
    program = f'echo "begun $$"; sleep 600 & echo $! >> {tmp_path}/beside; exec "$@"'
    line = ["sh", "-c", program, "sh", sys.executable, "-c", ASKING, "POST", "POST", "GET"]
    asked = faults(tmp_path, crash, clientBehavior={"maxHotLoops": 0})
    with proxy(*before(cluster), *asked, "-o", "json", "--", *line) as running:
        code, said = ended(running)
    assert code == 0, said
    assert said.count("begun ") == 2
    counted = next(json.loads(row) for row in said.splitlines() if row.startswith("{"))["cluster"]
    assert counted["rules"]["crash"]["hits"] == 1
    assert counted["requests"] == 2 + 3
    assert not any(is_there(int(number)) for number in (tmp_path / "beside").read_text().split())


def test_crash_at_every_write_goes_on_until_it_is_ended(cluster: Path, tmp_path: Path) -> None:
    crash = {"name": "crash", "apiFault": {"crash": {"when": "Before"}, "requests": [WRITES]}}
    asked = faults(tmp_path, crash, clientBehavior={"maxHotLoops": 0})
    with proxy(*before(cluster), *asked, "--for", "10", *asking("POST")) as running:
        code, said = ended(running)
    assert code == 0, said


# The verdict


def test_verdicts_end_with_their_own_codes(cluster: Path, tmp_path: Path) -> None:
    busy = {"answer": {"code": 429, "retryAfterSeconds": 5}, "requests": [WRITES]}
    asked = faults(tmp_path, {"name": "busy", "apiFault": busy}, clientBehavior={"honorsRetryAfter": True})
    found = {}
    for methods in (["POST", "POST"], ["POST"], ["GET"]):
        with proxy(*before(cluster), *asked, *asking(*methods)) as running:
            found[len(methods), methods[0]] = ended(running)
    assert [code for code, _ in found.values()] == [1, 3, 3]
    assert "  Failed       honorsRetryAfter: told to wait 2 times: 0 honored, 1 ignored" in found[2, "POST"][1]
    assert "no occasion: told to wait 1 times: 0 honored, 0 ignored" in found[1, "POST"][1]
    assert "fault busy hit nothing; 0 requests" in found[1, "GET"][1]


# Refused

OUT = ["--write-kubeconfig", "{folder}/out.yaml"]
IN = ["--kubeconfig", "{folder}/in.yaml"]


@pytest.mark.parametrize(
    ("words", "file", "message"),
    [
        (OUT, {"faults": [{"name": "f", "apiFault": {"crash": {}}}]}, "crash: must be with -- COMMAND"),
        ([], {"clientBehavior": {"maxHotLoops": 0}}, "clientBehavior: must be with --write-kubeconfig"),
        ([], {"faults": [{"name": "f", "apiFault": {"cut": {}}}]}, "apiFault: must be with --write-kubeconfig"),
        (
            ["--listen", "127.0.0.1:0", "--upstream", "127.0.0.1:1"],
            {"faults": [{"name": "f", "authFault": {"tokenInvalid": {}}}]},
            "authFault: must be with --write-kubeconfig",
        ),
        (OUT, {"clientBehavior": {}}, "clientBehavior: must have at least one of honorsRetryAfter"),
        (IN, None, "--kubeconfig and --context must have --write-kubeconfig"),
        (["--context", "x"], None, "--kubeconfig and --context must have --write-kubeconfig"),
        ([*OUT, "--api-listen", "0.0.0.0:0"], None, "--api-listen 0.0.0.0:0: must be a loopback address"),
        ([*OUT, "--api-listen", "nowhere"], None, "--api-listen nowhere: must be HOST:PORT"),
        ([*IN, "--write-kubeconfig", "{folder}/in.yaml"], None, "must be another file than the one that is read"),
        ([*IN, "--write-kubeconfig", "{folder}/../{name}/in.yaml"], None, "must be another file"),
        (["--write-kubeconfig", "{folder}/in.yaml"], None, "must be another file than the one that is read"),
        (["--write-kubeconfig", "{folder}/no/out.yaml"], None, "out.yaml: cannot be written: No such file"),
        ([*IN, *OUT, "--context", "y"], None, "context 'y' is not in the kubeconfig; --context must be one of x"),
        (["--listen", "127.0.0.1:0", "--upstream", "h:1", "--", "true"], None, "-- COMMAND must be with --write-kube"),
        ([*OUT, "--for", "0", "--", "true"], None, "--for must be above 0"),
    ],
)
def test_what_cannot_be_is_refused_with_2(
    cluster: Path, tmp_path: Path, words: list[str], file: Json | None, message: str
) -> None:
    """KUBECONFIG is what is read where no --kubeconfig is given."""
    line = [word.format(folder=tmp_path, name=tmp_path.name) for word in words]
    if file is not None:
        path = tmp_path / "faults.yaml"
        path.write_text(yaml.safe_dump(file), encoding="utf-8")
        line = [*line[: line.index("--")], "--fault", str(path)] if "--" in line else [*line, "--fault", str(path)]
    whole = cluster.read_text(encoding="utf-8")
    with proxy(*line, KUBECONFIG=str(cluster)) as running:
        code, said = ended(running)
    assert (code, message in said) == (2, True), said
    assert "bounceback proxy: " in said
    assert cluster.read_text(encoding="utf-8") == whole
    assert not (tmp_path / "out.yaml").exists()


def test_only_its_owner_may_read_the_kubeconfig(cluster: Path) -> None:
    with proxy(*before(cluster)) as running:
        out = running.said("export KUBECONFIG=").rpartition("=")[2]
        assert Path(out).stat().st_mode & 0o777 == 0o600
