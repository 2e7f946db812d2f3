"""The Kubernetes API as the operator uses it: plain JSON objects over the `kubernetes` package's async client."""

from bounceback.kube.client import Kube
from bounceback.kube.errors import KubeError, WatchGoneError
from bounceback.kube.resources import Resource

__all__ = ["Kube", "KubeError", "Resource", "WatchGoneError"]
