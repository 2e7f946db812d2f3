"""Armed pods: our API proxy stands beside a pod's own containers, and they reach the API server through it. Pure.

In-cluster clients go to KUBERNETES_SERVICE_HOST:PORT and trust the ca.crt beside their token; both are fixed when a
container is made, so a pod is armed at its creation or never. Containers that have no token at the usual place are left
as they are: they have nothing to ask the API server with, or come with a configuration of their own.

Their token stays what it was, the kubelet's own file, in another folder: at its usual place is a folder that the proxy
fills with its authority's ca.crt and links to the rest. Nothing can be mounted over ca.crt alone: it is a link into a
folder that the kubelet replaces whenever it refreshes the token (kubernetes pkg/volume/util/atomic_writer.go), and runc
mounts over no link.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from bounceback.kube.client import Json
from bounceback.types.gate import LINKS_VARIABLE, PORT, PORT_VARIABLE
from bounceback.vehicles.containers import USER
from bounceback.vehicles.image_known import Lacking
from bounceback.vehicles.scheduling import may_come

PROXY: Final = "bounceback-api-proxy"
"""The container."""
AUTHORITY: Final = f"{PROXY}-ca"
KEY: Final = f"{PROXY}-key"
SERVER: Final = f"{PROXY}-server"
VOLUMES: Final = (AUTHORITY, KEY, SERVER)

ARM_LABEL: Final = "bounceback.dev/arm"
DISABLED: Final = "disabled"
ARMED_LABEL: Final = "bounceback.dev/armed"
ARMED_BY: Final = "bounceback.dev/armed-by"
NOT_ARMED: Final = "bounceback.dev/not-armed"
"""Annotation of a pod that was to be armed and is not: why. Warnings about a Deployment's pods are read by nobody."""

TOKEN_PLACE: Final = "/var/run/secrets/kubernetes.io/serviceaccount"
MOVED_PLACE: Final = "/var/run/secrets/bounceback.dev/serviceaccount"
SERVER_AUTHORITY: Final = "kube-root-ca.crt"
"""A ConfigMap that every namespace has (--root-ca-file of the controller manager)."""
USUAL_FILES: Final = ("namespace", "token")
HOST_VARIABLE: Final = "KUBERNETES_SERVICE_HOST"
VARIABLES: Final = {
    HOST_VARIABLE: "127.0.0.1",
    "KUBERNETES_SERVICE_PORT": str(PORT),
    "KUBERNETES_SERVICE_PORT_HTTPS": str(PORT),
}
MOST_WORDS: Final = 400
"""Of the kubelet's, in an annotation."""
RESOURCES: Final[Json] = {"requests": {"cpu": "10m", "memory": "40Mi"}, "limits": {"memory": "160Mi"}}


@dataclass(frozen=True, slots=True)
class ArmSettings:
    """`needs_secret`: the image is pulled with Secrets, of which a pod must have some of its own. `lacking`: nodes that
    were seen not to get it."""

    image: str
    pull_policy: str
    version: str
    resources: Json = field(default_factory=lambda: RESOURCES)
    needs_secret: bool = False
    lacking: tuple[Lacking, ...] = ()


@dataclass(frozen=True, slots=True)
class Arming:
    """A JSON patch (RFC 6902), empty where nothing is to be changed; `refused` says why a pod is not armed."""

    patch: list[Json]
    refused: str = ""


def arm(pod: Json, settings: ArmSettings) -> Arming:
    """What makes an armed pod of this one, which is about to be created and whose namespace or label asks for it.

    One that was armed already is brought up to what it should be: containers may have come since.
    """
    if labels_of(pod).get(ARM_LABEL) == DISABLED:
        return Arming([])
    if refused := next((words for ask in QUESTIONS if (words := ask(pod, settings))), ""):
        return Arming(patch_of(pod, _noted(pod, refused)), refused)
    return Arming(patch_of(pod, _armed(pod, settings)))


def _on_the_nodes_network(pod: Json, _: ArmSettings) -> str:
    if pod["spec"].get("hostNetwork"):
        return "it is on the network of its node (hostNetwork), where a proxy on loopback is not its own"
    return ""


def on_windows(pod: Json, _: ArmSettings) -> str:
    spec = pod["spec"]
    named = ((spec.get("os") or {}).get("name"), (spec.get("nodeSelector") or {}).get("kubernetes.io/os"))
    return "it runs on Windows, which the proxy's image does not" if "windows" in named else ""


