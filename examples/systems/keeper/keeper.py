"""Keeps the objects of WANTED as they are to be: once a second each is applied again, while it holds its lease.

GET /ready   200 while its last round went well and was not long ago; else 503, and why.
GET /audit   {"version": n, "unled": n, "calls": n}: the version that is to be in the ConfigMap `release`; writes
             without the lease; how often somebody was called because the settings had to be put right

FLAW takes one of its promises away, as docs/examples.md says.
"""

import datetime
import http.client
import json
import os
import ssl
import threading
import time
from pathlib import Path
from typing import Any

from answers import Answers, serve

Json = dict[str, Any]
FLAW = os.environ.get("FLAW", "")
WANTED = Path("/app/wanted.json")
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
ME = os.environ.get("HOSTNAME", "keeper")
PAUSE_SECONDS = 1.0
STALE_SECONDS = 10.0
LEASE_SECONDS = 5
VERSION_SECONDS = 0.5
QUIET_ONES = 5  # with the flaw `shrill` so many repairs make one call that is as it should be
PATIENCE = 2  # writes that did not last, until the flaw `resigned` gives up
APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
PLACES = {
    "Namespace": "api/v1/namespaces",
    "ConfigMap": "api/v1/namespaces/{}/configmaps",
    "Secret": "api/v1/namespaces/{}/secrets",
    "Service": "api/v1/namespaces/{}/services",
    "ResourceQuota": "api/v1/namespaces/{}/resourcequotas",
    "Deployment": "apis/apps/v1/namespaces/{}/deployments",
    "PodDisruptionBudget": "apis/policy/v1/namespaces/{}/poddisruptionbudgets",
    "Lease": "apis/coordination.k8s.io/v1/namespaces/{}/leases",
}


