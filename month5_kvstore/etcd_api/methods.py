"""The methods of etcd's API: one table that both doors, JSON and gRPC, are built from."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from month5_kvstore.etcd_api.messages import SCHEMA
from month5_kvstore.etcd_api.schema import MessageType

PACKAGE = "etcdserverpb"


class Shape(Enum):
    """How many messages go in and out."""

    CALL = "one in, one out"
    DOWNLOAD = "one in, many out"
    CONVERSATION = "many in, many out"


@dataclass(frozen=True, slots=True)
class Method:
    """paths: below /v3, of the JSON gateway."""

    service: str
    name: str
    paths: tuple[str, ...]
    request: MessageType
    answer: MessageType
    shape: Shape = Shape.CALL


def _method(
    service: str, name: str, *paths: str, message: str = "", shape: Shape = Shape.CALL
) -> Method:
    stem = message or name
    return Method(service, name, paths, SCHEMA[f"{stem}Request"], SCHEMA[f"{stem}Response"], shape)


METHODS = (
    _method("KV", "Range", "/kv/range"),
    _method("KV", "Put", "/kv/put"),
    _method("KV", "DeleteRange", "/kv/deleterange"),
    _method("KV", "Txn", "/kv/txn"),
    _method("KV", "Compact", "/kv/compaction", message="Compaction"),
    _method("Watch", "Watch", "/watch", shape=Shape.CONVERSATION),
    _method("Lease", "LeaseGrant", "/lease/grant"),
    _method("Lease", "LeaseRevoke", "/lease/revoke", "/kv/lease/revoke"),
    _method("Lease", "LeaseKeepAlive", "/lease/keepalive", shape=Shape.CONVERSATION),
    _method("Lease", "LeaseTimeToLive", "/lease/timetolive", "/kv/lease/timetolive"),
    _method("Lease", "LeaseLeases", "/lease/leases", "/kv/lease/leases"),
    _method("Cluster", "MemberList", "/cluster/member/list"),
    _method("Maintenance", "Alarm", "/maintenance/alarm"),
    _method("Maintenance", "Status", "/maintenance/status"),
    _method("Maintenance", "Defragment", "/maintenance/defragment"),
    _method("Maintenance", "Hash", "/maintenance/hash"),
    _method("Maintenance", "HashKV"),
    _method("Maintenance", "Snapshot", "/maintenance/snapshot", shape=Shape.DOWNLOAD),
    _method("Auth", "Authenticate", "/auth/authenticate"),
)
"""Everything that is answered. What etcd has beyond it is `UNIMPLEMENTED`, or 404."""
