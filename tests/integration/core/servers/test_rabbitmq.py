"""RabbitMQ: crash and return, one door, one user, nothing left behind."""

from __future__ import annotations

import aio_pika
import psutil
import pytest
from pamqp.common import FieldValue

from scalelab.lab.runtime import Runtime
from scalelab.lab.servers import RabbitMQ, processes
from scalelab.lab.servers.rabbitmq_protocol import sign_in
from tests.integration.core.servers.conftest import poll

QUORUM: dict[str, FieldValue] = {"x-queue-type": "quorum"}


async def confirmed(url: str, body: bytes) -> None:
    """One message on the quorum queue `orders`, confirmed."""
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        await channel.declare_queue("orders", durable=True, arguments=QUORUM)
        await channel.default_exchange.publish(aio_pika.Message(body), "orders")


async def test_confirmed_messages_survive_kill_9(own_runtime: Runtime) -> None:
    """A message confirmed before the kill is read after the restart, before the next one."""
    server = RabbitMQ("queues")
    own_runtime.start(server)
    await confirmed(server.url, b"first")
    poll(lambda: server.remembers("orders"), what="the queue's name on disk")
    own_runtime.kill("queues")
    own_runtime.restart("queues")
    await confirmed(server.url, b"second")
    async with await aio_pika.connect(server.url) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue("orders", durable=True, arguments=QUORUM)
        bodies: list[bytes] = []
        for _ in range(2):
            message = await queue.get(timeout=30)
            bodies.append(message.body)
            await message.ack()
    assert bodies == [b"first", b"second"]


def test_it_has_one_door_on_loopback_and_leaves_nothing(own_runtime: Runtime) -> None:
    """No door for other nodes and no `epmd`: neither while it runs nor when it has been stopped."""
    server = RabbitMQ("queues")
    own_runtime.start(server)
    [status] = own_runtime.status()
    node = psutil.Process(status.pid)
    family = [node, *node.children(recursive=True)]
    doors = {
        (door.laddr.ip, door.laddr.port)
        for process in family
        for door in process.net_connections("inet")
        if door.status == psutil.CONN_LISTEN
    }
    assert doors == {("127.0.0.1", server.port)}
    assert not any(process.name() == "epmd" for process in family)
    own_runtime.stop("queues")
    assert processes.await_end(family, within_s=30) == []
    assert own_runtime.status()[0].state == "stopped"


def test_it_lets_in_its_own_user_alone(rabbitmq_server: RabbitMQ) -> None:
    """The user every new RabbitMQ has, and a wrong password, are turned away."""
    sign_in(rabbitmq_server.port, rabbitmq_server.user, rabbitmq_server.password, timeout_s=30)
    for user, password in (("guest", "guest"), (rabbitmq_server.user, "wrong")):
        with pytest.raises(OSError, match=r"hung up|reset"):
            sign_in(rabbitmq_server.port, user, password, timeout_s=30)
