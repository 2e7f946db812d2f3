"""One class a fault. `KINDS` are those of experiments; adding one there is what makes it a field of an experiment.

`API_KINDS` are those of them that are between a client and the Kubernetes API.
"""

from typing import Final

from bounceback.faults.api_fault import ApiFault
from bounceback.faults.auth_fault import AuthFault
from bounceback.faults.base import Fault
from bounceback.faults.client_fault import ClientFault
from bounceback.faults.clock_skew import ClockSkew
from bounceback.faults.connection_data_limit import ConnectionDataLimit
from bounceback.faults.connection_refusal import ConnectionRefusal
from bounceback.faults.connection_reset import ConnectionReset
from bounceback.faults.connection_slicing import ConnectionSlicing
from bounceback.faults.connection_slow_close import ConnectionSlowClose
from bounceback.faults.connection_timeout import ConnectionTimeout
from bounceback.faults.cpu_pressure import CpuPressure
from bounceback.faults.disk_pressure import DiskPressure
from bounceback.faults.dns_fault import DnsFault
from bounceback.faults.file_descriptor_pressure import FileDescriptorPressure
from bounceback.faults.file_fault import FileFault
from bounceback.faults.io_fault import IoDelay, IoError
from bounceback.faults.memory_pressure import MemoryPressure
from bounceback.faults.network_bandwidth import NetworkBandwidth
from bounceback.faults.network_corrupt import NetworkCorrupt
from bounceback.faults.network_delay import NetworkDelay
from bounceback.faults.network_duplicate import NetworkDuplicate
from bounceback.faults.network_loss import NetworkLoss
from bounceback.faults.network_partition import NetworkPartition
from bounceback.faults.network_reorder import NetworkReorder
from bounceback.faults.node_cordon import NodeCordon
from bounceback.faults.node_drain import NodeDrain
from bounceback.faults.node_not_ready import NodeNotReady
from bounceback.faults.object_fault import ObjectFault
from bounceback.faults.pod_delete import PodDelete, PodEvict, PodRemoval
from bounceback.faults.process_pressure import ProcessPressure
from bounceback.faults.process_signal import ContainerKill, ProcessSignal
from bounceback.faults.socket_pressure import SocketPressure
from bounceback.faults.tls_fault import TlsFault

API_KINDS: Final[tuple[type[ClientFault], ...]] = (ApiFault, AuthFault)
KINDS: Final[tuple[type[Fault], ...]] = (
    NetworkPartition,
    NetworkDelay,
    NetworkLoss,
    NetworkDuplicate,
    NetworkCorrupt,
    NetworkReorder,
    NetworkBandwidth,
    ConnectionTimeout,
    ConnectionReset,
    ConnectionRefusal,
    ConnectionSlowClose,
    ConnectionSlicing,
    ConnectionDataLimit,
    DnsFault,
    TlsFault,
    *API_KINDS,
    CpuPressure,
    MemoryPressure,
    ProcessPressure,
    DiskPressure,
    SocketPressure,
    FileFault,
    IoDelay,
    IoError,
    FileDescriptorPressure,
    ProcessSignal,
    ContainerKill,
    ClockSkew,
    PodDelete,
    PodEvict,
    ObjectFault,
    NodeCordon,
    NodeDrain,
    NodeNotReady,
)

__all__ = ["API_KINDS", "KINDS", "Fault", "ObjectFault", "PodRemoval"]
