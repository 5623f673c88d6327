"""What etcd's requests mean to the store: pure, a message in, a command out.

What the store does not do itself (other orders than that of keys, bounds on revisions) is done with
its answer: a `Reading` knows what is left to do.
"""

from __future__ import annotations

from dataclasses import dataclass

from month5_kvstore.etcd_api.errors import (
    COMPACTED,
    EMPTY_KEY,
    KEY_NOT_FOUND,
    LEASE_PROVIDED,
    LEASE_TTL_TOO_LARGE,
    TOO_MANY_OPERATIONS,
    VALUE_PROVIDED,
    refuse,
)
from month5_kvstore.etcd_api.messages import COMPARED, RELATIONS, SORT_TARGETS
from month5_kvstore.etcd_api.schema import Message
from month5_kvstore.store import (
    Compact,
    Compare,
    Delete,
    Found,
    Grant,
    Interval,
    KeyValue,
    Put,
    Range,
    Relation,
    Step,
    Target,
    Transaction,
)

TTL_S_MIN = 2
"""A shorter lease could end while a leader is being elected; asked for less, this is granted."""

OPERATIONS_MAX = 128
_TTL_S_MAX = 10 * 365 * 86_400
_LIMIT_MAX = 1 << 31
_ALL = b"\0"
_DESCEND = 2
_TARGETS: dict[str, tuple[Target, str]] = {
    "VERSION": (Target.VERSION, "version"),
    "CREATE": (Target.CREATED, "create_revision"),
    "MOD": (Target.MODIFIED, "mod_revision"),
    "VALUE": (Target.VALUE, "value"),
    "LEASE": (Target.LEASE, "lease"),
}
_SORT_BY = dict(zip(SORT_TARGETS, ("key", "version", "created", "modified", "value"), strict=True))


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of revisions, both ends within; 0: no bound."""

    modified_min: int = 0
    modified_max: int = 0
    created_min: int = 0
    created_max: int = 0

    def hold(self, item: KeyValue) -> bool:
        """Whether a key lies within all of them."""
        return (
            item.modified >= self.modified_min
            and item.created >= self.created_min
            and (not self.modified_max or item.modified <= self.modified_max)
            and (not self.created_max or item.created <= self.created_max)
        )


@dataclass(frozen=True, slots=True)
class Reading:
    """A range as it is asked of the store, and what is left to do with the answer.

    limit: 0 for none. sort_by: a field of KeyValue, or None for the order of keys.
    """

    query: Range
    limit: int
    sort_by: str | None
    descending: bool
    bounds: Bounds
    keys_only: bool

    def items(self, found: Found) -> tuple[list[KeyValue], bool]:
        """The keys to tell of, and whether the limit left some out."""
        if self.query.count_only:
            return [], False
        items = [item for item in found.items if self.bounds.hold(item)]
        if self.sort_by is not None:
            name = self.sort_by
            items.sort(key=lambda item: getattr(item, name), reverse=self.descending)
        more = found.more if self.query.limit else bool(self.limit) and len(items) > self.limit
        if self.limit:
            del items[self.limit :]
        if self.keys_only:
            items = [item._replace(value=b"") for item in items]
        return items, more


def interval_of(request: Message) -> Interval:
    """range_end: nothing for one key, a zero byte for all from the key on. Raises EtcdError."""
    key, end = request.get("key", b""), request.get("range_end", b"")
    if not key:
        raise refuse(EMPTY_KEY)
    if not end:
        return Interval(key)
    return Interval(key, b"" if end == _ALL else end)


def reading_of(request: Message) -> Reading:
    """A RangeRequest. Raises EtcdError without a key."""
    order, target = request.get("sort_order", 0), request.get("sort_target", 0)
    descending = order == _DESCEND
    sorts = bool(target) or descending
    bounds = Bounds(
        request.get("min_mod_revision", 0),
        request.get("max_mod_revision", 0),
        request.get("min_create_revision", 0),
        request.get("max_create_revision", 0),
    )
    limit = min(max(0, request.get("limit", 0)), _LIMIT_MAX)
    whole = sorts or bounds != Bounds()
    query = Range(
        interval_of(request),
        max(0, request.get("revision", 0)),
        0 if whole else limit,
        request.get("count_only", False),
        not whole and request.get("keys_only", False),
    )
    return Reading(
        query,
        limit,
        _SORT_BY[SORT_TARGETS[target]] if sorts else None,
        descending,
        bounds,
        request.get("keys_only", False),
    )


def put_of(request: Message) -> Put:
    """A PutRequest. Raises EtcdError without a key, or for a value or lease given and ignored."""
    if not request.get("key"):
        raise refuse(EMPTY_KEY)
    keep_value, keep_lease = request.get("ignore_value", False), request.get("ignore_lease", False)
    if keep_value and request.get("value"):
        raise refuse(VALUE_PROVIDED)
    if keep_lease and request.get("lease"):
        raise refuse(LEASE_PROVIDED)
    return Put(
        request["key"],
        request.get("value", b""),
        request.get("lease", 0),
        keep_value,
        keep_lease,
        request.get("prev_kv", False),
    )


def delete_of(request: Message) -> Delete:
    """A DeleteRangeRequest. Raises EtcdError without a key."""
    return Delete(interval_of(request), request.get("prev_kv", False))


@dataclass(frozen=True, slots=True)
class Trial:
    """A transaction, and what is left to do with its answers, for whichever branch is taken:
    of a range its reading, of a transaction inside its trial, of all else nothing."""

    command: Transaction
    then: tuple[Reading | Trial | None, ...]
    otherwise: tuple[Reading | Trial | None, ...]


def trial_of(request: Message, operations_max: int = OPERATIONS_MAX) -> Trial:
    """A TxnRequest. Raises EtcdError for what cannot be carried out as it stands."""
    compares = request.get("compare", [])
    success, failure = request.get("success", []), request.get("failure", [])
    left = operations_max - max(map(len, (compares, success, failure)))
    if left < 0:
        raise refuse(TOO_MANY_OPERATIONS)
    asked = tuple(map(_compare, compares))
    then, otherwise = [_step(one, left) for one in success], [_step(one, left) for one in failure]
    command = Transaction(asked, tuple(one for one, _ in then), tuple(one for one, _ in otherwise))
    return Trial(command, tuple(one for _, one in then), tuple(one for _, one in otherwise))


def compact_of(request: Message) -> Compact:
    """A CompactionRequest. Raises EtcdError: what lies before the first revision is gone."""
    if request.get("revision", 0) < 1:
        raise refuse(COMPACTED)
    return Compact(request["revision"])


def grant_of(request: Message) -> Grant:
    """A LeaseGrantRequest; TTL in seconds, at least `TTL_S_MIN`. Raises EtcdError."""
    ttl_s = max(TTL_S_MIN, request.get("TTL", 0))
    if ttl_s > _TTL_S_MAX:
        raise refuse(LEASE_TTL_TOO_LARGE)
    return Grant(ttl_s * 1000, request.get("ID", 0))


def _compare(request: Message) -> Compare:
    interval = interval_of(request)
    target, name = _TARGETS[COMPARED[request.get("target", 0)]]
    relation = Relation[RELATIONS[request.get("result", 0)]]
    operand = request.get(name, b"" if target is Target.VALUE else 0)
    return Compare(interval.start, target, relation, operand, interval.end)


def _step(request: Message, operations_max: int) -> tuple[Step, Reading | Trial | None]:
    """operations_max: of a transaction inside, for etcd counts down with each level."""
    if "request_range" in request:
        reading = reading_of(request["request_range"])
        return reading.query, reading
    if "request_put" in request:
        return put_of(request["request_put"]), None
    if "request_delete_range" in request:
        return delete_of(request["request_delete_range"]), None
    if "request_txn" in request:
        trial = trial_of(request["request_txn"], operations_max)
        return trial.command, trial
    raise refuse(KEY_NOT_FOUND)  # what etcd says to an operation that is none
