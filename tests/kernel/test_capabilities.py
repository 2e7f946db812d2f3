"""What a kernel can do is found by trying, without a trace; what it cannot do is refused before anything changes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from bounceback.drivers import fanotify
from bounceback.drivers.capabilities import features
from bounceback.types.plan import Act, Drop, Feature, Netem
from bounceback.types.realms import OF_FILES
from bounceback.types.told import Line, Told
from tests.kernel.lab import ONE, Lab, environment, order, peer, plan


def state(lab: Lab) -> str:
    with lab.target.entered():
        command = "ip -o link; tc qdisc show; nft list ruleset"
        return subprocess.run(command, shell=True, capture_output=True, text=True, check=False).stdout


def test_a_probe_tells_what_it_found_and_leaves_no_trace(lab: Lab) -> None:
    before = state(lab)
    probe = lab.start(plan(), "probe")
    line = probe.until(Told.CAPABLE)
    assert probe.process.wait(10) == 0
    assert {Feature(each) for each in line.detail["features"]} == set(features(lab.two))
    assert line.detail["kernel"]
    assert state(lab) == before


def test_a_probe_asks_about_files_where_it_is_told_to_and_about_nothing_else(lab: Lab) -> None:
    with lab.target.entered():
        done = subprocess.run(
            [sys.executable, "-m", "bounceback.agent", "probe", "files"],
            env=environment(plan(), lab.folder), capture_output=True, text=True, check=True,
        )  # fmt: skip
    line = Line.from_json(done.stdout)
    assert line is not None
    assert {Feature(each) for each in line.detail["features"]} == fanotify.features() <= OF_FILES


@pytest.mark.parametrize(
    ("act", "needed"), [(Drop(), Feature.NFT_IP), (Netem(delay_us=1000), Feature.NETEM)], ids=["nft", "netem"]
)
def test_what_the_kernel_cannot_do_is_refused_and_nothing_is_changed(lab: Lab, act: Act, needed: Feature) -> None:
    """On this machine's kernel it is the one, on another's the other."""
    if needed in features(lab.two):
        pytest.skip(f"this kernel has {needed}")
    asked = order(act, peer(ONE))
    before = state(lab)
    agent = lab.start(plan(asked, guarded=True))
    guard = lab.start(agent.plan, "guard")
    assert agent.until(Told.REFUSED).detail["reason"] == "MissingFeature"
    agent.end()
    guard.end()
    assert agent.of(asked.injection) == [Told.REFUSED]
    assert state(lab) == before
