"""Requests to the API server, as ourselves or in another account's name."""

from __future__ import annotations

import asyncio
import json
import os
from asyncio.sslproto import SSLProtocol
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

import aiohttp

from bounceback.kube.errors import KubeError, WatchGoneError
from bounceback.kube.resources import Resource
from bounceback.kube.trust import Trust

if TYPE_CHECKING:
    from kubernetes.aio.client import Configuration

Json = dict[str, Any]
FIELD_MANAGER: Final = "bounceback"
Traces = list[aiohttp.TraceConfig]
MERGE_PATCH: Final = "application/merge-patch+json"
STRATEGIC_PATCH: Final = "application/strategic-merge-patch+json"
JSON_PATCH: Final = "application/json-patch+json"
APPLY_PATCH: Final = "application/apply-patch+yaml"
LONGEST_LINE: Final = 8 * 1024 * 1024
LONGEST_SILENCE: Final = 75
"""Seconds that a watch may be silent: the server sends a bookmark each minute, so one that does not is cut off."""
MOST_CONNECTIONS: Final = 40
"""For requests with one answer; more of them wait. A TLS connection takes some 100 KB here."""
STDIN, STDOUT, STDERR, ERROR, CLOSE = 0, 1, 2, 3, 255  # channels of v5.channel.k8s.io
SSLProtocol.max_size = 64 * 1024  # asyncio keeps a buffer of 256 KiB for each TLS connection, and a record has 16


class Sessions(NamedTuple):
    """Connections to one API server: what is answered once never waits for what goes on."""

    requests: aiohttp.ClientSession
    streams: aiohttp.ClientSession  # watches, logs, exec: as many as there are
    trust: Trust


