"""Bad certificates by an authority that clients trust: signed here, so that its key goes nowhere else."""

from __future__ import annotations

from bounceback.faults.tls_fault import TlsFault
from bounceback.kube.client import Kube
from bounceback.types.names import Leaf
from bounceback.vehicles.authorities import read_pair
from bounceback.vehicles.errors import Refused


async def leaf_for(acting: Kube, namespace: str, account: str, fault: TlsFault, field: str) -> Leaf | None:
    """What the fault's authority has signed for its names; None where it has none. `field` is where the fault stands.

    The key is read, used and forgotten: only the leaf is planned, journaled and sent. Raises Refused, KubeError.
    """
    if fault.authority is None:
        return None
    name, place = fault.authority.secret_name, f"{field}.authority.secretName"
    certificate, key = await read_pair(acting, namespace, account, name, place)
    from bounceback.proxy import certificates  # heavy, and seldom wanted

    try:
        authority = certificates.Authority.from_pem(certificate, key)
    except certificates.UnfitError as error:
        raise Refused(place, "SecretInvalid", f"Secret {name}: {error}") from error
    names = fault.signed_names(namespace)
    try:
        return certificates.leaf(authority, fault.answer, names)
    except ValueError as error:
        part = "names" if fault.names else "peers"
        message = f"{', '.join(names)} cannot be in a certificate: {error}"
        raise Refused(f"{field}.{part}", "NameInvalid", message) from error
