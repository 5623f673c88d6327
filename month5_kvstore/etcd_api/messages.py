"""etcd's messages, version 3.4: names and numbers are its interface and must never change.

Only what this room answers is here. A field that is read and has no effect says so.
"""

from __future__ import annotations

from month5_kvstore.etcd_api.schema import Field, Kind, MessageType, Schema

SORT_ORDERS = ("NONE", "ASCEND", "DESCEND")
SORT_TARGETS = ("KEY", "VERSION", "CREATE", "MOD", "VALUE")
RELATIONS = ("EQUAL", "GREATER", "LESS", "NOT_EQUAL")
COMPARED = ("VERSION", "CREATE", "MOD", "VALUE", "LEASE")
EVENT_KINDS = ("PUT", "DELETE")
WATCH_FILTERS = ("NOPUT", "NODELETE")
ALARM_ACTIONS = ("GET", "ACTIVATE", "DEACTIVATE")
ALARMS = ("NONE", "NOSPACE", "CORRUPT")


def _int(name: str, number: int) -> Field:
    return Field(name, number, Kind.INT64)


def _uint(name: str, number: int) -> Field:
    return Field(name, number, Kind.UINT64)


def _flag(name: str, number: int) -> Field:
    return Field(name, number, Kind.BOOL)


def _bytes(name: str, number: int) -> Field:
    return Field(name, number, Kind.BYTES)


def _text(name: str, number: int, *, many: bool = False) -> Field:
    return Field(name, number, Kind.TEXT, many)


def _choice(name: str, number: int, names: tuple[str, ...], *, many: bool = False) -> Field:
    return Field(name, number, Kind.CHOICE, many, names)


def _part(name: str, number: int, of: str, *, many: bool = False) -> Field:
    return Field(name, number, Kind.PART, many, of=of)


_HEADER = _part("header", 1, "ResponseHeader")


def _type(name: str, *fields: Field) -> MessageType:
    return MessageType(name, fields)


