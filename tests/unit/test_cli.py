"""The command line itself: quick, documented, honest about what it cannot reach."""

from __future__ import annotations

import argparse
import base64
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import yaml

from bounceback.cli import kubeconfig
from bounceback.cli.cluster import RefusedError
from bounceback.cli.exits import UNREAD, CommandError, gravest
from bounceback.cli.linting import lint
from bounceback.cli.main import COMMANDS, main, parser_for
from bounceback.cli.run import _path, _pointed
from bounceback.cli.status import table
from tests.spec_case import CHECK, EXPERIMENT, Json

MANUAL = Path(__file__).parents[2] / "docs" / "cli.md"


def options_of(command: str) -> Iterator[str]:
    parser = parser_for(command)
    commands = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    for action in commands.choices[command]._actions:
        if action.help != argparse.SUPPRESS:
            yield from (option for option in action.option_strings if option.startswith("--"))


@pytest.mark.parametrize("command", COMMANDS)
def test_the_manual_knows_every_command_and_option(command: str) -> None:
    text = MANUAL.read_text(encoding="utf-8")
    assert f"## bounceback {command}" in text
    everywhere = {"--help", "--kubeconfig", "--context", "--namespace", "--output"}
    for option in set(options_of(command)) - everywhere:
        assert option in text, option


@pytest.mark.parametrize("command", sorted(set(COMMANDS) - {"operator", "drain"}))
def test_no_command_loads_the_operators_libraries(command: str) -> None:
    if command in ("plan", "access"):  # load what the vehicles decide by only when they run
        words = [command, "--help"]
    else:
        words = {"version": ["version"], "lint": ["lint", __file__]}.get(command, [command, "--help"])
    assert loaded(words, {"kopf", "kubernetes", "aiohttp"}) == ""


def test_rights_are_printed_without_the_client_that_takes_longest_to_load() -> None:
    assert loaded(["access", "shop"], {"kopf", "kubernetes"}) == ""


def loaded(words: list[str], libraries: set[str]) -> str:
    """Those of the libraries that the command has loaded by its end."""
    program = (
        "import sys, contextlib\n"
        "from bounceback.cli.main import main\n"
        f"with contextlib.suppress(SystemExit): main({words!r})\n"
        f"print(*({libraries!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    ("codes", "code"), [([], 0), ([0, 0], 0), ([0, 3], 3), ([4, 3], 4), ([5, 4], 5), ([1, 5], 1), ([1, 130], 130)]
)
def test_the_gravest_code_counts(codes: list[int], code: int) -> None:
    assert gravest(codes) == code


def test_a_reader_that_goes_away_is_no_defect(tmp_path: Path) -> None:
    """`bounceback lint FILE | head -1`"""
    (tmp_path / "empty.yaml").write_text("")
    reading, writing = os.pipe()
    os.close(reading)
    program = f"from bounceback.cli.main import main; exit(main(['lint', {str(tmp_path)!r}]))"
    done = subprocess.run([sys.executable, "-c", program], stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (done.returncode, done.stderr) == (UNREAD, "")


def test_an_unknown_command_is_bad_input(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["brake"])
    assert left.value.code == 2
    assert "invalid choice: 'brake'" in capsys.readouterr().err


def test_a_field_of_the_api_server_is_a_path() -> None:
    assert _path("spec.faults[0].target") == ("spec", "faults", 0, "target")
    assert _path("metadata.labels[a]") == ("metadata", "labels", "a")


def test_what_the_api_server_refuses_is_shown_at_its_line(given: Path) -> None:
    """A rule that only a newer API server knows, say."""
    [(experiment, _)] = lint([str(given)]).experiments
    causes = [{"reason": "FieldValueInvalid", "field": "spec.faults[0].target", "message": "must be of this world"}]
    error = RefusedError("refused", 422, {"reason": "Invalid", "message": "no", "details": {"causes": causes}})
    place = experiment.document.place(("spec", "faults", 0, "target"))
    assert place.line > 1
    assert _pointed(experiment, error) == (
        f"the API server refuses FaultExperiment web-healthy:\n  {place}: spec.faults[0].target: must be of this world"
    )


def test_a_table_is_as_wide_as_it_must_be() -> None:
    assert table([("A", "LONG"), ("wide", "b")]) == ["A      LONG", "wide   b"]


class Answering(BaseHTTPRequestHandler):
    """An API server that knows nothing of us."""

    status = 404
    body = b"404 page not found\n"

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(self.body)

    do_POST = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@pytest.fixture
def server() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Answering) as listening:
        thread = threading.Thread(target=listening.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{listening.server_port}"
        listening.shutdown()
        thread.join()


def config(server: str, user: Json | None = None) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": user or {"token": "t"}}],
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u", "namespace": "shop"}}],
        "current-context": "here",
    }


@pytest.fixture
def given(tmp_path: Path) -> Path:
    file = tmp_path / "given.yaml"
    objects = [
        {"apiVersion": "bounceback.dev/v1alpha1", "kind": kind, "metadata": {"name": "web-healthy"}, "spec": spec}
        for kind, spec in (("RecoveryCheck", CHECK), ("FaultExperiment", EXPERIMENT))
    ]
    file.write_text(yaml.safe_dump_all(objects))
    assert not lint([str(file)]).remarks
    return file


