"""Whose folder this is: cluster, node, and a number that no other folder ever had.

A node whose folder was wiped has forgotten its votes. Under its old id it could vote twice in one
term, or deny entries that it acknowledged. So a folder is made once, on purpose, with a `store_id`
of its own; peers remember the store id of each node id and refuse another one. A node that lost
its folder comes back under a new id, by a membership change.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import xxhash

from month5_kvstore.log.disk import Disk, write_all
from month5_kvstore.log.errors import DamagedLog, NotInitialised, WrongIdentity
from month5_kvstore.log.points import Point
from scalelab.errors import InvalidInput

IDENTITY_FILE = "identity"
UNFINISHED_IDENTITY = "identity.new"
_CLUSTER = re.compile(r"^[a-z0-9][a-z0-9-]{0,62}$")
_STORE = re.compile(r"^[0-9a-f]{32}$")


@dataclass(frozen=True, slots=True)
class Identity:
    """cluster_id: 1..63 of a-z, 0-9, -. node_id: >= 1. store_id: 32 hexadecimal digits, random."""

    cluster_id: str
    node_id: int
    store_id: str

    def __post_init__(self) -> None:
        if not _CLUSTER.match(self.cluster_id):
            raise InvalidInput(f"{self.cluster_id!r} is no cluster id", field="cluster_id")
        if not 1 <= self.node_id < 1 << 32:
            raise InvalidInput(f"{self.node_id} is no node id", field="node_id")
        if not _STORE.match(self.store_id):
            raise InvalidInput(f"{self.store_id!r} is no store id", field="store_id")


def write_identity(disk: Disk, identity: Identity) -> None:
    """Put the file in its place, whole, on the disk. Raises OSError."""
    members = asdict(identity)
    content = json.dumps({**members, "check": _check(members)}, indent=1).encode() + b"\n"
    file = disk.create(UNFINISHED_IDENTITY)
    try:
        disk.reached(Point.IDENTITY_CREATED)
        write_all(file, content)
        disk.reached(Point.IDENTITY_WRITTEN)
        file.sync()
    finally:
        file.close()
    disk.reached(Point.IDENTITY_SYNCED)
    disk.rename(UNFINISHED_IDENTITY, IDENTITY_FILE)
    disk.reached(Point.IDENTITY_NAMED)
    disk.sync_folder()


def read_identity(disk: Disk) -> Identity:
    """Whose folder it is. Raises NotInitialised, DamagedLog code `damaged_identity`."""
    try:
        content = disk.read(IDENTITY_FILE)
    except FileNotFoundError:
        raise NotInitialised(
            "this folder holds no log. A new node makes one on purpose; a node that lost its "
            "folder must come back under a new node id"
        ) from None
    try:
        members: Any = json.loads(content)
        check = members.pop("check")
        identity = Identity(**members)
    except (ValueError, TypeError, AttributeError, KeyError, InvalidInput) as error:
        raise DamagedLog("the identity file cannot be read", code="damaged_identity") from error
    if check != _check(asdict(identity)):
        raise DamagedLog("the identity file was changed", code="damaged_identity")
    return identity


def require(identity: Identity, *, cluster_id: str, node_id: int) -> None:
    """Raises WrongIdentity code `wrong_cluster` or `wrong_node` unless it is that one's folder."""
    if identity.cluster_id != cluster_id:
        raise WrongIdentity(
            f"this is a folder of cluster {identity.cluster_id}, not of {cluster_id}",
            code="wrong_cluster",
        )
    if identity.node_id != node_id:
        raise WrongIdentity(
            f"this is the folder of node {identity.node_id}, not of {node_id}", code="wrong_node"
        )


def admit(known: Mapping[int, str], own: Identity, peer: Identity) -> dict[int, str]:
    """What is known of peers once `peer` said hello: the store id of each node id.

    Raises WrongIdentity: `wrong_cluster`; `node_id_taken` if the peer says it is we; `wiped_node`
    if that node id had another folder before.
    """
    if peer.cluster_id != own.cluster_id:
        raise WrongIdentity(
            f"a peer of cluster {peer.cluster_id} spoke to one of {own.cluster_id}",
            code="wrong_cluster",
        )
    if peer.node_id == own.node_id:
        raise WrongIdentity(f"a peer says that it is node {own.node_id}", code="node_id_taken")
    if known.get(peer.node_id, peer.store_id) != peer.store_id:
        raise WrongIdentity(
            f"node {peer.node_id} came back with another folder: it has forgotten its votes. "
            f"Remove it from the cluster and add it under a new id",
            code="wiped_node",
        )
    return {**known, peer.node_id: peer.store_id}


def _check(members: Mapping[str, object]) -> str:
    return xxhash.xxh3_64_hexdigest(json.dumps(members, sort_keys=True).encode())
