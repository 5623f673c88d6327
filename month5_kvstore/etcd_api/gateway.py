"""etcd's JSON gateway: every method as a POST below /v3, streams as one JSON object a line.

A body is read as JSON whatever its type says, as etcd does. Watches and keep-alives take the one
request of the body, and the watch goes on until the caller hangs up.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Any, ClassVar

from fastapi import APIRouter, Request, Response

from month5_kvstore.etcd_api.errors import HTTP_STATUS, EtcdError
from month5_kvstore.etcd_api.json_mapping import json_bytes, parse, render, to_json
from month5_kvstore.etcd_api.member import VERSION, Member
from month5_kvstore.etcd_api.messages import SCHEMA
from month5_kvstore.etcd_api.methods import METHODS, Method, Shape
from month5_kvstore.etcd_api.schema import Message
from scalelab.web.sse import EventStream

_JSON = "application/json"
_HEARTBEAT_S = 15.0
"""Between two empty lines on a silent stream, so that a caller that is gone is noticed."""


def gateway_router(member_of: Callable[[], Member]) -> APIRouter:
    """Routes /v3/…, /version and /health. member_of: the running member, or Unavailable raised."""
    router = APIRouter(include_in_schema=False)
    for method in METHODS:
        for path in method.paths:
            router.add_api_route(
                f"/v3{path}", _endpoint(method, member_of), methods=["POST"], response_model=None
            )

    @router.get("/version")
    async def version() -> dict[str, str]:
        """The version of the API that is answered."""
        return {"etcdserver": VERSION, "etcdcluster": VERSION}

    @router.get("/health")
    async def health() -> Response:
        """Whether a leader is known and there is space to write."""
        healthy = member_of().healthy
        body = b'{"health":"true"}' if healthy else b'{"health":"false"}'
        return Response(body, 200 if healthy else 503, media_type=_JSON)

    return router


def _endpoint(method: Method, member_of: Callable[[], Member]) -> Callable[[Request], Any]:
    async def call(request: Request) -> Response:
        try:
            asked = parse(SCHEMA, method.request, await request.body())
            answer = await member_of().call(method.name, asked)
        except EtcdError as error:
            return _refusal(error)
        return Response(render(SCHEMA, method.answer, answer), media_type=_JSON)

    async def stream(request: Request) -> Response:
        try:
            asked = parse(SCHEMA, method.request, await request.body())
        except EtcdError as error:
            return _refusal(error)
        return JsonStream(_lines(method, _answers(method, member_of(), asked)))

    return call if method.shape is Shape.CALL else stream


class Line:
    """One object of a stream."""

    __slots__ = ("_data",)

    def __init__(self, data: bytes) -> None:
        self._data = data

    def encode(self) -> bytes:
        """With its line break."""
        return self._data + b"\n"


class JsonStream(EventStream):
    """Lines until they end, the caller goes or the process drains."""

    media_type = _JSON
    heartbeat: ClassVar[bytes] = b"\n"

    def __init__(self, lines: AsyncGenerator[Line, None]) -> None:
        super().__init__(lines, heartbeat_s=_HEARTBEAT_S)


def _answers(method: Method, member: Member, asked: Message) -> AsyncGenerator[Message, None]:
    match method.name:
        case "Watch":
            return member.watch(_once(asked))
        case "LeaseKeepAlive":
            return member.keep_alive(_once(asked))
        case _:
            return member.snapshot()


async def _once(request: Message) -> AsyncGenerator[Message, None]:
    yield request


async def _lines(
    method: Method, answers: AsyncGenerator[Message, None]
) -> AsyncGenerator[Line, None]:
    """Each answer as `result`; what ends the stream before its time as `error`."""
    try:
        async for answer in answers:
            document = {"result": to_json(SCHEMA, method.answer, answer)}
            yield Line(json_bytes(document))
    except EtcdError as error:
        status = HTTP_STATUS[error.status]
        told = {"grpc_code": int(error.status), "http_code": status, "message": error.message}
        yield Line(json_bytes({"error": told}))
    finally:
        await answers.aclose()


def _refusal(error: EtcdError) -> Response:
    document = {"error": error.message, "message": error.message, "code": int(error.status)}
    return Response(json_bytes(document), HTTP_STATUS[error.status], media_type=_JSON)
