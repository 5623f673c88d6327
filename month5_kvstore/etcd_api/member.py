"""A member of the cluster as etcd's clients see it: each method of the API, carried out by a node.

    member = Member(node, {1: ("http://127.0.0.1:8501",)})
    answer = await member.call("Put", {"key": b"a", "value": b"1"})

Everything lies in group 0: one order of revisions for all keys, as etcd's clients expect.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Mapping

import xxhash

from month5_kvstore.etcd_api.answers import (
    delete_response,
    put_response,
    range_response,
    txn_response,
)
from month5_kvstore.etcd_api.errors import (
    AUTH_NOT_ENABLED,
    FUTURE_REVISION,
    LEASE_NOT_FOUND,
    refuse,
    told,
)
from month5_kvstore.etcd_api.requests import (
    compact_of,
    delete_of,
    grant_of,
    put_of,
    reading_of,
    trial_of,
)
from month5_kvstore.etcd_api.schema import Message
from month5_kvstore.etcd_api.snapshot_file import digest_of, sealed
from month5_kvstore.etcd_api.watching import watching
from month5_kvstore.node import GroupDriver, Node
from month5_kvstore.store import (
    REFUSALS,
    Answer,
    Command,
    Deleted,
    Disarm,
    Interval,
    KeepAlive,
    LeaseAnswer,
    PassTime,
    PutDone,
    Range,
    Refused,
    RevisionCompacted,
    Revoke,
    TransactionDone,
    freeze,
)
from scalelab.errors import InvariantBroken, ScalelabError

VERSION = "3.4.0"
"""Of the API that is answered here."""

GROUP = 0
DEADLINE_S = 7.0
_BLOB_BYTES = 64 << 10
_NOSPACE = 1
_DEACTIVATE = 2


class Member:
    """node: carries out what is asked. clients: for every node of the cluster where its API is
    found, as member lists say it.

    progress_s: silence after which a watcher that wants it hears how far it is.
    """

    def __init__(
        self, node: Node, clients: Mapping[int, tuple[str, ...]], *, progress_s: float = 600.0
    ) -> None:
        self.node = node
        self._clients = clients
        self._progress_s = progress_s
        self._cluster_id = _number(node.config.cluster_id)
        self._ids = {one: _number(f"{node.config.cluster_id}/{one}") for one in node.config.peers}
        self._calls: dict[str, Callable[[Message, float], Awaitable[Message]]] = {
            "Range": self._range,
            "Put": self._put,
            "DeleteRange": self._delete_range,
            "Txn": self._txn,
            "Compact": self._compact,
            "LeaseGrant": self._lease_grant,
            "LeaseRevoke": self._lease_revoke,
            "LeaseTimeToLive": self._lease_time_to_live,
            "LeaseLeases": self._lease_leases,
            "MemberList": self._member_list,
            "Alarm": self._alarm,
            "Status": self._status,
            "Defragment": self._defragment,
            "Hash": self._hash,
            "HashKV": self._hash_kv,
            "Authenticate": self._authenticate,
        }

    @property
    def healthy(self) -> bool:
        """Whether a leader is known and there is space."""
        return bool(self._driver.raft.leader) and not self._driver.store.alarm

    async def call(
        self, method: str, request: Message, *, deadline_s: float = DEADLINE_S
    ) -> Message:
        """One question, one answer. Raises EtcdError."""
        try:
            return await self._calls[method](request, deadline_s)
        except ScalelabError as error:
            raise told(error) from error

    async def keep_alive(self, requests: AsyncIterable[Message]) -> AsyncGenerator[Message, None]:
        """LeaseKeepAlive: an answer for each request, TTL 0 for a lease that has ended."""
        async for request in requests:
            lease = request.get("ID", 0)
            ttl_s = 0
            try:
                answer = await self._execute(KeepAlive(lease), DEADLINE_S)
                ttl_s = answer.ttl_ms // 1000 if isinstance(answer, LeaseAnswer) else 0
            except ScalelabError as error:
                if told(error).status != LEASE_NOT_FOUND[0]:
                    raise told(error) from error
            yield {"header": self._header(), "ID": lease, "TTL": ttl_s}

    def watch(self, requests: AsyncIterable[Message]) -> AsyncGenerator[Message, None]:
        """Watch: any number of watchers in one conversation."""
        return watching(requests, self._driver, self._header, progress_s=self._progress_s)

    async def snapshot(self) -> AsyncGenerator[Message, None]:
        """Snapshot: what this node has applied, in pieces, with its checksum at the end."""
        frozen = freeze(self._driver.store)
        data = await asyncio.to_thread(lambda: sealed(frozen.encode()))
        for at in range(0, len(data), _BLOB_BYTES):
            blob = data[at : at + _BLOB_BYTES]
            left = len(data) - at - len(blob)
            yield {"header": self._header(), "remaining_bytes": left, "blob": blob}

    @property
    def _driver(self) -> GroupDriver:
        return self.node.groups[GROUP]

    def _header(self, revision: int | None = None) -> Message:
        driver = self._driver
        return {
            "cluster_id": self._cluster_id,
            "member_id": self._ids[self.node.config.node_id],
            "revision": driver.store.revision if revision is None else revision,
            "raft_term": driver.raft.term,
        }

    async def _execute(self, command: Command, deadline_s: float) -> Answer:
        answer = await self.node.execute(GROUP, command, deadline_s=deadline_s)
        if not isinstance(answer, Refused):
            return answer
        if answer.code == RevisionCompacted.code:
            raise RevisionCompacted(0, answer.detail)
        raise REFUSALS.get(answer.code, ScalelabError)(answer.message, code=answer.code)

    async def _catch_up(self, deadline_s: float) -> None:
        """From here on this node has seen everything that was answered before."""
        nothing = Range(Interval(b"\0"), count_only=True)
        await self.node.read(GROUP, nothing, deadline_s=deadline_s)

    async def _range(self, request: Message, deadline_s: float) -> Message:
        reading = reading_of(request)
        eventual = request.get("serializable", False)
        found = await self.node.read(GROUP, reading.query, deadline_s=deadline_s, eventual=eventual)
        return range_response(found, reading, self._header)

    async def _put(self, request: Message, deadline_s: float) -> Message:
        done = await self._execute(put_of(request), deadline_s)
        if not isinstance(done, PutDone):
            raise _out_of_place(done)
        return put_response(done, self._header)

    async def _delete_range(self, request: Message, deadline_s: float) -> Message:
        done = await self._execute(delete_of(request), deadline_s)
        if not isinstance(done, Deleted):
            raise _out_of_place(done)
        return delete_response(done, self._header)

    async def _txn(self, request: Message, deadline_s: float) -> Message:
        trial = trial_of(request)
        done = await self._execute(trial.command, deadline_s)
        if not isinstance(done, TransactionDone):
            raise _out_of_place(done)
        return txn_response(done, trial, self._header)

    async def _compact(self, request: Message, deadline_s: float) -> Message:
        await self._execute(compact_of(request), deadline_s)
        return {"header": self._header()}

    async def _lease_grant(self, request: Message, deadline_s: float) -> Message:
        done = await self._execute(grant_of(request), deadline_s)
        if not isinstance(done, LeaseAnswer):
            raise _out_of_place(done)
        return {"header": self._header(), "ID": done.id, "TTL": done.ttl_ms // 1000}

    async def _lease_revoke(self, request: Message, deadline_s: float) -> Message:
        await self._execute(Revoke(request.get("ID", 0)), deadline_s)
        return {"header": self._header()}

    async def _lease_time_to_live(self, request: Message, deadline_s: float) -> Message:
        """The store's time is that of its last command: one that only passes time asks for it."""
        await self._execute(PassTime(), deadline_s)
        await self._catch_up(deadline_s)
        store, number = self._driver.store, request.get("ID", 0)
        lease = store.leases.table.get(number)
        if lease is None:
            return {"header": self._header(), "ID": number, "TTL": -1}
        return {
            "header": self._header(),
            "ID": number,
            "TTL": max(0, lease.deadline_ms - store.time_ms) // 1000,
            "grantedTTL": lease.ttl_ms // 1000,
            "keys": sorted(lease.keys) if request.get("keys") else [],
        }

    async def _lease_leases(self, _: Message, deadline_s: float) -> Message:
        await self._catch_up(deadline_s)
        table = self._driver.store.leases.table
        ids = sorted(table, key=lambda one: (table[one].deadline_ms, one))
        return {"header": self._header(), "leases": [{"ID": one} for one in ids]}

    async def _member_list(self, _: Message, deadline_s: float) -> Message:
        members = [
            {
                "ID": self._ids[node],
                "name": f"kvnode-{node}",
                "peerURLs": [f"http://{host}:{port}"],
                "clientURLs": list(self._clients.get(node, ())),
            }
            for node, (host, port) in sorted(self.node.config.peers.items())
        ]
        return {"header": self._header(0), "members": members}

    async def _alarm(self, request: Message, deadline_s: float) -> Message:
        if request.get("action", 0) == _DEACTIVATE:
            await self._execute(Disarm(), deadline_s)
        await self._catch_up(deadline_s)
        own = self._ids[self.node.config.node_id]
        alarms = [{"memberID": own, "alarm": _NOSPACE}] if self._driver.store.alarm else []
        return {"alarms": alarms}

    async def _status(self, _: Message, deadline_s: float) -> Message:
        driver = self._driver
        return {
            "header": self._header(),
            "version": VERSION,
            "dbSize": driver.store.size_bytes,
            "leader": self._ids.get(driver.raft.leader, 0),
            "raftIndex": driver.raft.committed,
            "raftTerm": driver.raft.term,
            "raftAppliedIndex": driver.applied,
            "errors": ["alarm:NOSPACE"] if driver.store.alarm else [],
            "dbSizeInUse": driver.store.size_bytes,
        }

    async def _defragment(self, _: Message, deadline_s: float) -> Message:
        return {}  # a store in memory has no holes to give back

    async def _hash(self, _: Message, deadline_s: float) -> Message:
        frozen, revision = freeze(self._driver.store), self._driver.store.revision
        digest = await asyncio.to_thread(digest_of, frozen, revision)
        return {"header": self._header(revision), "hash": digest}

    async def _hash_kv(self, request: Message, deadline_s: float) -> Message:
        store = self._driver.store
        revision = request.get("revision", 0) or store.revision
        if revision > store.revision:
            raise refuse(FUTURE_REVISION)
        if revision < store.compacted:
            raise RevisionCompacted(revision, store.compacted)
        header, frozen, compacted = self._header(), freeze(store), store.compacted
        digest = await asyncio.to_thread(digest_of, frozen, revision)
        return {"header": header, "hash": digest, "compact_revision": compacted}

    async def _authenticate(self, _: Message, deadline_s: float) -> Message:
        raise refuse(AUTH_NOT_ENABLED)


def _out_of_place(answer: Answer) -> InvariantBroken:
    return InvariantBroken(f"the store answered with {type(answer).__name__}")


def _number(name: str) -> int:
    return xxhash.xxh3_64_intdigest(name.encode())
