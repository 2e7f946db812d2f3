"""`bounceback proxy` as its users run it: the file and its edits, the control API, the end."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.relay.command import Api, Server, delay, fields, proxy, refused, round_trip, until, write
from tests.relay.conftest import PATIENCE


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


def test_edits_are_taken_up_on_live_connections_and_wrong_ones_are_told(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "faults.yaml"
    write(file)
    pair = ["--listen", "db=127.0.0.1:0", "--upstream", f"127.0.0.1:{server.port}"]
    with proxy(*pair, "--fault", str(file), "-o", "json") as running, running.client() as client:
        round_trip(client)
        write(file, delay(400, name="slow"))
        running.said("taken up: 1 faults")
        assert round_trip(client) >= 0.4
        file.write_text("faults:\n- name: slow\n  networkDelay: {delayMilliseconds: soon}\n", encoding="utf-8")
        wrong = running.said("delayMilliseconds")
        assert wrong == (
            f"{file}:3:18: faults[0].networkDelay.delayMilliseconds: must be a whole number from 1 to 60000; "
            'found "soon"'
        )
        assert round_trip(client) >= 0.4
        file.write_text("faults: [", encoding="utf-8")
        running.said("not YAML")
        file.write_text("", encoding="utf-8")
        running.said("it is empty")
        file.unlink()
        running.said("cannot be read")
        assert round_trip(client) >= 0.4
        write(file)
        running.said("taken up: 0 faults")
        round_trip(client)
        counted = json.loads(running.end())
        assert running.process.returncode == 0
        assert counted["rules"] == [{"name": "slow", "hits": 3, "bytes": 12, "connections": 1}]
        assert counted["listeners"][0]["bytesEgress"] == 4 * 5
        assert "1 connections were reset" in running.lines[-1]
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def test_listeners_of_the_file_and_faults_for_one_of_them(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "faults.yaml"
    here = {"listen": "127.0.0.1:0", "upstream": f"localhost:{server.port}"}
    faults = [{"name": "gone", "listener": "b", "connectionRefusal": {}}]
    file.write_text(
        yaml.safe_dump({"listeners": [{"name": "a", **here}, {"name": "b", **here}], "faults": faults}),
        encoding="utf-8",
    )
    with proxy("--fault", str(file)) as running:
        with running.client("a") as client:
            round_trip(client)
        with pytest.raises(ConnectionRefusedError):
            running.client("b")
        file.write_text(yaml.safe_dump({"listeners": [{"name": "a", **here}]}), encoding="utf-8")
        running.said("listeners: must stay as they were")
        table = running.end(signal.SIGTERM)
    assert table.splitlines()[0].split()[:2] == ["LISTENER", "ACCEPTED"]
    assert table.splitlines()[1].split()[:2] == ["a", "1"]


def test_datagrams_pass(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(PATIENCE)
        pair = ["--listen", "dns=127.0.0.1:0/udp", "--upstream", f"127.0.0.1:{server.getsockname()[1]}"]
        with proxy(*pair) as running, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(PATIENCE)
            client.sendto(b"question", ("127.0.0.1", running.port("dns")))
            data, sender = server.recvfrom(100)
            server.sendto(b"answer to " + data, sender)
            assert client.recv(100) == b"answer to question"


def test_who_is_there_has_time_to_go(server: Server) -> None:
    pair = ["--listen", "db=127.0.0.1:0", "--upstream", f"127.0.0.1:{server.port}"]
    with proxy(*pair, "--drain-seconds", "60") as running, running.client() as client:
        round_trip(client)
        running.process.send_signal(signal.SIGINT)
        until(lambda: refused(running.port("db")), "nobody is taken any more")
        round_trip(client)
        client.close()
        running.process.wait(PATIENCE)
        assert not any("were reset" in line for line in running.lines)


# The control API


def test_faults_are_listed_added_changed_and_removed(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "faults.yaml"
    write(file, delay(1, name="mine"))
    pair = ["--listen", "db=127.0.0.1:0", "--upstream", f"127.0.0.1:{server.port}", "--fault", str(file)]
    with proxy(*pair, "--control", "127.0.0.1:0") as running, running.client() as client:
        api = Api(running)
        round_trip(client)
        status, listing = api.ask("PUT", "/faults/late", delay(300))
        assert (status, [f["name"] for f in listing["faults"]]) == (201, ["mine", "late"])
        assert [f["source"] for f in listing["faults"]] == ["file", "api"]
        assert listing["listeners"][0]["port"] == running.port("db")
        assert round_trip(client) >= 0.3
        assert api.ask("PUT", "/faults/late", delay(600))[0] == 200
        assert round_trip(client) >= 0.6
        assert api.ask("DELETE", "/faults/late")[0] == 204
        assert api.ask("GET", "/faults")[1]["faults"][0]["networkDelay"]["delayMilliseconds"] == 1
        rules = {rule["name"]: rule for rule in api.ask("GET", "/counters")[1]["rules"]}
        assert rules["late"]["hits"] == 2
        for method, path, body, status, wrong in (
            ("PUT", "/faults/late", delay(0), 400, ["networkDelay.delayMilliseconds"]),
            ("PUT", "/faults/late", {"name": "x", **delay(1)}, 400, ["name"]),
            ("PUT", "/faults/La-te", delay(1), 400, ["name"]),
            ("PUT", "/faults/late", "{", 400, [""]),
            ("PUT", "/faults/late", "[]", 400, [""]),
            ("PUT", "/faults/mine", delay(1), 409, ["name"]),
            ("DELETE", "/faults/mine", None, 409, ["name"]),
            ("DELETE", "/faults/late", None, 404, ["name"]),
            ("GET", "/nothing", None, 404, [""]),
            ("POST", "/faults", None, 405, [""]),
        ):
            found, answer = api.ask(method, path, body)
            assert (found, fields(answer)) == (status, wrong), (method, path, body, answer)
        write(file, delay(1, name="theirs"))
        running.said("taken up")
        assert api.ask("PUT", "/faults/theirs2", delay(1))[0] == 201
        write(file, delay(1, name="theirs2"))
        running.said("must not be that of a fault made by the control API")


def test_who_is_not_on_loopback_needs_a_token(server: Server, tmp_path: Path) -> None:
    pair = ["--listen", "db=127.0.0.1:0", "--upstream", f"127.0.0.1:{server.port}"]
    with proxy(*pair, "--control", "0.0.0.0:0") as running:
        assert running.process.wait(PATIENCE) == 2
        assert "must have a token" in running.said("--control")
    token = tmp_path / "token"
    token.write_text("secret words\n", encoding="utf-8")
    with proxy(*pair, "--control", "0.0.0.0:0", "--token-file", str(token)) as running:
        api = Api(running)
        assert api.ask("GET", "/faults")[0] == 401
        assert api.ask("GET", "/faults", Authorization="Bearer secret")[0] == 401
        assert api.ask("PUT", "/faults/x", delay(1), Authorization="Basic secret words")[0] == 401
        assert api.ask("GET", "/faults", Authorization="Bearer secret words")[0] == 200
    with proxy(*pair, "--control", "127.0.0.1:0", BOUNCEBACK_PROXY_TOKEN="other") as running:
        assert Api(running).ask("GET", "/faults")[0] == 401


def test_a_page_with_a_name_of_its_own_for_loopback_gets_nothing(server: Server) -> None:
    pair = ["--listen", "db=127.0.0.1:0", "--upstream", f"127.0.0.1:{server.port}"]
    with proxy(*pair, "--control", "127.0.0.1:0") as running:
        api = Api(running)
        assert api.ask("GET", "/faults", Host="evil.example:1234")[0] == 403
        assert api.ask("DELETE", "/faults/x", Host="evil.example")[0] == 403
        assert api.ask("GET", "/faults", Host="localhost")[0] == 200


# Bad input


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "must have --listen and --upstream, a --fault file with listeners, or --write-kubeconfig"),
        (["--listen", "127.0.0.1:0"], "each --listen must have an --upstream: 1 and 0 are given"),
        (["--listen", "127.0.0.1", "--upstream", "h:1"], "--listen 127.0.0.1: must be HOST:PORT"),
        (["--listen", "127.0.0.1:0", "--upstream", "h"], "--upstream h: must be HOST:PORT"),
        (["--listen", "127.0.0.1:0/sctp", "--upstream", "h:1"], "must be one of TCP, UDP"),
        (["--listen", "DB=127.0.0.1:0", "--upstream", "h:1"], "lower-case letters"),
        (
            ["--listen", "127.0.0.1:0", "--upstream", "no-such-host.invalid:1"],
            "upstream no-such-host.invalid:1: must be a host that resolves",
        ),
        (["--listen", "192.0.2.1:0", "--upstream", "127.0.0.1:1"], "listen 192.0.2.1:0: cannot be listened on"),
        (["--fault", "/no/such/file.yaml"], "/no/such/file.yaml:1:1: cannot be read"),
        (["--listen", "127.0.0.1:0", "--upstream", "127.0.0.1:1", "--drain-seconds", "-1"], "must be 0 or more"),
        (
            ["--listen", "127.0.0.1:0", "--upstream", "127.0.0.1:1", "--control", "nowhere"],
            "--control nowhere: must be",
        ),
    ],
)
def test_bad_input_is_named_and_ends_with_2(words: list[str], message: str) -> None:
    with proxy(*words) as running:
        assert running.process.wait(PATIENCE) == 2
        running._reading.join(PATIENCE)
        assert message in "\n".join(running.lines)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- name: x\n", "1:1: must be a mapping with faults, listeners, or both"),
        ("faults: []\n", "listeners: must name one where no --listen is given"),
        ("faults: []\n---\nfaults: []\n", "must be one document; found 2"),
        (
            "faults:\n- name: x\n  networkDelai: {}\n",
            "3:3: faults[0].networkDelai: there is no such field; did you mean",
        ),
    ],
)
def test_a_bad_file_is_named_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "faults.yaml"
    file.write_text(text, encoding="utf-8")
    with proxy("--fault", str(file)) as running:
        assert running.process.wait(PATIENCE) == 2
        running._reading.join(PATIENCE)
        assert message in "\n".join(running.lines)
