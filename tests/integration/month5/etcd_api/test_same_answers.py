"""One contract: what is asked of etcd and of the store by etcd's API gets the same answers."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.integration.month5.etcd_api.api import Api, Json, b64, comparable

pytestmark = pytest.mark.timeout(300)

_EXAMPLES = itertools.count(1)
_PREFIX = b"<prefix>"
_LEASES = (1, 2)

Call = tuple[str, Json]
"""Path and body. Bytes stand for keys and values, `_Lease` and `_Revision` for numbers to come."""


class _Lease(int):
    """Of this example."""


class _Revision(int):
    """Counted from where the example began."""


keys = st.sampled_from([b"a", b"b", b"c", b"aa"]).map(_PREFIX.__add__)
ends = st.sampled_from([b"", b"", b"b", b"c", b"\xff"]).map(lambda end: end and _PREFIX + end)
values = st.sampled_from([b"", b"x", b"y", bytes(range(256))])
leases = st.sampled_from(_LEASES).map(_Lease)
revisions = st.integers(1, 12).map(_Revision)
flags = st.booleans()


def optional(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Json]:
    return st.fixed_dictionaries({}, optional=fields)


def joined(*parts: st.SearchStrategy[Json]) -> st.SearchStrategy[Json]:
    return st.tuples(*parts).map(lambda found: {k: v for one in found for k, v in one.items()})


puts = joined(
    st.fixed_dictionaries({"key": keys}),
    optional(value=values, lease=leases, prev_kv=flags, ignore_value=flags, ignore_lease=flags),
)
ranges = joined(
    st.fixed_dictionaries({"key": keys, "range_end": ends}),
    optional(
        revision=revisions,
        limit=st.integers(0, 3),
        sort_order=st.sampled_from(["NONE", "ASCEND", "DESCEND"]),
        sort_target=st.sampled_from(["KEY", "VERSION", "CREATE", "MOD", "VALUE"]),
        keys_only=flags,
        count_only=flags,
        serializable=st.just(False),
    ),
    st.one_of(
        st.just({}),
        optional(
            min_mod_revision=revisions,
            max_mod_revision=revisions,
            min_create_revision=revisions,
            max_create_revision=revisions,
        ),
    ),
)
deletes = st.fixed_dictionaries({"key": keys, "range_end": ends, "prev_kv": flags})
compares = st.one_of(
    [
        st.fixed_dictionaries(
            {
                "key": keys,
                "result": st.sampled_from(["EQUAL", "GREATER", "LESS", "NOT_EQUAL"]),
                "target": st.just(target),
                name: operand,
            },
            optional={"range_end": ends},
        )
        for target, name, operand in (
            ("VERSION", "version", st.integers(0, 3)),
            ("CREATE", "create_revision", st.one_of(st.just(0), revisions)),
            ("MOD", "mod_revision", st.one_of(st.just(0), revisions)),
            ("VALUE", "value", values),
            ("LEASE", "lease", st.one_of(st.just(0), leases)),
        )
    ]
)
operations = st.one_of(
    st.fixed_dictionaries({"request_put": puts}),
    st.fixed_dictionaries({"request_range": ranges}),
    st.fixed_dictionaries({"request_delete_range": deletes}),
    st.just({}),
)


def transactions_of(steps: st.SearchStrategy[Json]) -> st.SearchStrategy[Json]:
    branch = st.lists(steps, max_size=3)
    return st.fixed_dictionaries(
        {"compare": st.lists(compares, max_size=2), "success": branch, "failure": branch}
    )


def inside(transactions: st.SearchStrategy[Json]) -> st.SearchStrategy[Json]:
    return st.fixed_dictionaries({"request_txn": transactions})


sound = st.one_of(
    st.fixed_dictionaries({"request_put": puts}),
    st.fixed_dictionaries({"request_range": ranges}),
    st.fixed_dictionaries({"request_delete_range": deletes}),
)
"""Without the operation that is none, which refuses all around it."""

one_deep = transactions_of(st.one_of(sound, inside(transactions_of(sound))))
two_deep = transactions_of(st.one_of(sound, inside(one_deep)))
transactions = st.one_of(transactions_of(operations), one_deep, two_deep)
calls: st.SearchStrategy[Call] = st.one_of(
    st.tuples(st.just("kv/put"), puts),
    st.tuples(st.just("kv/range"), ranges),
    st.tuples(st.just("kv/deleterange"), deletes),
    st.tuples(st.just("kv/txn"), transactions),
    st.tuples(st.just("kv/compaction"), st.fixed_dictionaries({"revision": revisions})),
    st.tuples(
        st.just("lease/grant"),
        st.fixed_dictionaries({"ID": leases, "TTL": st.sampled_from([600, 10**10])}),
    ),
    st.tuples(st.just("lease/revoke"), st.fixed_dictionaries({"ID": leases})),
    st.tuples(st.just("lease/keepalive"), st.fixed_dictionaries({"ID": leases})),
    st.tuples(st.just("lease/timetolive"), st.fixed_dictionaries({"ID": leases, "keys": flags})),
)


def filled_in(body: Any, number: int, base: int) -> Any:
    """A body with this example's keys, leases and revisions."""
    match body:
        case dict():
            return {name: filled_in(value, number, base) for name, value in body.items()}
        case list():
            return [filled_in(one, number, base) for one in body]
        case bytes():
            return b64(body.replace(_PREFIX, b"same/%d/" % number))
        case _Lease():
            return number * 100 + body
        case _Revision():
            return base + body
        case _:
            return body


