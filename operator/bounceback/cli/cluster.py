"""The cluster as the commands see it: plain objects, and refusals that name the field."""

from __future__ import annotations

import argparse
import builtins
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

import pykube
import requests

from bounceback.api import API_VERSION
from bounceback.cli import kubeconfig
from bounceback.cli.exits import BAD_INPUT, ERROR, CommandError

Json = dict[str, Any]
FIELD_MANAGER: Final = "bounceback-cli"
MERGE: Final = "application/merge-patch+json"
JSON_PATCH: Final = "application/json-patch+json"
STRATEGIC: Final = "application/strategic-merge-patch+json"
WATCH_SECONDS: Final = 60
NOT_INSTALLED: Final = (
    f"the cluster does not know {API_VERSION}: Bounceback is not installed there. "
    "Install it with helm (helm/bounceback), or its resources alone with kubectl apply -f crds/"
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a kind of object lives in the API."""

    version: str
    plural: str


EXPERIMENTS: Final = Place(API_VERSION, "faultexperiments")
CHECKS: Final = Place(API_VERSION, "recoverychecks")
POLICIES: Final = Place(API_VERSION, "faultpolicies")  # of the whole cluster
CONFIG_MAPS: Final = Place("v1", "configmaps")
PODS: Final = Place("v1", "pods")


class RefusedError(CommandError):
    """The API server does not do as asked; `causes` are (field, message) where it names fields."""

    def __init__(self, what: str, status: int, body: Mapping[str, Any]) -> None:
        self.status = status
        self.reason = str(body.get("reason") or "")
        self.words = str(body.get("message") or f"status {status}")
        details = body.get("details") or {}
        self.causes = tuple((c.get("field") or "", c.get("message") or "") for c in details.get("causes") or [])
        told = "".join(f"\n  {field}: {message}" for field, message in self.causes) or f" {self.words}"
        super().__init__(f"{what}:{told}", ERROR if status >= 500 or status == 429 else BAD_INPUT)


class Cluster:
    """Requests in the user's name. Raises RefusedError for answers of 400 and above, CommandError without an answer."""

    def __init__(self, client: pykube.HTTPClient) -> None:
        self._client = client
        self._acting_as: str | None = None

    @property
    def namespace(self) -> str:
        """The kubeconfig's."""
        return str(self._client.config.namespace)

    def acting_as(self, user: str) -> Cluster:
        """The same in another user's name, for those who may impersonate it."""
        other = Cluster(self._client)
        other._acting_as = user
        return other

    def get(self, place: Place, namespace: str, name: str) -> Json | None:
        """None where there is no such object."""
        try:
            return self._request("GET", place, namespace, name)
        except RefusedError as refusal:
            if refusal.status == 404:
                return None
            raise

    def list(self, place: Place, namespace: str | None, labels: str = "") -> list[Json]:
        items: list[Json] = []
        query = {"limit": "500", "labelSelector": labels}
        while True:
            page = self._request("GET", place, namespace, query=query)
            items += page.get("items") or []
            if not (more := page["metadata"].get("continue")):
                return items
            query["continue"] = more

    def served(self, api_version: str) -> builtins.list[Json]:
        """The kinds of that group and version, subresources apart; none where it is not served."""
        try:
            found = self._request("GET", Place(api_version, ""), None)
        except RefusedError as refusal:
            if refusal.status == 404:
                return []
            raise
        return [each for each in found["resources"] if "/" not in each["name"]]

    def create(self, place: Place, body: Json, *, part: str = "", dry_run: bool = False) -> Json:
        """`part`: what is made is part of an object: web-0/eviction."""
        query = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"} | ({"dryRun": "All"} if dry_run else {})
        return self._request("POST", place, body["metadata"].get("namespace"), part, query=query, body=body)

    def replace(self, place: Place, body: Json) -> Json:
        metadata = body["metadata"]
        query = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"}
        return self._request("PUT", place, metadata["namespace"], metadata["name"], query=query, body=body)

    def patch(
        self,
        place: Place,
        namespace: str,
        name: str,
        body: Json | builtins.list[Json],
        *,
        subresource: str = "",
        kind: str = MERGE,
        dry_run: bool = False,
    ) -> Json:
        query = {"fieldManager": FIELD_MANAGER} | ({"dryRun": "All"} if dry_run else {})
        path = f"{name}/{subresource}" if subresource else name
        return self._request("PATCH", place, namespace, path, query=query, body=body, content_type=kind)

    def delete(self, place: Place, namespace: str, name: str, uid: str, *, dry_run: bool = False) -> None:
        """That very object; one of the same name that came after it is left alone."""
        body: Json = {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": uid}}
        self._request("DELETE", place, namespace, name, body=body | ({"dryRun": ["All"]} if dry_run else {}))

    def watch(self, place: Place, namespace: str, name: str, version: str) -> Iterator[tuple[str, Json]]:
        """(type, object) until the server ends the watch; requests.RequestException when the connection breaks."""
        query = {
            "watch": "1",
            "fieldSelector": f"metadata.name={name}",
            "resourceVersion": version,
            "timeoutSeconds": str(WATCH_SECONDS),
            "allowWatchBookmarks": "true",
        }
        response = self._send("GET", place, namespace, query=query, stream=True, timeout=(10, WATCH_SECONDS + 15))
        with response:
            for line in _lines(response):
                event = json.loads(line)
                if event["type"] == "ERROR":
                    raise RefusedError("watch", int(event["object"].get("code", 500)), event["object"])
                yield event["type"], event["object"]

    def _request(self, method: str, place: Place, namespace: str | None, name: str = "", **how: Any) -> Json:
        try:
            answer: Json = self._send(method, place, namespace, name, **how).json()
        except requests.RequestException as error:
            raise CommandError(f"{self._client.url} cannot be reached: {_root_cause(error)}", ERROR) from error
        return answer

    def _send(
        self,
        method: str,
        place: Place,
        namespace: str | None,
        name: str = "",
        *,
        query: Mapping[str, str] | None = None,
        body: Json | builtins.list[Json] | None = None,
        content_type: str = "application/json",
        **options: Any,
    ) -> requests.Response:
        headers = {"Content-Type": content_type}
        if self._acting_as:
            headers["Impersonate-User"] = self._acting_as
        response: requests.Response = self._client.request(
            method,
            version=place.version,
            namespace=namespace or None,  # "" is that of the kubeconfig, elsewhere; here an object without one
            url="/".join([place.plural, *(quote(part) for part in name.split("/") if part)]),
            params={key: value for key, value in (query or {}).items() if value},
            data=None if body is None else json.dumps(body),
            headers=headers,
            **options,
        )
        if response.status_code >= 400:
            raise _refusal(place, response)
        return response


def _lines(response: requests.Response) -> Iterator[bytes]:
    """Whole lines as they come; the last one is given up if the connection breaks in its middle."""
    rest = b""
    for chunk in response.iter_content(chunk_size=None):
        *whole, rest = (rest + chunk).split(b"\n")
        yield from filter(None, whole)


def _refusal(place: Place, response: requests.Response) -> CommandError:
    try:
        body = response.json()
    except ValueError:
        body = None
    if not isinstance(body, dict) or body.get("kind") != "Status":
        if response.status_code == 404 and place.version == API_VERSION:
            return CommandError(NOT_INSTALLED)
        body = {"message": response.text[:500]}
    return RefusedError("the API server refuses", response.status_code, body)


def _root_cause(error: BaseException) -> str:
    while error.__context__ is not None:
        error = error.__context__
    return str(error)


def arguments(parser: argparse.ArgumentParser, *, namespaced: bool = True) -> None:
    """The options of every command that talks to a cluster."""
    group = parser.add_argument_group("cluster")
    group.add_argument("--kubeconfig", metavar="FILE", help="the kubeconfig to use instead of KUBECONFIG or ~/.kube")
    group.add_argument("--context", help="the kubeconfig's context to use instead of its current one")
    if namespaced:
        group.add_argument("-n", "--namespace", help="the namespace to use instead of the context's")


def connect(options: argparse.Namespace) -> Cluster:
    """Raises CommandError where the kubeconfig does not say how."""
    return Cluster(kubeconfig.client(kubeconfig.load(options.kubeconfig, options.context)))