def test_a_cluster_without_our_resources_is_told_how_to_get_them(
    server: str, given: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "config"
    path.write_text(yaml.safe_dump(config(server)))
    for words in (["run", str(given), "--wait"], ["status"], ["cancel", "web"], ["report", "web"]):
        assert main([words[0], "--kubeconfig", str(path), *words[1:]]) == 2
        told = capsys.readouterr().err
        assert "the cluster does not know bounceback.dev/v1alpha1: Bounceback is not installed there" in told
        assert "helm" in told


def test_a_cluster_that_does_not_answer_is_an_error(
    given: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "config"
    path.write_text(yaml.safe_dump(config("http://127.0.0.1:1")))
    assert main(["run", "--kubeconfig", str(path), str(given)]) == 5
    assert "http://127.0.0.1:1 cannot be reached" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["run"], "several experiments run one after another"),
        (["run", "--wait", "--keep"], "--keep says what happens after --timeout"),
        (["run", "--parallel", "--timeout", "3"], "--timeout is about waiting"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    words: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [
        {
            "apiVersion": "bounceback.dev/v1alpha1",
            "kind": "FaultExperiment",
            "metadata": {"name": n},
            "spec": EXPERIMENT,
        }
        for n in ("one", "two")
    ]
    file = tmp_path / "two.yaml"
    file.write_text(yaml.safe_dump_all(runs))
    assert main([*words, str(file)]) == 2
    assert told in capsys.readouterr().err


def test_no_kubeconfig_is_told_where_one_was_looked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    assert main(["status"]) == 2
    assert f"there is no kubeconfig at {tmp_path / 'none'}; name one with --kubeconfig" in capsys.readouterr().err


def test_an_unknown_context_is_told_which_there_are(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text(yaml.safe_dump(config("https://c")))
    with pytest.raises(CommandError, match="context 'there' is not in the kubeconfig; --context must be one of here"):
        kubeconfig.load(str(path), "there")


def test_a_context_that_leads_nowhere_is_told(tmp_path: Path) -> None:
    path = tmp_path / "config"
    lost = config("https://c")
    path.write_text(yaml.safe_dump({**lost, "clusters": []}))
    with pytest.raises(CommandError, match="context here of the kubeconfig needs 'c', which is not in it"):
        kubeconfig.client(kubeconfig.load(str(path), None))
    lost["clusters"][0]["cluster"]["certificate-authority"] = "gone.crt"
    path.write_text(yaml.safe_dump(lost))
    with pytest.raises(CommandError, match=r"the kubeconfig cannot be used: .*gone\.crt' file does not exist"):
        kubeconfig.client(kubeconfig.load(str(path), None))


def test_several_kubeconfigs_are_merged_and_their_paths_are_their_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first, second = tmp_path / "a" / "config", tmp_path / "b" / "config"
    for path, name in ((first, "one"), (second, "two")):
        path.parent.mkdir()
        (path.parent / "ca.crt").write_text(name)
        document = config(f"https://{name}")
        document["clusters"] = [
            {"name": name, "cluster": {"server": f"https://{name}", "certificate-authority": "ca.crt"}}
        ]
        document["contexts"] = [{"name": name, "context": {"cluster": name, "user": "u", "namespace": name}}]
        document["current-context"] = name
        path.write_text(yaml.safe_dump(document))
    monkeypatch.setenv("KUBECONFIG", f"{first}:{tmp_path / 'absent'}:{second}")
    assert kubeconfig.load(None, None).namespace == "one"
    other = kubeconfig.load(None, "two")
    assert other.namespace == "two"
    assert Path(other.cluster["certificate-authority"].filename()).read_text() == "two"


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
def test_a_credential_plug_in_is_asked_once_while_its_answer_lasts(tmp_path: Path, version: str) -> None:
    calls = tmp_path / "calls"
    status = {
        "token": "from-plug-in",
        "expirationTimestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 600)),
    }
    answer = json.dumps(
        {"apiVersion": f"client.authentication.k8s.io/{version}", "kind": "ExecCredential", "status": status}
    )
    plugin = {
        "apiVersion": f"client.authentication.k8s.io/{version}",
        "command": "sh",
        "args": ["-c", f'test -n "$KUBERNETES_EXEC_INFO" && echo x >> {calls} && echo "$ANSWER"'],
        "env": [{"name": "ANSWER", "value": answer}],
    }
    assert _authorizations(tmp_path, {"exec": plugin}) == ["Bearer from-plug-in"] * 2
    assert calls.read_text() == "x\n"


def test_a_plug_in_that_fails_is_named_with_its_hint(tmp_path: Path) -> None:
    plugin = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": "no-such-plug-in",
        "installHint": "apt install it",
    }
    with pytest.raises(CommandError, match=r"credential plug-in no-such-plug-in failed: .* apt install it"):
        _authorizations(tmp_path, {"exec": plugin})


def test_a_token_file_is_read_anew_for_each_request(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from-file\n")
    assert _authorizations(tmp_path, {"tokenFile": "token"}) == ["Bearer from-file"] * 2


def test_tokens_and_passwords_are_pykubes_as_ever(tmp_path: Path) -> None:
    assert _authorizations(tmp_path, {"token": "plain"}) == ["Bearer plain"] * 2
    basic = base64.b64encode(b"bob:pw").decode()
    assert _authorizations(tmp_path, {"username": "bob", "password": "pw"}) == [f"Basic {basic}"] * 2


def _authorizations(tmp_path: Path, user: Json) -> list[str | None]:
    """What two requests say of who asks."""
    seen: list[str | None] = []

    class Noting(Answering):
        def do_GET(self) -> None:
            seen.append(self.headers.get("Authorization"))
            super().do_GET()

    with HTTPServer(("127.0.0.1", 0), Noting) as listening:
        thread = threading.Thread(target=listening.serve_forever, args=(0.05,))
        thread.start()
        path = tmp_path / "config"
        path.write_text(yaml.safe_dump(config(f"http://127.0.0.1:{listening.server_port}", user)))
        try:
            client = kubeconfig.client(kubeconfig.load(str(path), None))
            for _ in range(2):
                client.get(version="v1", url="pods")
        finally:
            listening.shutdown()
            thread.join()
    return seen
