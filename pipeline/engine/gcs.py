"""Asks Ray's control service (GCS) whether the cluster is up.

If Ray lacks the names in ray_compat.py, only `address` checks; `ray.init` then reports other
problems itself, later and in more words.
"""

from typing import Final

import ray

from pipeline.engine.address import check_answers, cluster_address, not_a_cluster
from pipeline.engine.ray_compat import Private, find
from pipeline.errors import ClusterError

ASK_SECONDS: Final = 15.0
#: gRPC's status code of a server that is not a GCS.
_UNIMPLEMENTED: Final = 12


def check_cluster(address: str | None) -> None:
    """Raises within half a minute if the cluster that a run would use does not answer.

    SpecError for a wrong kind of address or server, ClusterError for a cluster that is down. A Ray
    that this process is connected to is used whatever the address; an embedded Ray is no cluster
    and is not checked.
    """
    if ray.is_initialized():
        return
    place = check_answers(_found(address) or address)
    if place is not None:
        _ask(place)


def _found(address: str | None) -> str | None:
    """Where Ray finds the cluster of this machine, for `auto`."""
    find_cluster = find(Private.FIND_CLUSTER)
    if find_cluster is None or cluster_address(address) != "auto":
        return None
    try:
        found: str | None = find_cluster("auto")
    except ConnectionError as error:
        raise ClusterError(
            "Ray finds no cluster on this machine for --address auto "
            f"({str(error).splitlines()[0]}); give an address, such as head:6379"
        ) from None
    return found


def _ask(place: str) -> None:
    connect = getattr(find(Private.GCS_CLIENT), "standalone", None)
    if connect is None:
        return
    try:
        connect(place, None, int(ASK_SECONDS * 1000))
    except ray.exceptions.AuthenticationError as error:
        raise ClusterError(
            f"{place} admits only clients with its token: set RAY_AUTH_MODE=token and "
            f"RAY_AUTH_TOKEN ({str(error).strip().partition('. ')[0]})"
        ) from None
    except ray.exceptions.RpcError as error:
        if getattr(error, "rpc_code", None) == _UNIMPLEMENTED:
            raise not_a_cluster(place) from None
        raise ClusterError(
            f"no Ray cluster answers at {place}: {str(error).strip().splitlines()[0]}"
        ) from None
