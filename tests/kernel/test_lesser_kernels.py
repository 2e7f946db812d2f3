"""What older kernels lack, played by refusing it: without family inet, without owned tables."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bounceback.drivers import KernelError, Refused, Site, nft
from bounceback.drivers.libnft import Nft
from bounceback.types.plan import Drop, Feature
from tests.kernel.lab import ONE, ONE6, TWO, TWO6, Lab, echo, order, peer, reach


@pytest.fixture(autouse=True)
def _kernel(needs: Callable[..., None]) -> None:
    needs(Feature.NFT_IP, Feature.NFT_OWNER, Feature.NFT_REJECT)


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    def lack(words: str) -> None:
        class Lesser(Nft):
            def run(self, rules: str) -> None:
                if words in rules:
                    raise KernelError("nft: Error: Could not process rule: Operation not supported")
                super().run(rules)

        monkeypatch.setattr(nft, "Nft", Lesser)

    return lack


def test_without_family_inet_each_version_of_ip_has_its_table(lab: Lab, without: Callable[[str], None]) -> None:
    without("table inet")
    cut = order(Drop(reject=True), peer(ONE), peer(ONE6))
    with echo(lab.one, ONE), echo(lab.one, ONE6), echo(lab.two, TWO), echo(lab.two, TWO6):
        in_force = nft.apply(cut, Site(lab.target))
        assert in_force.detail["with"] == "nft ip and ip6"
        assert reach(lab.target, ONE) == reach(lab.target, ONE6) == "refused"
        assert reach(lab.target, TWO) == reach(lab.target, TWO6) == "ok"
        assert in_force.hits() == 2
        in_force.amend((peer(TWO6),))
        assert [reach(lab.target, each) for each in (ONE, ONE6, TWO, TWO6)] == ["ok", "ok", "ok", "refused"]
        assert in_force.hits() == 3
        in_force.revert()
        assert reach(lab.target, TWO6) == "ok"
    assert lab.left() == []


def test_without_owned_tables_a_partition_is_applied_only_beside_a_guard(
    lab: Lab, without: Callable[[str], None]
) -> None:
    without("flags owner")
    cut = order(Drop(), peer(ONE))
    with pytest.raises(Refused, match="nft-owner") as refusal:
        nft.apply(cut, Site(lab.target))
    assert refusal.value.reason == "MissingFeature"
    assert lab.left() == []
    nft.apply(cut, Site(lab.target, guarded=True))
    assert len(lab.left()) == 2
    nft.undo(cut, Site(lab.target))  # the guard's way
    assert lab.left() == []


def test_what_an_earlier_try_left_under_the_same_name_is_replaced(lab: Lab, without: Callable[[str], None]) -> None:
    without("flags owner")
    cut = order(Drop(), peer(ONE))
    nft.apply(cut, Site(lab.target, guarded=True))
    with echo(lab.one, ONE):
        again = nft.apply(cut, Site(lab.target, guarded=True))
        assert reach(lab.target, ONE) == "silence"
        again.revert()
        assert reach(lab.target, ONE) == "ok"
    assert lab.left() == []
