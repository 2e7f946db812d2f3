"""`bounceback proxy` with faults on names and certificates, as real clients meet them."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import dns.exception
import dns.message
import dns.query
import dns.rcode
import pytest
import yaml
from cryptography.hazmat.primitives import serialization

from bounceback.proxy.certificates import Authority
from tests.relay.command import Api, Json, Proxy, Server, fields, proxy, round_trip, until
from tests.relay.conftest import PATIENCE
from tests.relay.name_server import name_server
from tests.relay.tls_place import HOST, NAME, PEM, Place, run, talk, tls_place

SILENCE = 0.4


@pytest.fixture(scope="module")
def true_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with name_server(tmp_path_factory.mktemp("dns")) as port:
        yield port


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    """A true TLS server; its own relay stays unused."""
    async with tls_place(tmp_path) as made:
        yield made


def written(path: Path, listeners: list[Json], *faults: Json) -> None:
    path.write_text(yaml.safe_dump({"listeners": listeners, "faults": list(faults)}), encoding="utf-8")


def resolver(port: int, name: str = "dns") -> Json:
    return {"name": name, "listen": "localhost:0", "upstream": f"{HOST}:{port}", "protocol": "DNS"}


def ask(running: Proxy, name: str, *, tcp: bool = False, listener: str = "dns", wait: float = PATIENCE) -> str:
    """The answer's addresses, or what it says instead of them."""
    here = running.said(f"{listener}: ").partition(": ")[2].partition(" -> ")[0].rpartition(":")
    query = dns.query.tcp if tcp else dns.query.udp
    answer = query(dns.message.make_query(name, "A"), here[0].strip("[]"), wait, int(here[2]))
    found = [record.to_text() for rrset in answer.answer for record in rrset]
    return " ".join(found) or dns.rcode.to_text(answer.rcode())


# Names


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
def test_names_are_answered_as_the_file_says_and_edits_are_taken_up(
    true_server: int, tmp_path: Path, tcp: bool
) -> None:
    file, listeners = tmp_path / "faults.yaml", [resolver(true_server)]
    gone = {"name": "gone", "dnsFault": {"answer": "NxDomain", "names": ["db.*"]}, "nth": 2}
    written(file, listeners, gone)
    with proxy("--fault", str(file), "-o", "json") as running:
        assert [ask(running, "db.shop.test", tcp=tcp) for _ in range(4)] == ["10.0.0.7", "NXDOMAIN"] * 2
        assert ask(running, "front.edge.shop.test", tcp=tcp) == "10.0.0.8"
        wrong = {"name": "wrong", "dnsFault": {"answer": "WrongAddress", "addresses": ["192.0.2.1"]}, "firstN": 1}
        written(file, listeners, wrong)
        running.said("taken up: 1 faults")
        assert [ask(running, "db.shop.test", tcp=tcp) for _ in range(2)] == ["192.0.2.1", "10.0.0.7"]
        written(file, listeners, {"name": "silent", "dnsFault": {"answer": "Timeout"}})
        until(lambda: sum("taken up: 1 faults" in line for line in running.lines) == 2, "taken up again")
        with pytest.raises(dns.exception.Timeout):
            ask(running, "db.shop.test", tcp=tcp, wait=SILENCE)
        written(file, listeners)
        running.said("taken up: 0 faults")
        assert ask(running, "db.shop.test", tcp=tcp) == "10.0.0.7"
        counted = json.loads(running.end())
    assert counted["rules"] == [
        {"name": "gone", "seen": 4, "hits": 2},
        {"name": "wrong", "seen": 2, "hits": 1},
        {"name": "silent", "seen": 1, "hits": 1},
    ]
    (listener,) = counted["listeners"]
    assert (listener["queries"], listener["answered"], listener["swallowed"], listener["lost"]) == (9, 3, 1, 0)


def test_a_choice_is_made_among_the_queries_of_all_listeners_and_the_same_again(
    true_server: int, tmp_path: Path
) -> None:
    def told() -> list[str]:
        file, fault = tmp_path / "faults.yaml", {"name": "dice", "dnsFault": {"answer": "ServFail"}}
        both = [resolver(true_server, "a"), resolver(true_server, "b")]
        written(file, both, {**fault, "probability": 50, "seed": 3, "firstN": 4})
        with proxy("--fault", str(file)) as running:
            return [ask(running, "db.shop.test", listener=name) for name in "ab" * 8]

    first = told()
    assert first == told()
    assert first.count("SERVFAIL") == 4