def told(api: Api, call: Call, number: int, base: int) -> Any:
    path, body = call
    status, document = api.post(path, filled_in(body, number, base))
    if path == "lease/timetolive" and document.get("TTL", "-1") != "-1":
        del document["TTL"]  # runs down while we look
    return status, comparable(document, base)


@given(st.lists(calls, min_size=4, max_size=14), st.integers(0, 2))
@settings(
    max_examples=30,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # to shrink takes minutes
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_any_sequence_of_calls_gets_the_same_answers(
    ours: list[Api], theirs: Api, asked: list[Call], node: int
) -> None:
    number = next(_EXAMPLES)
    bases = ours[node].revision(), theirs.revision()
    for lease in _LEASES[:1]:
        for api in (ours[node], theirs):
            api.ok("lease/grant", {"ID": number * 100 + lease, "TTL": 600})
    for call in asked:
        answers = [
            told(api, call, number, base)
            for api, base in zip((ours[node], theirs), bases, strict=True)
        ]
        assert answers[0] == answers[1], call


def inner_of(key: bytes) -> Json:
    """A transaction inside, which puts a key."""
    return {"request_txn": {"success": [{"request_put": {"key": b64(key)}}]}}


def gone_of(key: bytes) -> Json:
    """A transaction inside, which deletes a key."""
    return {"request_txn": {"failure": [{"request_delete_range": {"key": b64(key)}}]}}


BAD: list[tuple[str, Json]] = [
    ("kv/range", {}),
    ("kv/range", {"range_end": b64(b"\0")}),
    ("kv/put", {"value": b64(b"v")}),
    ("kv/put", {"key": b64(b"k"), "value": b64(b"v"), "ignore_value": True}),
    ("kv/put", {"key": b64(b"never"), "ignore_value": True}),
    ("kv/put", {"key": b64(b"k"), "lease": "5", "ignore_lease": True}),
    ("kv/put", {"key": b64(b"k"), "lease": "987654321"}),
    ("kv/put", {"key": b64(b"k"), "value": b64(bytes(1600 << 10))}),
    ("kv/deleterange", {}),
    ("kv/txn", {"compare": [{"target": "MOD"}]}),
    ("kv/txn", {"success": [{}]}),
    ("kv/txn", {"success": [{"request_put": {"key": b64(b"k")}}] * 2}),
    ("kv/txn", {"success": [{"request_range": {"key": b64(b"k")}}] * 129}),
    ("kv/txn", {"success": [{"request_txn": {"success": [{}]}}]}),
    ("kv/txn", {"failure": [{"request_txn": {"compare": [{"target": "MOD"}]}}]}),
    ("kv/txn", {"success": [inner_of(b"k"), {"request_put": {"key": b64(b"k")}}]}),
    ("kv/txn", {"success": [inner_of(b"k"), inner_of(b"k")]}),
    ("kv/txn", {"success": [{"request_delete_range": {"key": b64(b"k")}}, inner_of(b"k")]}),
    ("kv/txn", {"success": [gone_of(b"k"), inner_of(b"k")]}),
    (
        "kv/txn",
        {
            "success": [
                *[{"request_range": {"key": b64(b"k")}}] * 100,
                {"request_txn": {"success": [{"request_range": {"key": b64(b"k")}}] * 28}},
            ]
        },
    ),
    ("kv/range", {"key": b64(b"k"), "revision": "999999999"}),
    ("kv/compaction", {"revision": "999999999"}),
    ("lease/revoke", {"ID": "987654321"}),
    ("lease/grant", {"TTL": "9000000001"}),
    ("auth/authenticate", {"name": "a", "password": "b"}),
]


@pytest.mark.parametrize(("path", "body"), BAD)
def test_bad_input_is_refused_alike(ours: list[Api], theirs: Api, path: str, body: Json) -> None:
    assert ours[1].post(path, body) == theirs.post(path, body)


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b'{"key": "%"}', b'{"key": 1}', b'{"key": "YQ==", "limit": "x"}']
)
def test_what_is_no_request_is_an_invalid_argument_on_both(
    ours: list[Api], theirs: Api, body: bytes
) -> None:
    seen: list[Callable[[], tuple[int, Json]]] = [
        lambda: ours[0].post("kv/range", body),
        lambda: theirs.post("kv/range", body),
    ]
    assert [(status, told["code"]) for status, told in (one() for one in seen)] == [(400, 3)] * 2


