"""ConfigMaps of one namespace by plain HTTP: no library tries again unseen, so all that is seen is the controller's."""

import http.client
import json
import os
import ssl
import subprocess
import tempfile
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import yaml

Json = dict[str, Any]
ANSWER_SECONDS = 2.0


class ApiError(Exception):
    """What the API server, or who stands before it, refused."""

    def __init__(self, code: int, text: str, retry_after: str | None) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code
        self.retry_after = float(retry_after) if retry_after and retry_after.isdecimal() else None


LOST = (OSError, http.client.HTTPException, ValueError)
"""No answer, or half of one: what was asked may have been done."""


class ConfigMaps:
    """As whom the current context of KUBECONFIG says."""

    def __init__(self, namespace: str) -> None:
        document = yaml.safe_load(Path(os.environ["KUBECONFIG"]).read_text())
        named = {part: {e["name"]: e[part[:-1]] for e in document[part]} for part in ("clusters", "users", "contexts")}
        context = named["contexts"][document["current-context"]]
        cluster, self._user = named["clusters"][context["cluster"]], named["users"][context["user"]]
        self._server = urlsplit(cluster["server"]).netloc
        self._tls = ssl.create_default_context(cadata=b64decode(cluster["certificate-authority-data"]).decode())
        if certificate := self._user.get("client-certificate-data"):
            with tempfile.NamedTemporaryFile() as file:
                file.write(b64decode(certificate) + b"\n" + b64decode(self._user["client-key-data"]))
                file.flush()
                self._tls.load_cert_chain(file.name)
        self._path = f"/api/v1/namespaces/{namespace}/configmaps"
        self._token = ""
        self.login()

    def login(self) -> None:
        """Asks for a token anew, where there is someone to ask."""
        self._token = self._user.get("token", "")
        if plugin := self._user.get("exec"):
            answer = subprocess.run([plugin["command"], *plugin["args"]], stdout=subprocess.PIPE, check=True).stdout
            self._token = json.loads(answer)["status"]["token"]

    def call(self, method: str, name: str = "", body: Json | None = None, /, **query: str) -> Json:
        """Raises ApiError and what is LOST."""
        with self._ask(method, name, body, ANSWER_SECONDS, query) as response:
            return dict(json.load(response))

    def watch(self, seconds: float | None, /, **query: str) -> Iterator[Json]:
        """Until the watch ends; `seconds` without a word are an error. Raises ApiError and what is LOST."""
        with self._ask("GET", "", None, seconds, {"watch": "1", **query}) as response:
            for line in response:
                event = dict(json.loads(line))
                if event["type"] == "ERROR":
                    status = event["object"]
                    raise ApiError(status["code"], status["message"], None)
                yield event

    def _ask(
        self, method: str, name: str, body: Json | None, seconds: float | None, query: dict[str, str]
    ) -> http.client.HTTPResponse:
        connection = http.client.HTTPSConnection(self._server, timeout=seconds, context=self._tls)
        headers = {"Connection": "close", "Accept": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        if body is not None:
            headers["Content-Type"] = f"application/{'merge-patch+' if method == 'PATCH' else ''}json"
        path = f"{self._path}/{name}".rstrip("/") + (f"?{urlencode(query)}" if query else "")
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        if response.status >= 400:
            with response:
                raise ApiError(response.status, response.read().decode()[:300], response.headers["Retry-After"])
        return response