def _without_token(pod: Json, _: ArmSettings) -> str:
    if _clients(pod):
        return ""
    return (
        f"none of its containers has a service account token at {TOKEN_PLACE}, so none speaks to the API server as "
        "its account"
    )


def _with_a_server_of_its_own(pod: Json, _: ArmSettings) -> str:
    for container in _clients(pod):
        for variable in container.get("env") or []:
            if variable["name"] in VARIABLES and variable.get("value") != VARIABLES[variable["name"]]:
                return f"its container {container['name']} sets {variable['name']} itself"
    return ""


def _with_mounts_inside(pod: Json, _: ArmSettings) -> str:
    for container in _clients(pod):
        for mount in container.get("volumeMounts") or []:
            if mount["mountPath"].startswith(f"{TOKEN_PLACE}/"):
                return f"its container {container['name']} mounts {mount['mountPath']}, inside the folder of the token"
    return ""


def _with_our_name(pod: Json, _: ArmSettings) -> str:
    if any(container["name"] == PROXY for container in pod["spec"].get("containers") or []):
        return f"a container of its own is named {PROXY}"
    return ""


def _on_our_port(pod: Json, _: ArmSettings) -> str:
    for container in _own(pod):
        if any(port.get("containerPort") == PORT for port in container.get("ports") or []):
            return f"its container {container['name']} has port {PORT}, which is the proxy's"
    return ""


def without_pull_secret(pod: Json, settings: ArmSettings) -> str:
    if settings.needs_secret and not pod["spec"].get("imagePullSecrets"):
        return f"image {settings.image} is pulled with a Secret, and the pod has none (imagePullSecrets)"
    return ""


def where_the_image_lacks(pod: Json, settings: ArmSettings) -> str:
    """One that waits for our image already, because it was armed before, is none the worse."""
    spec = pod["spec"]
    if any(container.get("image") == settings.image for container in spec.get("initContainers") or []):
        return ""
    lacking = [each for each in settings.lacking if may_come(spec, each.place)]
    if not lacking:
        return ""
    first, others = lacking[0], len(lacking) - 1
    more = f" and {others} more" if others else ""
    return (
        f"it may come to node {first.place.node}{more}, where image {settings.image} cannot be had "
        f"({first.why[:MOST_WORDS]}): have it there, or keep the pod from there (nodeSelector); then make it anew"
    )


QUESTIONS: Final[tuple[Callable[[Json, ArmSettings], str], ...]] = (
    _on_the_nodes_network,
    on_windows,
    _without_token,
    _with_a_server_of_its_own,
    _with_mounts_inside,
    _with_our_name,
    _on_our_port,
    without_pull_secret,
    where_the_image_lacks,
)
"""What speaks against it; the first with an answer decides."""


def _armed(pod: Json, settings: ArmSettings) -> Json:
    armed = copy.deepcopy(pod)
    metadata, spec = armed["metadata"], armed["spec"]
    metadata["labels"] = {**labels_of(pod), ARMED_LABEL: "true"}
    metadata["annotations"] = {**(metadata.get("annotations") or {}), ARMED_BY: settings.version}
    metadata["annotations"].pop(NOT_ARMED, None)
    links = sorted({name for container in _clients(pod) for name in _files(pod, container)})
    for container in _clients(armed):
        _lead_through(armed, container)
    before = [container for container in spec.get("initContainers") or [] if container["name"] != PROXY]
    spec["initContainers"] = [_proxy(settings, links, limited=not spec.get("resources")), *before]
    others = [volume for volume in spec.get("volumes") or [] if volume["name"] not in VOLUMES]
    spec["volumes"] = [*others, *_volumes()]
    return armed


def _lead_through(pod: Json, container: Json) -> None:
    """To the proxy, by the environment, which goes before what the kubelet says, and by what it trusts."""
    kept = [variable for variable in container.get("env") or [] if variable["name"] not in VARIABLES]
    container["env"] = [*({"name": name, "value": value} for name, value in VARIABLES.items()), *kept]
    mounts = [mount for mount in container["volumeMounts"] if mount["name"] != AUTHORITY]
    for mount in mounts:
        if mount["mountPath"] == TOKEN_PLACE and _is_of_token(pod, mount["name"]):
            mount["mountPath"] = MOVED_PLACE
    container["volumeMounts"] = [*mounts, {"name": AUTHORITY, "mountPath": TOKEN_PLACE, "readOnly": True}]


