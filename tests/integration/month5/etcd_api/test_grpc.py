"""Conversations over gRPC, held with etcd and with the store alike, and errors by their status."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import grpc
import pytest

from month5_kvstore.etcd_api.messages import SCHEMA
from month5_kvstore.etcd_api.methods import METHODS
from month5_kvstore.etcd_api.schema import Message
from month5_kvstore.etcd_api.wire import decode, encode
from tests.integration.month5.etcd_api.api import Api

pytestmark = pytest.mark.timeout(240)

_WITHIN_S = 60.0
_BY_NAME = {method.name: method for method in METHODS}


class Caller:
    """A channel to one member."""

    def __init__(self, api: Api) -> None:
        self._channel = grpc.insecure_channel(api.url.removeprefix("http://"))

    def close(self) -> None:
        self._channel.close()

    def call(self, name: str, request: Message) -> Message:
        method = _BY_NAME[name]
        return decode(
            SCHEMA, method.answer, self.raw(name, encode(SCHEMA, method.request, request))
        )

    def raw(self, name: str, data: bytes) -> bytes:
        """Bytes to a method, whatever they are."""
        service = _BY_NAME[name].service if name in _BY_NAME else "KV"
        call = self._channel.unary_unary(f"/etcdserverpb.{service}/{name}")
        return call(data, timeout=_WITHIN_S)

    @contextmanager
    def talk(self, name: str) -> Iterator[tuple[Callable[[Message], None], Iterator[Message]]]:
        """A conversation: say something, and what is answered."""
        method = _BY_NAME[name]
        said: queue.Queue[Message | None] = queue.Queue()
        stream = self._channel.stream_stream(f"/etcdserverpb.{method.service}/{name}")
        requests = (encode(SCHEMA, method.request, one) for one in iter(said.get, None))
        answers = stream(requests, timeout=_WITHIN_S)
        try:
            yield said.put, (decode(SCHEMA, method.answer, one) for one in answers)
        finally:
            said.put(None)
            answers.cancel()


@pytest.fixture(params=["ours", "etcd"])
def caller(request: pytest.FixtureRequest, ours: list[Api], theirs: Api) -> Iterator[Caller]:
    """What holds for the store holds for etcd: each claim is put to both."""
    with closing(Caller(ours[0] if request.param == "ours" else theirs)) as made:
        yield made


@pytest.fixture
def own(ours: list[Api]) -> Iterator[Caller]:
    with closing(Caller(ours[1])) as made:
        yield made


def status(asked: Callable[[], Any]) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as refused:
        asked()
    error: Any = refused.value
    return error.code().name, error.details()


@pytest.mark.parametrize(
    ("name", "request_", "expected"),
    [
        ("Range", {}, ("INVALID_ARGUMENT", "etcdserver: key is not provided")),
        (
            "Range",
            {"key": b"k", "revision": 1 << 40},
            ("OUT_OF_RANGE", "etcdserver: mvcc: required revision is a future revision"),
        ),
        (
            "Put",
            {"key": b"k", "lease": 424242},
            ("NOT_FOUND", "etcdserver: requested lease not found"),
        ),
        ("LeaseRevoke", {"ID": 424242}, ("NOT_FOUND", "etcdserver: requested lease not found")),
        (
            "LeaseGrant",
            {"TTL": 1 << 50},
            ("OUT_OF_RANGE", "etcdserver: too large lease TTL"),
        ),
        (
            "Put",
            {"key": b"k", "value": bytes(1600 << 10)},
            ("INVALID_ARGUMENT", "etcdserver: request is too large"),
        ),
        (
            "Txn",
            {"success": [{"request_put": {"key": b"k"}}, {"request_put": {"key": b"k"}}]},
            ("INVALID_ARGUMENT", "etcdserver: duplicate key given in txn request"),
        ),
        (
            "Authenticate",
            {"name": "a", "password": "b"},
            ("FAILED_PRECONDITION", "etcdserver: authentication is not enabled"),
        ),
    ],
)
def test_a_refusal_has_the_status_and_the_words_that_clients_look_for(
    caller: Caller, name: str, request_: Message, expected: tuple[str, str]
) -> None:
    assert status(lambda: caller.call(name, request_)) == expected


def test_a_compacted_revision_is_out_of_range(caller: Caller) -> None:
    first = caller.call("Put", {"key": b"grpc/old"})["header"]["revision"]
    last = caller.call("Put", {"key": b"grpc/old"})["header"]["revision"]
    caller.call("Compact", {"revision": last})
    told = status(lambda: caller.call("Range", {"key": b"grpc/old", "revision": first}))
    assert told == ("OUT_OF_RANGE", "etcdserver: mvcc: required revision has been compacted")


def test_a_request_over_the_bound_is_not_read_to_its_end(caller: Caller) -> None:
    told = status(lambda: caller.call("Put", {"key": b"k", "value": bytes(5 << 20)}))
    assert told[0] == "RESOURCE_EXHAUSTED"


def test_a_method_that_nobody_has_is_unimplemented(caller: Caller) -> None:
    assert status(lambda: caller.raw("Nothing", b""))[0] == "UNIMPLEMENTED"


def test_bytes_that_are_no_request_are_an_invalid_argument(own: Caller) -> None:
    assert status(lambda: own.raw("Range", b"\x0a\xff"))[0] == "INVALID_ARGUMENT"


def test_bytes_that_are_no_request_end_a_conversation_with_a_status(own: Caller) -> None:
    with own.talk("Watch") as (say, answers):
        say({"create_request": {"key": b"k", "filters": [7]}})
        assert status(lambda: next(answers))[0] == "INVALID_ARGUMENT"
    assert own.call("Status", {})["version"] == "3.4.0"


def test_two_watchers_of_one_conversation_hear_their_own_keys(caller: Caller) -> None:
    with caller.talk("Watch") as (say, answers):
        for key in (b"grpc/one", b"grpc/two"):
            say({"create_request": {"key": key}})
        numbers = [next(answers).get("watch_id", 0) for _ in range(2)]
        assert len(set(numbers)) == 2
        caller.call("Put", {"key": b"grpc/two", "value": b"2"})
        caller.call("Put", {"key": b"grpc/one", "value": b"1"})
        heard = [next(answers) for _ in range(2)]
    told = {one.get("watch_id", 0): one["events"][0]["kv"]["value"] for one in heard}
    assert told == {numbers[0]: b"1", numbers[1]: b"2"}


def test_a_cancelled_watcher_hears_no_more_and_the_other_one_does(caller: Caller) -> None:
    with caller.talk("Watch") as (say, answers):
        say({"create_request": {"key": b"grpc/cancelled", "watch_id": 7}})
        say({"create_request": {"key": b"grpc/cancelled", "watch_id": 8}})
        assert [next(answers)["watch_id"] for _ in range(2)] == [7, 8]
        say({"cancel_request": {"watch_id": 7}})
        cancelled = next(answers)
        assert (cancelled["watch_id"], cancelled["canceled"]) == (7, True)
        caller.call("Put", {"key": b"grpc/cancelled"})
        caller.call("Put", {"key": b"grpc/cancelled"})
        heard: list[Message] = []
        events = 0
        while events < 2:
            heard.append(next(answers))
            events += len(heard[-1]["events"])
    assert {one["watch_id"] for one in heard} == {8}


def test_a_number_that_is_taken_is_refused_and_the_watcher_that_has_it_goes_on(
    own: Caller,
) -> None:
    with own.talk("Watch") as (say, answers):
        say({"create_request": {"key": b"grpc/taken", "watch_id": 5}})
        say({"create_request": {"key": b"grpc/taken", "watch_id": 5}})
        next(answers)
        refused = next(answers)
        assert refused["canceled"]
        assert "duplicate watch ID" in refused["cancel_reason"]
        own.call("Put", {"key": b"grpc/taken"})
        assert next(answers)["watch_id"] == 5


def test_progress_is_told_when_asked_for_after_all_that_happened_before(caller: Caller) -> None:
    with caller.talk("Watch") as (say, answers):
        say({"create_request": {"key": b"grpc/progress"}})
        next(answers)
        revision = caller.call("Put", {"key": b"grpc/progress"})["header"]["revision"]
        assert next(answers)["events"][0]["kv"]["mod_revision"] == revision
        say({"progress_request": {}})
        told = next(answers)
    assert told["header"]["revision"] >= revision
    assert "events" not in told


def test_a_lease_is_kept_alive_as_often_as_asked_and_its_end_is_told(caller: Caller) -> None:
    lease = caller.call("LeaseGrant", {"TTL": 600})["ID"]
    with caller.talk("LeaseKeepAlive") as (say, answers):
        for _ in range(3):
            say({"ID": lease})
            assert next(answers)["TTL"] == 600
        caller.call("LeaseRevoke", {"ID": lease})
        say({"ID": lease})
        assert next(answers).get("TTL", 0) == 0