class RefusedError(Exception):
    """What the API server answered."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status}: {text[:200]}")
        self.status = status


class NotLeadingError(Exception):
    """Another holds the lease."""


class Api:
    """Objects of this namespace, or of the one that they name."""

    def __init__(self) -> None:
        self._namespace = (ACCOUNT / "namespace").read_text()
        self._tls = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
        self._host = f"{os.environ['KUBERNETES_SERVICE_HOST']}:{os.environ['KUBERNETES_SERVICE_PORT']}"

    def get(self, kind: str, name: str) -> Json:
        return self._ask("GET", kind, name)

    def apply(self, body: Json) -> Json:
        """What it says is so, whoever says otherwise; the rest is left to others."""
        return self._ask(
            "PATCH", body["kind"], f"{body['metadata']['name']}?fieldManager=keeper&force=true", body, APPLY
        )

    def merge(self, kind: str, name: str, body: Json) -> Json:
        return self._ask("PATCH", kind, name, body, MERGE)

    def create(self, body: Json) -> Json:
        return self._ask("POST", body["kind"], "", body)

    def _ask(self, method: str, kind: str, name: str, body: Json | None = None, as_: str = "application/json") -> Json:
        """Raises RefusedError and OSError."""
        connection = http.client.HTTPSConnection(self._host, timeout=5, context=self._tls)
        token = (ACCOUNT / "token").read_text()  # it is renewed now and then
        headers = {"Authorization": f"Bearer {token}", "Content-Type": as_, "Connection": "close"}
        namespace = (body or {}).get("metadata", {}).get("namespace", self._namespace)
        path = f"/{PLACES[kind].format(namespace)}/{name}".rstrip("/")
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            text = response.read().decode()
        except http.client.HTTPException as error:
            raise OSError(f"no answer: {error}") from error
        finally:
            connection.close()
        if response.status >= 400:
            raise RefusedError(response.status, text)
        answer: Json = json.loads(text)
        return answer


class Keeper:
    def __init__(self) -> None:
        self.trouble = "it has not begun"
        self.ended_at = 0.0
        self.unled = 0
        self.calls = 0
        self._repairs = 0
        self._settings = ""  # their version when they were right the last time
        self._began = time.monotonic()
        self._failed_writes = 0
        self._written = -1
        self._rounds = 0

    @property
    def version(self) -> int:
        """What is to be released now: there is always something new."""
        return int((time.monotonic() - self._began) / VERSION_SECONDS)

    @property
    def is_well(self) -> bool:
        return not self.trouble and time.monotonic() - self.ended_at < STALE_SECONDS

    def run(self) -> None:
        api = Api()
        wanted = json.loads(WANTED.read_text())
        while True:
            try:
                self._round(api, wanted)
                self.trouble = ""
            except (RefusedError, NotLeadingError, OSError) as error:
                self.trouble = str(error)
                if FLAW == "fragile" and self._rounds:
                    return
            self.ended_at = time.monotonic()
            time.sleep(PAUSE_SECONDS)

    def _round(self, api: Api, wanted: list[Json]) -> None:
        self._lead(api)
        if FLAW != "once" or not self._rounds:
            owner = api.get("Deployment", "keeper")["metadata"]
            for body in wanted:
                now = api.apply(owned(body, owner["uid"]))
                if body["metadata"]["name"] == "settings" and self._call(now) and FLAW == "untidy":
                    api.create(copied(now))
        if FLAW == "forceful":
            api.merge("ConfigMap", "settings", {"metadata": {"finalizers": None}})
        self._release(api)
        self._rounds += 1

    def _call(self, settings: Json) -> bool:
        """Somebody is called each time that the settings had to be put right: they are another version then."""
        before, self._settings = self._settings, settings["metadata"]["resourceVersion"]
        if before in ("", self._settings):
            return False
        self._repairs += 1
        self.calls += 2 if FLAW == "shrill" and self._repairs % QUIET_ONES != 1 else 1
        return True

    def _lead(self, api: Api) -> None:
        now = datetime.datetime.now(datetime.UTC)
        mine = {"holderIdentity": ME, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": stamp(now)}
        try:
            lease = api.get("Lease", "keeper")
        except RefusedError as error:
            if error.status != 404 or (FLAW == "fragile" and self._rounds):
                raise
            body = {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": "keeper"},
                "spec": mine,
            }
            api.create(body)
            return
        held = lease["spec"]
        until = datetime.datetime.fromisoformat(held["renewTime"]) + datetime.timedelta(seconds=LEASE_SECONDS)
        if held["holderIdentity"] != ME and until > now:
            if FLAW != "no-lease":
                raise NotLeadingError(f"{held['holderIdentity']} holds the lease")
            self.unled += 1
            return
        version = {"resourceVersion": lease["metadata"]["resourceVersion"]}
        api.merge("Lease", "keeper", {"metadata": version, "spec": mine})

    def _release(self, api: Api) -> None:
        """Looks whether its last write is still there."""
        try:
            there = api.get("ConfigMap", "release")["data"]["version"]
        except RefusedError as error:
            if error.status != 404:
                raise
            there = "none"
        self._failed_writes += self._written >= 0 and there != str(self._written)
        if FLAW == "resigned" and self._failed_writes > PATIENCE:
            return
        self._written = self.version
        data = {"version": str(self._written)}
        api.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "release"}, "data": data})


def owned(body: Json, uid: str) -> Json:
    """Settings are the keeper's, and go with it."""
    if body["metadata"]["name"] != "settings":
        return body
    owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "keeper", "uid": uid}
    return {**body, "metadata": {**body["metadata"], "ownerReferences": [owner]}}


def copied(body: Json) -> Json:
    """Under a name of its own: nobody ever takes it away."""
    metadata = {"generateName": f"{body['metadata']['name']}-", "labels": body["metadata"]["labels"]}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": body["data"]}


def stamp(moment: datetime.datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


keeper = Keeper()


class KeeperAnswers(Answers):
    def do_GET(self) -> None:
        if self.path == "/audit":
            self.answer(200, {"version": keeper.version, "unled": keeper.unled, "calls": keeper.calls})
        else:
            self.answer(200 if keeper.is_well else 503, {"trouble": keeper.trouble})


if __name__ == "__main__":
    threading.Thread(target=keeper.run, daemon=True).start()
    serve(KeeperAnswers)