def test_what_one_transaction_inside_puts_another_one_behind_it_may_delete(
    ours: list[Api], theirs: Api
) -> None:
    """Both at one revision, and a watcher hears of both; the other way round it is refused."""
    heard: list[Any] = []
    for api in (ours[0], theirs):
        base = api.revision()
        deletes = {"request_txn": {"success": [{"request_delete_range": {"key": b64(b"both")}}]}}
        done = api.ok("kv/txn", {"success": [inner_of(b"both"), deletes]})
        with api.watch(key=b64(b"both"), start_revision=base + 1) as results:
            next(results)
            heard.append([comparable(one, base) for one in (done, next(results)["events"])])
        assert api.range(b"both").get("kvs") is None
    assert heard[0] == heard[1]


def test_a_watch_tells_the_same_of_the_same_changes(ours: list[Api], theirs: Api) -> None:
    heard: list[Any] = []
    for api in (ours[2], theirs):
        base = api.revision()
        api.put(b"watched/a", b"1")
        api.put(b"watched/b", b"2")
        api.put(b"watched/a", b"3")
        api.ok("kv/deleterange", {"key": b64(b"watched/"), "range_end": b64(b"watched0")})
        events: list[Any] = []
        with api.watch(
            key=b64(b"watched/"), range_end=b64(b"watched0"), start_revision=base + 1, prev_kv=True
        ) as results:
            assert next(results)["created"]
            while len(events) < 5:
                events += next(results)["events"]
        heard.append(comparable(events, base))
    assert heard[0] == heard[1]
    assert [event.get("type", "PUT") for event in heard[0]] == ["PUT"] * 3 + ["DELETE"] * 2


def test_a_watch_may_leave_out_deletions(ours: list[Api], theirs: Api) -> None:
    for api in (ours[0], theirs):
        base = api.revision()
        api.put(b"filtered", b"1")
        api.ok("kv/deleterange", {"key": b64(b"filtered")})
        api.put(b"filtered", b"2")
        events: list[Any] = []
        with api.watch(
            key=b64(b"filtered"), start_revision=base + 1, filters=["NODELETE"]
        ) as results:
            next(results)
            while len(events) < 2:
                events += next(results)["events"]
        assert [comparable(one["kv"], base)["mod_revision"] for one in events] == [1, 3]


def test_a_watch_from_a_compacted_revision_is_cancelled_and_told_where_to_begin(
    ours: list[Api], theirs: Api
) -> None:
    for api in (ours[1], theirs):
        first = int(api.put(b"old", b"1")["header"]["revision"])
        last = int(api.put(b"old", b"2")["header"]["revision"])
        api.ok("kv/compaction", {"revision": last})
        with api.watch(key=b64(b"old"), start_revision=first) as results:
            assert next(results)["created"]
            cancelled = next(results)
        assert cancelled["canceled"]
        api.put(b"old", b"3")
        begin = int(cancelled["compact_revision"])
        with api.watch(key=b64(b"old"), start_revision=begin) as results:
            next(results)
            assert next(results)["events"][-1]["kv"]["key"] == b64(b"old")