def _proxy(settings: ArmSettings, links: list[str], *, limited: bool) -> Json:
    """A native sidecar: before all others, restarted by itself, and no reason for a Job not to end.

    It has no token: it forwards those of its clients. Unless `limited`, the pod as a whole has bounds.
    """
    return {
        "name": PROXY,
        "image": settings.image,
        "imagePullPolicy": settings.pull_policy,
        "command": ["python3", "-m", "bounceback.gate"],
        "restartPolicy": "Always",
        "env": [
            {"name": PORT_VARIABLE, "value": str(PORT)},
            {"name": LINKS_VARIABLE, "value": ",".join(links)},
        ],
        "startupProbe": {
            "exec": {"command": ["python3", "-m", "bounceback.gate", "ready"]},
            "periodSeconds": 1,
            "timeoutSeconds": 5,
            "failureThreshold": 60,
        },
        **({"resources": settings.resources} if limited else {}),
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": [
            {"name": AUTHORITY, "mountPath": "/bounceback/ca"},
            {"name": KEY, "mountPath": "/bounceback/key"},
            {"name": SERVER, "mountPath": TOKEN_PLACE, "readOnly": True},
        ],
    }


def _volumes() -> list[Json]:
    memory: Json = {"medium": "Memory", "sizeLimit": "1Mi"}
    authority = {"name": SERVER_AUTHORITY, "items": [{"key": "ca.crt", "path": "ca.crt"}]}
    return [
        {"name": AUTHORITY, "emptyDir": memory},
        {"name": KEY, "emptyDir": memory},
        {"name": SERVER, "projected": {"sources": [{"configMap": authority}]}},
    ]


def _own(pod: Json) -> list[Json]:
    """The pod's own containers."""
    spec = pod["spec"]
    init = [container for container in spec.get("initContainers") or [] if container["name"] != PROXY]
    return [*init, *(spec.get("containers") or [])]


def _clients(pod: Json) -> list[Json]:
    """Those that speak to the API server as the pod's account."""
    return [container for container in _own(pod) if any(_token_volumes(pod, container))]


def _token_volumes(pod: Json, container: Json) -> Iterator[Json]:
    """Those that are where clients look for them, or have been moved from there."""
    for mount in container.get("volumeMounts") or []:
        if mount["mountPath"] in (TOKEN_PLACE, MOVED_PLACE):
            yield from (v for v in pod["spec"].get("volumes") or [] if v["name"] == mount["name"] and _gives_token(v))


def _is_of_token(pod: Json, name: str) -> bool:
    return any(volume["name"] == name and _gives_token(volume) for volume in pod["spec"].get("volumes") or [])


def _gives_token(volume: Json) -> bool:
    """As the API server adds it, or made by hand; people also mount empty folders there, to hide the token."""
    sources = (volume.get("projected") or {}).get("sources") or []
    return any(source.get("serviceAccountToken") for source in sources) or "secret" in volume


def _files(pod: Json, container: Json) -> Iterator[str]:
    """What lies beside ca.crt in the token's folder."""
    for volume in _token_volumes(pod, container):
        yield from USUAL_FILES
        for source in (volume.get("projected") or {}).get("sources") or []:
            for part in source.values():
                items = [part, *(part.get("items") or [])]
                paths = [each["path"] for each in items if each.get("path")]
                yield from (path.partition("/")[0] for path in paths if path != "ca.crt")


def _noted(pod: Json, refused: str) -> Json:
    noted = copy.deepcopy(pod)
    noted["metadata"]["annotations"] = {**(pod["metadata"].get("annotations") or {}), NOT_ARMED: refused}
    return noted


def patch_of(before: Json, after: Json) -> list[Json]:
    """Whole members are replaced; for `add` it is all the same whether they are there (RFC 6902 section 4.1)."""
    return [
        {"op": "add", "path": f"/{part}/{name}", "value": value}
        for part in ("metadata", "spec")
        for name, value in after[part].items()
        if before[part].get(name) != value
    ]


def labels_of(pod: Json) -> dict[str, str]:
    return pod["metadata"].get("labels") or {}
