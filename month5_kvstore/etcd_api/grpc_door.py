"""etcd's API over gRPC: the methods' table as gRPC's handlers, with our own codec.

    async with serving_grpc(member, host="127.0.0.1") as port: ...

Errors carry etcd's status codes and messages. A call's own deadline bounds it, if it is shorter
than ours. Needs the package grpcio; nothing else of the room does.
"""

# pyright: reportUnknownMemberType=false, reportMissingTypeArgument=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from itertools import groupby
from typing import Any, NoReturn

import grpc

from month5_kvstore.etcd_api.errors import EtcdError
from month5_kvstore.etcd_api.member import DEADLINE_S, Member
from month5_kvstore.etcd_api.messages import SCHEMA
from month5_kvstore.etcd_api.methods import METHODS, PACKAGE, Method, Shape
from month5_kvstore.etcd_api.schema import Message
from month5_kvstore.etcd_api.wire import decode, encode
from scalelab.errors import Unavailable

REQUEST_BYTES_MAX = 2 << 20
_CALLS_MAX = 10_000
_STATUS: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}
Context = grpc.aio.ServicerContext[Any, Any]


@asynccontextmanager
async def serving_grpc(
    member: Member, *, host: str = "127.0.0.1", port: int = 0
) -> AsyncGenerator[int, None]:
    """Serve until the block ends; yields the port. Calls that are left are cancelled then.

    Raises Unavailable (address_in_use).
    """
    options = [
        ("grpc.so_reuseport", 0),  # or a second server would silently share the port
        ("grpc.max_receive_message_length", REQUEST_BYTES_MAX),
        # Clients of etcd ask every few seconds whether we live; that is no abuse.
        ("grpc.http2.min_ping_interval_without_data_ms", 5000),
        ("grpc.keepalive_permit_without_calls", 1),
    ]
    server = grpc.aio.server(options=options, maximum_concurrent_rpcs=_CALLS_MAX)
    for service, methods in groupby(METHODS, lambda one: one.service):
        handlers = {method.name: _handler(method, member) for method in methods}
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(f"{PACKAGE}.{service}", handlers),)
        )
    try:
        bound = server.add_insecure_port(f"{host}:{port}")
    except RuntimeError as error:
        raise Unavailable(f"Cannot listen on {host}:{port}", code="address_in_use") from error
    await server.start()
    try:
        yield bound
    finally:
        await server.stop(None)


def _handler(method: Method, member: Member) -> grpc.RpcMethodHandler[Any, Any]:
    """Requests reach the behaviour as bytes: what cannot be read gets a status of etcd's."""
    read = partial(_read, method)
    write: Callable[[Message], bytes] = partial(encode, SCHEMA, method.answer)
    match method.shape:
        case Shape.CALL:
            behaviour = partial(_call, method, member, read)
            return grpc.unary_unary_rpc_method_handler(behaviour, response_serializer=write)
        case Shape.DOWNLOAD:
            behaviour = partial(_download, member, read)
            return grpc.unary_stream_rpc_method_handler(behaviour, response_serializer=write)
        case Shape.CONVERSATION:
            talk = member.watch if method.name == "Watch" else member.keep_alive
            behaviour = partial(_converse, talk, read)
            return grpc.stream_stream_rpc_method_handler(behaviour, response_serializer=write)


def _read(method: Method, data: bytes) -> Message:
    return decode(SCHEMA, method.request, data)


async def _call(
    method: Method,
    member: Member,
    read: Callable[[bytes], Message],
    data: bytes,
    context: Context,
) -> Message:
    left_s = context.time_remaining()
    deadline_s = DEADLINE_S if left_s is None else min(DEADLINE_S, left_s)  # pyright: ignore[reportUnnecessaryComparison] - None without a deadline
    try:
        return await member.call(method.name, read(data), deadline_s=deadline_s)
    except EtcdError as error:
        await _refuse(context, error)


async def _download(
    member: Member, read: Callable[[bytes], Message], data: bytes, context: Context
) -> AsyncGenerator[Message, None]:
    try:
        read(data)
        async for answer in member.snapshot():
            yield answer
    except EtcdError as error:
        await _refuse(context, error)


async def _converse(
    talk: Callable[[AsyncIterator[Message]], AsyncGenerator[Message, None]],
    read: Callable[[bytes], Message],
    requests: AsyncIterator[bytes],
    context: Context,
) -> AsyncGenerator[Message, None]:
    answers = talk(_each(read, requests))
    try:
        async for answer in answers:
            yield answer
    except EtcdError as error:
        await _refuse(context, error)
    finally:
        await answers.aclose()


async def _each(
    read: Callable[[bytes], Message], requests: AsyncIterator[bytes]
) -> AsyncGenerator[Message, None]:
    async for data in requests:
        yield read(data)


async def _refuse(context: Context, error: EtcdError) -> NoReturn:
    await context.abort(_STATUS[error.status], error.message)
    raise AssertionError("abort raises")
