"""Ctrl-C while somebody waits for an experiment: the first cancels, the second leaves, however soon it comes."""

from __future__ import annotations

from typing import Any, cast

import pytest

from bounceback.cli import waiting
from bounceback.cli.cluster import Cluster
from bounceback.cli.exits import INTERRUPTED
from bounceback.cli.follow import Key
from bounceback.cli.progress import Output
from bounceback.cli.waiting import Waiting


class Impatient:
    """Who presses Ctrl-C as soon as anything is waited for: the news, or the answer to the cancel."""

    def __init__(self, *_: object, answers: bool = False) -> None:
        self._answers = answers
        self.asked = 0

    def next(self, seconds: float | None) -> None:
        raise KeyboardInterrupt

    def patch(self, *_: Any) -> None:
        self.asked += 1
        if not self._answers:
            raise KeyboardInterrupt


@pytest.mark.parametrize("answers", [True, False], ids=["once it is cancelled", "while it is being cancelled"])
def test_twice_leaves(answers: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(waiting, "Follower", Impatient)
    cluster = Impatient(answers=answers)
    wait = Waiting(cast(Cluster, cluster), [Key("shop", "slow", "uid")], Output.TEXT)
    assert wait.run() == INTERRUPTED
    assert cluster.asked == 1
    said = capsys.readouterr().err
    assert "cancelling; press Ctrl-C again to leave" in said
    assert "left as it is: shop/slow" in said
