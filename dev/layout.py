"""The addresses and names that every development cluster uses inside its own network."""

from typing import Final

BRIDGE: Final = "node0"  # carries the node's address; other nodes are joined to it
GATEWAY: Final = "10.250.0.1"  # nobody: traffic to the outside ends here
API_PORT: Final = 6443
SERVICE_RANGE: Final = "10.96.0.0/16"
KUBERNETES_SERVICE: Final = "10.96.0.1"
DNS_SERVICE: Final = "10.96.0.10"
POD_RANGE: Final = "10.244.0.0/16"
DOMAIN: Final = "cluster.local"
FIRST_NODE: Final = "node-1"
OTHER_KERNEL_NODE: Final = "node-uml"
NODE_ADDRESSES: Final = {FIRST_NODE: "10.250.0.2", OTHER_KERNEL_NODE: "10.250.0.3"}
NODE_PODS: Final = {FIRST_NODE: "10.244.0.0/24", OTHER_KERNEL_NODE: "10.244.1.0/24"}
PAUSE_IMAGE: Final = "bounceback.local/pause:1"
COREDNS_IMAGE: Final = "bounceback.local/coredns:1"
BUSYBOX_IMAGE: Final = "bounceback.local/busybox:1"