def test_a_fault_for_one_listener_leaves_the_others_and_the_table_tells_of_it(true_server: int, tmp_path: Path) -> None:
    file = tmp_path / "faults.yaml"
    fault = {"name": "gone", "listener": "a", "dnsFault": {"answer": "NxDomain"}}
    written(file, [resolver(true_server, "a"), resolver(true_server, "b")], fault)
    with proxy("--fault", str(file)) as running:
        assert ask(running, "db.shop.test", listener="a") == "NXDOMAIN"
        assert ask(running, "db.shop.test", listener="b") == "10.0.0.7"
        lines = [line.split() for line in running.end().splitlines()]
    assert ["gone", "1", "1"] in lines
    assert ["a", "1", "0", "1", "0", "0", "0"] in lines
    assert ["b", "1", "1", "0", "0", "0", "0"] in lines


def test_names_by_the_control_api(true_server: int, tmp_path: Path) -> None:
    pair = ["--listen", "dns=127.0.0.1:0/dns", "--upstream", f"{HOST}:{true_server}"]
    with proxy(*pair, "--control", "127.0.0.1:0") as running:
        api = Api(running)
        assert api.ask("PUT", "/faults/gone", {"dnsFault": {"answer": "NxDomain"}})[0] == 201
        assert ask(running, "db.shop.test") == "NXDOMAIN"
        listing = api.ask("GET", "/faults")[1]
        assert [(fault["name"], fault["inForce"]) for fault in listing["faults"]] == [("gone", True)]
        assert listing["listeners"][0]["protocol"] == "DNS"
        assert api.ask("GET", "/counters")[1]["rules"] == [{"name": "gone", "seen": 1, "hits": 1}]
        assert api.ask("DELETE", "/faults/gone")[0] == 204
        assert ask(running, "db.shop.test") == "10.0.0.7"
        for body in ({"networkDelay": {"delayMilliseconds": 5}}, {"tlsFault": {"answer": "Expired"}}):
            status, answer = api.ask("PUT", "/faults/wrong", body)
            assert (status, fields(answer)) == (400, list(body))


def test_at_the_end_late_answers_still_come(true_server: int, tmp_path: Path) -> None:
    file = tmp_path / "faults.yaml"
    late = {"answer": "Delay", "delayMilliseconds": 2000, "names": ["db.*"]}
    written(file, [resolver(true_server)], {"name": "late", "dnsFault": late})
    with proxy("--fault", str(file), "--drain-seconds", "20") as running:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(PATIENCE)
            there = (HOST, running.port("dns"))
            client.sendto(query := dns.message.make_query("db.shop.test", "A").to_wire(), there)
            assert ask(running, "front.edge.shop.test") == "10.0.0.8"  # which was sent later: the first has come
            running.process.terminate()
            assert client.recv(65535)[:2] == query[:2]
        running.process.wait(PATIENCE)
        assert not any("had no end" in line for line in running.lines)


# Certificates


