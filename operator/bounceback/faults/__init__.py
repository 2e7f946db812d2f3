"""One class a fault. `KINDS` is all there are; adding one here is what makes it a field of an experiment."""

from typing import Final

from bounceback.faults.base import Fault
from bounceback.faults.network_bandwidth import NetworkBandwidth
from bounceback.faults.network_corrupt import NetworkCorrupt
from bounceback.faults.network_delay import NetworkDelay
from bounceback.faults.network_duplicate import NetworkDuplicate
from bounceback.faults.network_loss import NetworkLoss
from bounceback.faults.network_partition import NetworkPartition
from bounceback.faults.network_reorder import NetworkReorder
from bounceback.faults.pod_delete import PodDelete

KINDS: Final[tuple[type[Fault], ...]] = (
    NetworkPartition,
    NetworkDelay,
    NetworkLoss,
    NetworkDuplicate,
    NetworkCorrupt,
    NetworkReorder,
    NetworkBandwidth,
    PodDelete,
)

__all__ = [
    "KINDS",
    "Fault",
    "NetworkBandwidth",
    "NetworkCorrupt",
    "NetworkDelay",
    "NetworkDuplicate",
    "NetworkLoss",
    "NetworkPartition",
    "NetworkReorder",
    "PodDelete",
]