class Kube:
    """Connection pools to one API server.

    Every method raises KubeError for an answer of 400 or above, aiohttp.ClientError or TimeoutError when there is none.
    `on_request` is told each request's verb, plural and status, for metrics.
    """

    def __init__(
        self,
        configuration: Configuration,
        sessions: Sessions,
        headers: Mapping[str, str] | None = None,
        on_request: Callable[[str, str, int], None] | None = None,
    ) -> None:
        self._configuration = configuration
        self._sessions = sessions
        self._headers = dict(headers or {})
        self._on_request = on_request

    @classmethod
    @asynccontextmanager
    async def connected(
        cls, kubeconfig: str | None = None, on_request: Callable[[str, str, int], None] | None = None
    ) -> AsyncIterator[Kube]:
        """From the pod's service account where there is one and no kubeconfig is named, else from the kubeconfig."""
        # Half a second of imports, which who only prints what to apply has no use for.
        from kubernetes.aio import config
        from kubernetes.aio.client import Configuration

        configuration = Configuration()
        try:
            if kubeconfig is not None:
                await config.load_kube_config(config_file=kubeconfig, client_configuration=configuration)
            else:
                config.load_incluster_config(client_configuration=configuration)
        except config.ConfigException:
            named = os.environ.get("KUBECONFIG") or None  # as it is now: the library has it from when it was loaded
            await config.load_kube_config(config_file=named, client_configuration=configuration)
        trust = Trust(configuration)
        async with AsyncExitStack() as stack:
            requests, streams = [
                await stack.enter_async_context(
                    aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=limit), read_bufsize=2**21)
                )
                for limit in (MOST_CONNECTIONS, 0)
            ]
            yield cls(configuration, Sessions(requests, streams, trust), on_request=on_request)

    def acting_as(self, namespace: str, account: str) -> Kube:
        """The same connection in a service account's name; its rights are then the limit."""
        user = f"system:serviceaccount:{namespace}:{account}"
        return Kube(self._configuration, self._sessions, {"Impersonate-User": user}, self._on_request)

    def only_metadata(self, *, listed: bool) -> Kube:
        """The same for lists, or for single objects, of which only the metadata is asked for: the rest may be large."""
        kind = "PartialObjectMetadataList" if listed else "PartialObjectMetadata"
        accept = f"application/json;as={kind};g=meta.k8s.io;v=v1"
        return Kube(self._configuration, self._sessions, {**self._headers, "Accept": accept}, self._on_request)

    async def get(self, resource: Resource, namespace: str | None, name: str, subresource: str | None = None) -> Json:
        return await self.request("GET", resource, namespace, name, subresource)

    async def list(
        self, resource: Resource, namespace: str | None = None, *, labels: str = "", fields: str = "", limit: int = 500
    ) -> tuple[list[Json], str]:
        """All objects and the resourceVersion to watch from; read page by page."""
        items: list[Json] = []
        query = {"labelSelector": labels, "fieldSelector": fields, "limit": str(limit)}
        while True:
            page = await self.request("GET", resource, namespace, query=query)
            items += page.get("items") or []
            metadata = page["metadata"]
            if not metadata.get("continue"):
                return items, metadata.get("resourceVersion", "")  # some aggregated APIs have none
            query["continue"] = metadata["continue"]

    async def create(
        self,
        resource: Resource,
        namespace: str | None,
        body: Json,
        *,
        name: str | None = None,
        subresource: str | None = None,
        manager: str = FIELD_MANAGER,
        dry_run: bool = False,
    ) -> Json:
        query = {"fieldManager": manager, "dryRun": "All" if dry_run else ""}
        return await self.request("POST", resource, namespace, name, subresource, body=body, query=query)

    async def replace(
        self, resource: Resource, namespace: str | None, name: str, body: Json, subresource: str | None = None
    ) -> Json:
        """Fails with a conflict where body.metadata.resourceVersion is no longer the newest."""
        query = {"fieldManager": FIELD_MANAGER}
        return await self.request("PUT", resource, namespace, name, subresource, body=body, query=query)

    async def patch(
        self,
        resource: Resource,
        namespace: str | None,
        name: str,
        body: Any,
        *,
        subresource: str | None = None,
        content_type: str = MERGE_PATCH,
        dry_run: bool = False,
        force: bool = False,
    ) -> Json:
        query = {
            "fieldManager": FIELD_MANAGER,
            "dryRun": "All" if dry_run else "",
            "force": "true" if force else "",
        }
        return await self.request(
            "PATCH", resource, namespace, name, subresource, body=body, query=query, content_type=content_type
        )

    async def delete(
        self,
        resource: Resource,
        namespace: str | None,
        name: str,
        *,
        uid: str | None = None,
        version: str = "",
        grace: int | None = None,
        propagation: str = "Background",
        dry_run: bool = False,
    ) -> Json:
        """With `uid` only that very object, never one of the same name that came after it, and with `version` only
        while nobody wrote it since (409 then)."""
        body: Json = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": propagation}
        if uid is not None:
            body["preconditions"] = {"uid": uid, **({"resourceVersion": version} if version else {})}
        if grace is not None:
            body["gracePeriodSeconds"] = grace
        if dry_run:
            body["dryRun"] = ["All"]
        return await self.request("DELETE", resource, namespace, name, body=body)

    async def request(
        self,
        method: str,
        resource: Resource,
        namespace: str | None = None,
        name: str | None = None,
        subresource: str | None = None,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        seconds: float = 30,
    ) -> Json:
        path = resource.path(namespace, name, subresource)
        text = await self.raw(method, path, query=query, body=body, content_type=content_type, seconds=seconds)
        try:
            return cast(Json, json.loads(text))
        except ValueError as error:
            raise aiohttp.ClientPayloadError(f"{method} {path}: the answer is cut or no JSON") from error

    async def raw(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        seconds: float = 30,
    ) -> bytes:
        """The body of one answer."""
        limits, session = aiohttp.ClientTimeout(seconds), self._sessions.requests
        async with self._send(session, method, path, query, body, content_type, limits) as response:
            return await response.read()

    async def watch(
        self,
        resource: Resource,
        namespace: str | None,
        resource_version: str,
        *,
        labels: str = "",
        fields: str = "",
        seconds: int = 300,
    ) -> AsyncGenerator[tuple[str, Json], None]:
        """(type, object) pairs until the server ends the watch. Raises WatchGoneError when a new list is needed."""
        query = {
            "watch": "1",
            "resourceVersion": resource_version,
            "labelSelector": labels,
            "fieldSelector": fields,
            "timeoutSeconds": str(seconds),
            "allowWatchBookmarks": "true",
        }
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=LONGEST_SILENCE)
        try:
            async with self._stream(resource.path(namespace), query, "application/json", timeout) as answer:
                async for line in lines(answer):
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        raise KubeError.from_body(
                            event["object"].get("code", 500), json.dumps(event["object"]).encode()
                        )
                    yield event["type"], event["object"]
        except KubeError as error:
            if error.status == 410:
                raise WatchGoneError(error.message) from error
            raise

    async def log_lines(
        self, pods: Resource, namespace: str, pod: str, container: str, *, follow: bool
    ) -> AsyncGenerator[str, None]:
        """The container's log from its start; with `follow` until the container ends."""
        query = {"container": container, "follow": "true" if follow else ""}
        timeout = aiohttp.ClientTimeout(total=None if follow else 30, sock_connect=10)
        async with self._stream(pods.path(namespace, pod, "log"), query, "text/plain", timeout) as answer:
            async for line in lines(answer):
                yield line.decode(errors="replace")

    async def exec(
        self,
        namespace: str,
        pod: str,
        container: str,
        command: Sequence[str],
        *,
        stdin: str | None = None,
        seconds: float = 30,
        begun: Callable[[], None] | None = None,
    ) -> tuple[int, str, str]:
        """Run a command by pods/exec: its exit code, output and errors. Raises KubeError where exec is refused.

        It goes on in its pod where nobody waits for its end. `begun` is told that the server has taken it.
        """
        query = [("container", container), ("stdout", "1"), ("stderr", "1"), *(("command", c) for c in command)]
        if stdin is not None:
            query.append(("stdin", "1"))
        url = f"{self._configuration.host}/api/v1/namespaces/{namespace}/pods/{pod}/exec"
        headers = {**await self._all_headers(), "Accept": "*/*"}  # JSON is not what this answers
        output: dict[int, bytes] = {STDOUT: b"", STDERR: b"", ERROR: b""}
        try:
            async with (
                asyncio.timeout(seconds),
                self._sessions.streams.ws_connect(
                    url,
                    params=query,
                    headers=headers,
                    protocols=["v5.channel.k8s.io"],
                    max_msg_size=LONGEST_LINE,
                    ssl=self._sessions.trust.context(),
                ) as socket,
            ):
                if begun is not None:
                    begun()
                if stdin is not None:
                    await socket.send_bytes(bytes([STDIN]) + stdin.encode())
                    await socket.send_bytes(bytes([CLOSE, STDIN]))
                async for message in socket:
                    if isinstance(message.data, bytes) and message.data:
                        output[message.data[0]] = output.get(message.data[0], b"") + message.data[1:]
        except aiohttp.WSServerHandshakeError as error:
            self._count("CONNECT", "/pods/exec", error.status)
            raise KubeError(error.status, "ExecRefused", error.message) from error
        self._count("CONNECT", "/pods/exec", 101)
        return _exit_code(output[ERROR]), output[STDOUT].decode(), output[STDERR].decode()

    @property
    def host(self) -> str:
        """The server's address, https://..."""
        return str(self._configuration.host)

    def new_session(self, trace_configs: Traces) -> aiohttp.ClientSession:
        """Another session to the same server, for a library that brings its own requests; the caller closes it.

        Whom it trusts stays as it is now.
        """
        connector = aiohttp.TCPConnector(limit=0, ssl=self._sessions.trust.context())
        return aiohttp.ClientSession(connector=connector, trace_configs=trace_configs, read_bufsize=2**21)

    async def credentials(self) -> dict[str, str]:
        """Headers that say who asks; tokens rotate, so they are to be asked for each request."""
        return await self._all_headers()

    async def _all_headers(self) -> dict[str, str]:
        settings = cast(dict[str, dict[str, str]], await self._configuration.auth_settings())
        auth = {s["key"]: s["value"] for s in settings.values() if s.get("in") == "header" and s.get("value")}
        return {"Accept": "application/json", **auth, **self._headers}

    def _stream(
        self, path: str, query: Mapping[str, str], content_type: str, limits: aiohttp.ClientTimeout
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        return self._send(self._sessions.streams, "GET", path, query, None, content_type, limits)

    @asynccontextmanager
    async def _send(
        self,
        session: aiohttp.ClientSession,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: Any,
        content_type: str,
        limits: aiohttp.ClientTimeout,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        headers = {**await self._all_headers(), "Content-Type": content_type}
        params = {k: v for k, v in (query or {}).items() if v}
        data = None if body is None else json.dumps(body)
        url = self._configuration.host + path
        tls = self._sessions.trust.context()
        async with session.request(
            method, url, params=params, data=data, headers=headers, timeout=limits, ssl=tls
        ) as response:
            self._count("WATCH" if params.get("watch") else method, path, response.status)
            if response.status >= 400:
                raise KubeError.from_body(response.status, await response.read())
            yield response

    def _count(self, method: str, path: str, status: int) -> None:
        if self._on_request is not None:
            self._on_request(method, path, status)


async def lines(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """The body line by line; a last line without an end is given too, unless the connection broke in its middle."""
    rest = b""
    async for chunk in response.content.iter_any():
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            if line:
                yield line
        if len(rest) > LONGEST_LINE:
            raise ValueError(f"a line of more than {LONGEST_LINE} bytes")
    if rest:
        yield rest


def _exit_code(status: bytes) -> int:
    """From the Status object that ends an exec session: Success, or NonZeroExitCode with an ExitCode cause."""
    if not status:
        return -1  # cut before its end
    data = json.loads(status)
    if data.get("status") == "Success":
        return 0
    causes = (data.get("details") or {}).get("causes") or []
    code = next((c["message"] for c in causes if c.get("reason") == "ExitCode"), None)
    return int(code) if code is not None else -1
