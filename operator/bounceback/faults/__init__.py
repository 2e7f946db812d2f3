"""One class a fault. `KINDS` is all there are; adding one here is what makes it a field of an experiment."""

from typing import Final

from bounceback.faults.base import Fault
from bounceback.faults.network_delay import NetworkDelay
from bounceback.faults.network_loss import NetworkLoss
from bounceback.faults.network_partition import NetworkPartition
from bounceback.faults.pod_delete import PodDelete

KINDS: Final[tuple[type[Fault], ...]] = (NetworkPartition, NetworkDelay, NetworkLoss, PodDelete)

__all__ = ["KINDS", "Fault", "NetworkDelay", "NetworkLoss", "NetworkPartition", "PodDelete"]