SCHEMA = Schema(
    _type(
        "ResponseHeader",
        _uint("cluster_id", 1),
        _uint("member_id", 2),
        _int("revision", 3),
        _uint("raft_term", 4),
    ),
    _type(
        "KeyValue",
        _bytes("key", 1),
        _int("create_revision", 2),
        _int("mod_revision", 3),
        _int("version", 4),
        _bytes("value", 5),
        _int("lease", 6),
    ),
    _type(
        "RangeRequest",
        _bytes("key", 1),
        _bytes("range_end", 2),
        _int("limit", 3),
        _int("revision", 4),
        _choice("sort_order", 5, SORT_ORDERS),
        _choice("sort_target", 6, SORT_TARGETS),
        _flag("serializable", 7),
        _flag("keys_only", 8),
        _flag("count_only", 9),
        _int("min_mod_revision", 10),
        _int("max_mod_revision", 11),
        _int("min_create_revision", 12),
        _int("max_create_revision", 13),
    ),
    _type(
        "RangeResponse",
        _HEADER,
        _part("kvs", 2, "KeyValue", many=True),
        _flag("more", 3),
        _int("count", 4),
    ),
    _type(
        "PutRequest",
        _bytes("key", 1),
        _bytes("value", 2),
        _int("lease", 3),
        _flag("prev_kv", 4),
        _flag("ignore_value", 5),
        _flag("ignore_lease", 6),
    ),
    _type("PutResponse", _HEADER, _part("prev_kv", 2, "KeyValue")),
    _type("DeleteRangeRequest", _bytes("key", 1), _bytes("range_end", 2), _flag("prev_kv", 3)),
    _type(
        "DeleteRangeResponse",
        _HEADER,
        _int("deleted", 2),
        _part("prev_kvs", 3, "KeyValue", many=True),
    ),
    _type(
        "RequestOp",
        _part("request_range", 1, "RangeRequest"),
        _part("request_put", 2, "PutRequest"),
        _part("request_delete_range", 3, "DeleteRangeRequest"),
        _part("request_txn", 4, "TxnRequest"),
    ),
    _type(
        "ResponseOp",
        _part("response_range", 1, "RangeResponse"),
        _part("response_put", 2, "PutResponse"),
        _part("response_delete_range", 3, "DeleteRangeResponse"),
        _part("response_txn", 4, "TxnResponse"),
    ),
    _type(
        "Compare",
        _choice("result", 1, RELATIONS),
        _choice("target", 2, COMPARED),
        _bytes("key", 3),
        _int("version", 4),
        _int("create_revision", 5),
        _int("mod_revision", 6),
        _bytes("value", 7),
        _int("lease", 8),
        _bytes("range_end", 64),
    ),
    _type(
        "TxnRequest",
        _part("compare", 1, "Compare", many=True),
        _part("success", 2, "RequestOp", many=True),
        _part("failure", 3, "RequestOp", many=True),
    ),
    _type(
        "TxnResponse",
        _HEADER,
        _flag("succeeded", 2),
        _part("responses", 3, "ResponseOp", many=True),
    ),
    _type("CompactionRequest", _int("revision", 1), _flag("physical", 2)),  # physical: no effect
    _type("CompactionResponse", _HEADER),
    _type("LeaseGrantRequest", _int("TTL", 1), _int("ID", 2)),
    _type("LeaseGrantResponse", _HEADER, _int("ID", 2), _int("TTL", 3), _text("error", 4)),
    _type("LeaseRevokeRequest", _int("ID", 1)),
    _type("LeaseRevokeResponse", _HEADER),
    _type("LeaseKeepAliveRequest", _int("ID", 1)),
    _type("LeaseKeepAliveResponse", _HEADER, _int("ID", 2), _int("TTL", 3)),
    _type("LeaseTimeToLiveRequest", _int("ID", 1), _flag("keys", 2)),
    _type(
        "LeaseTimeToLiveResponse",
        _HEADER,
        _int("ID", 2),
        _int("TTL", 3),
        _int("grantedTTL", 4),
        Field("keys", 5, Kind.BYTES, many=True),
    ),
    _type("LeaseLeasesRequest"),
    _type("LeaseStatus", _int("ID", 1)),
    _type("LeaseLeasesResponse", _HEADER, _part("leases", 2, "LeaseStatus", many=True)),
    _type(
        "Event",
        _choice("type", 1, EVENT_KINDS),
        *(_part(name, number, "KeyValue") for name, number in (("kv", 2), ("prev_kv", 3))),
    ),
    _type(
        "WatchCreateRequest",
        _bytes("key", 1),
        _bytes("range_end", 2),
        _int("start_revision", 3),
        _flag("progress_notify", 4),
        _choice("filters", 5, WATCH_FILTERS, many=True),
        _flag("prev_kv", 6),
        _int("watch_id", 7),
        _flag("fragment", 8),  # no effect: no message here is ever a fragment
    ),
    _type("WatchCancelRequest", _int("watch_id", 1)),
    _type("WatchProgressRequest"),
    _type(
        "WatchRequest",
        _part("create_request", 1, "WatchCreateRequest"),
        _part("cancel_request", 2, "WatchCancelRequest"),
        _part("progress_request", 3, "WatchProgressRequest"),
    ),
    _type(
        "WatchResponse",
        _HEADER,
        _int("watch_id", 2),
        _flag("created", 3),
        _flag("canceled", 4),
        _int("compact_revision", 5),
        _text("cancel_reason", 6),
        _part("events", 11, "Event", many=True),
    ),
    _type(
        "Member",
        _uint("ID", 1),
        _text("name", 2),
        _text("peerURLs", 3, many=True),
        _text("clientURLs", 4, many=True),
        _flag("isLearner", 5),
    ),
    _type("MemberListRequest"),
    _type("MemberListResponse", _HEADER, _part("members", 2, "Member", many=True)),
    _type("StatusRequest"),
    _type(
        "StatusResponse",
        _HEADER,
        _text("version", 2),
        _int("dbSize", 3),
        _uint("leader", 4),
        _uint("raftIndex", 5),
        _uint("raftTerm", 6),
        _uint("raftAppliedIndex", 7),
        _text("errors", 8, many=True),
        _int("dbSizeInUse", 9),
    ),
    _type(
        "AlarmRequest",
        _choice("action", 1, ALARM_ACTIONS),
        _uint("memberID", 2),
        _choice("alarm", 3, ALARMS),
    ),
    _type("AlarmMember", _uint("memberID", 1), _choice("alarm", 2, ALARMS)),
    _type("AlarmResponse", _HEADER, _part("alarms", 2, "AlarmMember", many=True)),
    _type("DefragmentRequest"),
    _type("DefragmentResponse", _HEADER),
    _type("HashRequest"),
    _type("HashResponse", _HEADER, Field("hash", 2, Kind.UINT32)),
    _type("HashKVRequest", _int("revision", 1)),
    _type("HashKVResponse", _HEADER, Field("hash", 2, Kind.UINT32), _int("compact_revision", 3)),
    _type("SnapshotRequest"),
    _type("SnapshotResponse", _HEADER, _uint("remaining_bytes", 2), _bytes("blob", 3)),
    _type("AuthenticateRequest", _text("name", 1), _text("password", 2)),
    _type("AuthenticateResponse", _HEADER, _text("token", 2)),
)
