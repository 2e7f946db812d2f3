"""etcd, the API server, the controllers and the scheduler: how they are started."""

import json
from collections.abc import Mapping
from pathlib import Path

from dev import layout
from dev.node import VOLUME_PLUGINS
from dev.plan import Process


def processes(programs: Mapping[str, str], pki: Path, conf: Path) -> list[Process]:
    """The control plane's programs, in the order in which they become useful."""
    return [
        Process("etcd", [programs["etcd"], *_etcd()], notifies=True),
        Process("kube-apiserver", [programs["kube-apiserver"], *_api_server(pki)], notifies=True),
        Process(
            "kube-controller-manager",
            [
                programs["kube-controller-manager"],
                f"--kubeconfig={conf}/controller-manager.kubeconfig",
                f"--service-account-private-key-file={pki}/sa.key",
                f"--root-ca-file={pki}/root.crt",
                f"--cluster-signing-cert-file={pki}/ca.crt",
                f"--cluster-signing-key-file={pki}/ca.key",
                "--use-service-account-credentials",
                "--leader-elect=false",
                "--kube-api-qps=200",  # at the usual 20 its forty controllers take five seconds to start
                "--kube-api-burst=400",
                f"--flex-volume-plugin-dir={VOLUME_PLUGINS}",
            ],
            after=["kube-apiserver"],
        ),
        Process(
            "kube-scheduler",
            [programs["kube-scheduler"], f"--kubeconfig={conf}/scheduler.kubeconfig", "--leader-elect=false"],
            after=["kube-apiserver"],
        ),
        Process("kube-proxy", [programs["kube-proxy"], f"--config={conf}/proxy.json"], after=["kube-apiserver"]),
    ]


def proxy_config(conf: Path) -> str:
    """kube-proxy as in a usual cluster: a pod that calls a Service keeps its own address."""
    return json.dumps(
        {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "nftables",
            "detectLocalMode": "ClusterCIDR",
            "clusterCIDR": layout.POD_RANGE,
            "hostnameOverride": layout.FIRST_NODE,
            "clientConnection": {"kubeconfig": str(conf / "proxy.kubeconfig")},
            "conntrack": {"maxPerCore": 0, "min": 0},  # these limits are the machine's, not the namespace's
        },
        indent=1,
    )


def _etcd() -> list[str]:
    client, peer = "http://127.0.0.1:2379", "http://127.0.0.1:2380"
    return [
        "--data-dir=/var/lib/etcd",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        "--unsafe-no-fsync",  # nobody keeps this data over a crash of the machine
    ]


def _api_server(pki: Path) -> list[str]:
    return [
        "--etcd-servers=http://127.0.0.1:2379",
        f"--service-cluster-ip-range={layout.SERVICE_RANGE}",
        f"--advertise-address={layout.NODE_ADDRESSES[layout.FIRST_NODE]}",
        f"--secure-port={layout.API_PORT}",
        f"--tls-cert-file={pki}/apiserver.crt",
        f"--tls-private-key-file={pki}/apiserver.key",
        f"--client-ca-file={pki}/ca.crt",
        f"--service-account-key-file={pki}/sa.pub",
        f"--service-account-signing-key-file={pki}/sa.key",
        f"--service-account-issuer=https://kubernetes.default.svc.{layout.DOMAIN}",
        "--authorization-mode=Node,RBAC",
        # Added to those that are on by default: admission policies and webhooks, Pod Security, ServiceAccount, quota.
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        f"--kubelet-client-certificate={pki}/kubelet-client.crt",
        f"--kubelet-client-key={pki}/kubelet-client.key",
        f"--kubelet-certificate-authority={pki}/ca.crt",
        "--kubelet-preferred-address-types=InternalIP",
    ]
