"""What is in a namespace that is to be deleted: what is made again, in which order, and what speaks against it."""

from __future__ import annotations

from typing import Any

import pytest

from bounceback.engine import namespace_contents
from bounceback.engine.namespace_contents import Way, contents, differences, served_from
from bounceback.types.objects import Change, Json

WAY = Way("bounceback-contents:shop:bounceback")
RBAC = "rbac.authorization.k8s.io/v1"


def one(api_version: str, kind: str, name: str = "web", metadata: Json | None = None, **more: Any) -> Json:
    own = {"name": name, "namespace": "tenant", "uid": f"{kind}-{name}", "resourceVersion": "1", **(metadata or {})}
    return {"apiVersion": api_version, "kind": kind, "metadata": own, **more}


def owned_by(name: str, uid: str, controller: bool = True) -> Json:
    return {
        "ownerReferences": [{"kind": "X", "name": name, "uid": uid, **({"controller": True} if controller else {})}]
    }


BINDING = one(RBAC, "RoleBinding", WAY.name)
PLAIN = (
    one("apps/v1", "Deployment"),
    one("v1", "Service", spec={"selector": {"app": "web"}}),
    one("example.com/v1", "Thing"),
    one("v1", "ConfigMap", "settings"),
    one(RBAC, "RoleBinding", "a-first-by-name"),
    one("v1", "ServiceAccount"),
    BINDING,
)


def names(changes: tuple[Change, ...]) -> list[str]:
    """In the order in which they are made again."""
    return [change.key.name if change.key.kind == "RoleBinding" else change.key.kind for change in reversed(changes)]


def test_the_way_in_comes_first_and_what_runs_comes_last() -> None:
    made = contents("tenant", PLAIN, WAY)
    last = ["a-first-by-name", "ConfigMap", "Service", "Thing", "Deployment"]
    assert names(made) == [WAY.name, "ServiceAccount", *last]
    assert all(change.along and change.after is None for change in made)
    assert contents("tenant", (*PLAIN, *PLAIN), WAY) == made, "some are served by two names"


@pytest.mark.parametrize(
    "body",
    [
        one("v1", "Pod", metadata=owned_by("web", "rs")),
        one("apps/v1", "ReplicaSet", metadata=owned_by("web", "Deployment-web")),
        one("v1", "Event"),
        one("events.k8s.io/v1", "Event"),
        one("v1", "ConfigMap", "kube-root-ca.crt"),
        one("v1", "ServiceAccount", "default"),
        one("v1", "Endpoints"),
        one("v1", "ConfigMap", "going", {"deletionTimestamp": "now", "finalizers": ["x"]}),
        one("batch/v1", "Job", metadata=owned_by("nightly", "CronJob-nightly")),
    ],
    ids=lambda body: f"{body['kind']} {body['metadata']['name']}",
)
def test_what_others_make_is_left_to_them(body: Json) -> None:
    assert contents("tenant", (*PLAIN, body), WAY) == contents("tenant", PLAIN, WAY)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (one("v1", "PersistentVolumeClaim", metadata=owned_by("db", "u")), "nothing brings that back"),
        (one("v1", "Pod"), "nobody would make it again"),
        (one("batch/v1", "Job"), "it would run again"),
        (one("v1", "ConfigMap", "held", {"finalizers": ["example.com/held"]}), "ConfigMap held is in it: it has final"),
        (one("v1", "Secret", type="kubernetes.io/service-account-token"), "would never be good again"),
        (one("v1", "ServiceAccount", "default", imagePullSecrets=[{"name": "x"}]), "not as the cluster makes it"),
        (one("v1", "ConfigMap", metadata=owned_by("web", "Deployment-web", controller=False)), "another UID"),
        (one("bounceback.dev/v1alpha1", "RecoveryCheck"), "it belongs to Bounceback"),
        (one("v1", "ConfigMap", metadata={"labels": {"bounceback.dev/experiment-uid": "x"}}), "belongs to Bounceback"),
    ],
)
def test_what_could_not_be_as_it_was_speaks_against_it(body: Json, words: str) -> None:
    with pytest.raises(ValueError, match="namespace tenant must not be deleted") as refused:
        contents("tenant", (*PLAIN, body), WAY)
    assert words in str(refused.value)


def test_an_owner_elsewhere_stays_what_it_is() -> None:
    of_cluster = one("v1", "ConfigMap", metadata=owned_by("tenant", "of-the-cluster", controller=False))
    by_hand = one("v1", "Endpoints", "by-hand")
    assert len(contents("tenant", (*PLAIN, of_cluster, by_hand), WAY)) == len(PLAIN) + 2


def test_there_is_an_end_to_what_is_written_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(namespace_contents, "MOST_OBJECTS", len(PLAIN) - 1)
    with pytest.raises(ValueError, match=r"it has 7 objects of .* bytes to be made again; it may have 6"):
        contents("tenant", PLAIN, WAY)


def test_what_others_did_since_is_told() -> None:
    planned = contents("tenant", (*PLAIN, one("coordination.k8s.io/v1", "Lease", spec={"renewTime": "1"})), WAY)
    written = {**PLAIN[3], "data": {"colour": "red"}}
    renewed = one("coordination.k8s.io/v1", "Lease", metadata={"resourceVersion": "9"}, spec={"renewTime": "2"})
    status = {**PLAIN[0], "status": {"replicas": 1}}
    others = (status, *PLAIN[1:3], *PLAIN[4:])
    assert not differences(planned, contents("tenant", (*others, PLAIN[3], renewed), WAY))
    new = one("v1", "Secret", "new")
    assert differences(planned, contents("tenant", (*others, written, new), WAY)) == [
        "ConfigMap settings was changed",
        "Lease web was deleted",
        "Secret new was made",
    ]


@pytest.mark.parametrize(
    "body",
    [
        {"webhooks": [{"clientConfig": {"url": "x"}}, {"clientConfig": {"service": {"namespace": "tenant"}}}]},
        {"spec": {"service": {"namespace": "tenant", "name": "metrics"}}},
        {"spec": {"conversion": {"webhook": {"clientConfig": {"service": {"namespace": "tenant"}}}}}},
    ],
    ids=["webhook", "APIService", "conversion"],
)
def test_what_the_cluster_asks_is_seen(body: Json) -> None:
    assert served_from(body) == {"tenant"}


def test_what_asks_nobody_is_answered_from_nowhere() -> None:
    for spec in ({"service": None}, {"conversion": {"strategy": "None"}}, {}):
        assert served_from({"spec": spec}) == set()


def test_a_plan_survives_the_journal() -> None:
    for change in contents("tenant", PLAIN, WAY):
        assert Change.from_json(change.to_json()) == change
