"""Status writes: each over the one that its writer knew, whoever else changes the object meanwhile."""

from __future__ import annotations

import pytest

from bounceback.api.status import FaultExperimentStatus
from bounceback.controller.resources import FencedError, GoneError, write_status
from bounceback.kube import Kube
from bounceback.kube.client import Json
from bounceback.kube.resources import EXPERIMENTS
from tests.spec_case import EXPERIMENT

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("api")]


@pytest.fixture
async def experiment(kube: Kube, namespace: str) -> Json:
    body = {
        "apiVersion": "bounceback.dev/v1alpha1",
        "kind": "FaultExperiment",
        "metadata": {"name": "written", "namespace": namespace},
        "spec": EXPERIMENT,
    }
    return await kube.create(EXPERIMENTS, namespace, body)


def status(revision: int, message: str) -> Json:
    histories = {"web": {"home": {"period": 0.2, "gaps": [], "runs": [[1, 2.5]]}}}
    return FaultExperimentStatus(revision=revision, message=message, histories=histories).to_json()


async def test_what_changed_beside_the_status_is_taken_over(kube: Kube, namespace: str, experiment: Json) -> None:
    await kube.patch(EXPERIMENTS, namespace, "written", {"metadata": {"labels": {"kept": "yes"}}})
    written = await write_status(kube, experiment, status(1, "first"))
    assert written["metadata"]["labels"] == {"kept": "yes"}
    assert written["status"]["revision"] == 1


async def test_another_writer_is_noticed(kube: Kube, namespace: str, experiment: Json) -> None:
    await write_status(kube, experiment, status(1, "another's"))
    with pytest.raises(FencedError):
        await write_status(kube, experiment, status(1, "ours"))


async def test_our_own_write_whose_answer_was_lost_is_known_again(kube: Kube, namespace: str, experiment: Json) -> None:
    first = await write_status(kube, experiment, status(1, "ours"))
    again = await write_status(kube, experiment, status(1, "ours"))
    assert again["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    assert (await write_status(kube, again, status(2, "next")))["status"]["revision"] == 2


async def test_an_experiment_that_is_gone_is_not_written(kube: Kube, namespace: str, experiment: Json) -> None:
    await kube.delete(EXPERIMENTS, namespace, "written")
    with pytest.raises(GoneError):
        await write_status(kube, experiment, status(1, "late"))