def key_file(path: Path, authority: Authority) -> str:
    encoding = (PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(authority.key.private_bytes(*encoding))
    return path.name


def listener_of(place: Place, name: str = "web") -> Json:
    return {"name": name, "listen": f"{HOST}:0", "upstream": f"{HOST}:{place.true_port}"}


async def talked(running: Proxy, place: Place, **client: Any) -> bytes:
    got = await asyncio.to_thread(talk, running.port("web"), place.client(**client), NAME)
    return got.answer


async def test_a_certificate_is_expired_and_nothing_else_and_edits_are_taken_up(place: Place) -> None:
    key_file(place.folder / "ca.key", place.ca)
    file, listeners = place.folder / "faults.yaml", [listener_of(place)]
    authority = {"certificateFile": "ca.pem", "keyFile": "ca.key"}
    old = {"name": "old", "tlsFault": {"answer": "Expired", "names": ["*.shop.test"], "authority": authority}}
    written(file, listeners, {**old, "nth": 2})
    with proxy("--fault", str(file), "-o", "json") as running:
        assert (await talked(running, place)).endswith(b"yes")
        with pytest.raises(ssl.SSLCertVerificationError) as refused:
            await talked(running, place)
        assert refused.value.verify_code == 10  # has expired
        assert (await talked(running, place)).endswith(b"yes")
        written(file, listeners, {"name": "other", "tlsFault": {"answer": "WrongHost", "authority": authority}})
        running.said("taken up: 1 faults")
        verify = ["-CAfile", place.ca_file, "-verify_return_error", "-verify_hostname", NAME, "-servername", NAME]
        _, said = await run("openssl", "s_client", "-connect", f"{HOST}:{running.port('web')}", *verify)
        assert "num=62:" in said  # hostname mismatch
        written(file, listeners, {"name": "nobody", "tlsFault": {"answer": "Expired"}})
        until(lambda: sum("taken up: 1 faults" in line for line in running.lines) == 2, "taken up again")
        with pytest.raises(ssl.SSLCertVerificationError) as refused:
            await talked(running, place)
        assert refused.value.verify_code == 20  # who signed it is not known
        assert await talked(running, place, verify=False) == b""
        written(file, listeners)
        running.said("taken up: 0 faults")
        assert (await talked(running, place)).endswith(b"yes")
        rules = {rule["name"]: rule for rule in json.loads(running.end())["rules"]}
    assert (rules["old"]["seen"], rules["old"]["hits"], rules["old"]["alerts"]) == (3, 1, {"certificate_expired": 1})
    assert rules["other"]["alerts"] == {"bad_certificate": 1}
    assert (rules["nobody"]["alerts"], rules["nobody"]["accepted"]) == ({"unknown_ca": 1}, 1)


async def test_it_composes_with_faults_on_what_flows(place: Place) -> None:
    """Who is not shown a bad certificate is for the others: here every second one, and it waits."""
    file = place.folder / "faults.yaml"
    cut = {"name": "cut", "tlsFault": {"answer": "HandshakeCut", "cutBy": "Close"}, "nth": 2}
    slow = {"name": "slow", "networkDelay": {"delayMilliseconds": 150}}
    written(file, [listener_of(place)], cut, slow)
    loop = asyncio.get_running_loop()
    with proxy("--fault", str(file), "-o", "json") as running:
        for number in range(4):
            began = loop.time()
            if number % 2:
                with pytest.raises((ssl.SSLError, OSError)):
                    await talked(running, place)
            else:
                assert (await talked(running, place)).endswith(b"yes")
                assert loop.time() - began >= 0.3  # at least its hello, and what follows the server's
        rules = {rule["name"]: rule for rule in json.loads(running.end())["rules"]}
    assert (rules["cut"]["seen"], rules["cut"]["hits"]) == (4, 2)
    assert rules["slow"]["connections"] == 2


async def test_who_is_looked_at_meets_a_change_of_the_others(place: Place) -> None:
    """A client that has not said all of its hello yet, when a reset comes into force, is reset once it has."""
    file, listeners = place.folder / "faults.yaml", [listener_of(place)]
    other = {"name": "other", "tlsFault": {"answer": "Expired", "names": ["another.test"]}}
    written(file, listeners, other)
    with proxy("--fault", str(file)) as running, running.client("web") as client:
        client.sendall(b"\x16\x03\x01")
        await asyncio.sleep(0.2)
        written(file, listeners, other, {"name": "cut", "connectionReset": {}})
        running.said("taken up: 2 faults")
        with pytest.raises(ConnectionError):  # the rest may come when it is reset already
            client.sendall(b"\x00\x05hello")
            while await asyncio.to_thread(client.recv, 100):
                pass


def test_what_is_no_tls_passes(tmp_path: Path) -> None:
    server, file = Server(), tmp_path / "faults.yaml"
    here = {"name": "db", "listen": f"{HOST}:0", "upstream": f"{HOST}:{server.port}"}
    written(file, [here], {"name": "old", "tlsFault": {"answer": "Expired"}})
    with proxy("--fault", str(file), "-o", "json") as running, running.client() as client:
        round_trip(client)
        assert json.loads(running.end())["rules"][0]["hits"] == 0
    server.close()


async def test_authorities_that_are_none_are_named_and_what_was_in_force_stays(place: Place) -> None:
    key_file(place.folder / "ca.key", place.ca)
    key_file(place.folder / "other.key", Authority.made("other"))
    (place.folder / "empty").touch()
    file = place.folder / "faults.yaml"

    def use(certificate: str, key: str) -> None:
        authority = {"certificateFile": certificate, "keyFile": key}
        fault = {"name": "old", "tlsFault": {"answer": "Expired", "authority": authority}}
        written(file, [listener_of(place)], fault)

    use("none.pem", "ca.key")
    with proxy("--fault", str(file)) as running:
        assert running.process.wait(PATIENCE) == 2
        assert "certificateFile: must be a file that can be read" in running.said("faults[0].tlsFault.authority")
    use("ca.pem", "ca.key")
    with proxy("--fault", str(file), "--control", f"{HOST}:0") as running:
        running.port("web")
        for certificate, key, message in (
            ("empty", "ca.key", "authority.certificateFile: the authority's certificate must be one in PEM"),
            ("server.pem", "server.pem", "authority.certificateFile: the authority's certificate must be one that may"),
            ("ca.pem", "other.key", "authority.keyFile: the authority's key does not belong"),
            ("ca.pem", "empty", "authority.keyFile: the authority's key must be one in PEM"),
        ):
            use(certificate, key)
            assert f"{file}:" in running.said(message)
        with pytest.raises(ssl.SSLCertVerificationError) as refused:
            await talked(running, place)
        assert refused.value.verify_code == 10
        authority = {"certificateFile": "ca.pem", "keyFile": "ca.key"}
        body = {"tlsFault": {"answer": "Expired", "authority": authority}}
        status, answer = Api(running).ask("PUT", "/faults/mine", body)
        assert (status, fields(answer)) == (400, ["tlsFault.authority"])
