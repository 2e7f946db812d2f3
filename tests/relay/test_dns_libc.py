"""What the C library's resolver, which most programs use, makes of a DNS fault."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from bounceback.types.choice import Choice
from bounceback.types.names import DnsAnswer, DnsRule
from tests.relay.name_server import coredns

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(os.geteuid() != 0, reason="changes network namespaces: needs root"),
]
PROJECT = Path(__file__).parent.parent.parent
DB = ["10.0.0.7", "fd00::7"]


def ask(folder: Path, rules: Mapping[str, DnsRule], *hosts: str, options: str = "") -> dict[str, Any]:
    """What was found for each host, and what each rule has counted: names that it is about, and hits."""
    coredns()  # in there is no network to build it
    told = json.dumps({name: rule.to_json() for name, rule in rules.items()})
    apart = ["unshare", "--net", "--mount", "--propagation", "private"]
    done = subprocess.run(
        [*apart, sys.executable, "-m", "tests.relay.libc_place", str(folder), options, told, *hosts],
        cwd=PROJECT,
        env=os.environ | {"PYTHONPATH": f"{PROJECT}/operator:{PROJECT}"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_what_no_rule_is_about_is_found(tmp_path: Path) -> None:
    rules = {"other": DnsRule(DnsAnswer.NX_DOMAIN, ("elsewhere.test",))}
    assert ask(tmp_path, rules, "db.shop.test", "db", "www.shop.test", "nobody.shop.test")["found"] == [
        DB,
        ["10.0.0.9"],
        ["10.0.0.8"],
        "EAI_NONAME",
    ]


def test_a_name_that_is_gone_and_a_server_in_trouble_are_told_apart(tmp_path: Path) -> None:
    rules = {
        "gone": DnsRule(DnsAnswer.NX_DOMAIN, ("db.shop.test*",)),
        "trouble": DnsRule(DnsAnswer.SERV_FAIL, ("www.shop.test*",)),
    }
    assert ask(tmp_path, rules, "db.shop.test", "www.shop.test")["found"] == ["EAI_NONAME", "EAI_AGAIN"]


def test_a_pattern_is_held_against_what_the_search_list_makes_of_a_name(tmp_path: Path) -> None:
    """`db` is asked by its full name first, and found: the short name is never asked. `db.*` is what is meant."""
    rules = {"short": DnsRule(DnsAnswer.NX_DOMAIN, ("db",)), "meant": DnsRule(DnsAnswer.SERV_FAIL, ("db.*",))}
    short = ask(tmp_path, {"short": rules["short"]}, "db")
    assert (short["found"], short["counts"]) == ([["10.0.0.9"]], {"short": [0, 0]})
    assert ask(tmp_path, rules, "db")["found"] == ["EAI_AGAIN"]


def test_a_dotted_name_is_tried_with_the_search_list_too(tmp_path: Path) -> None:
    """Two dots are fewer than ndots:5, so three other names come first, for A and AAAA each."""
    suffixed = DnsRule(DnsAnswer.NX_DOMAIN, ("db.shop.test.*",))
    itself = DnsRule(DnsAnswer.WRONG_ADDRESS, ("db.shop.test",), addresses=("192.0.2.1",))
    told = ask(tmp_path, {"suffixed": suffixed, "itself": itself}, "db.shop.test")
    assert told["found"] == [["192.0.2.1"]]  # and not the true address of the other family
    assert told["counts"] == {"suffixed": [6, 6], "itself": [2, 2]}


def test_a_lost_answer_is_asked_for_again(tmp_path: Path) -> None:
    rules = {"lost": DnsRule(DnsAnswer.TIMEOUT, ("db.shop.test",), choice=Choice(first_n=1))}
    told = ask(tmp_path, rules, "db.shop.test.", options="timeout:1 attempts:3")
    assert told["found"] == [DB]
    assert told["counts"]["lost"][1] == 1
    assert told["counts"]["lost"][0] > 2


def test_silence_is_told_as_trouble(tmp_path: Path) -> None:
    rules = {"silent": DnsRule(DnsAnswer.TIMEOUT)}
    assert ask(tmp_path, rules, "db.shop.test.", options="timeout:1 attempts:1")["found"] == ["EAI_AGAIN"]
