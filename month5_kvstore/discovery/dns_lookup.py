"""Look a service up by name, as programs do that know nothing of registries: one UDP datagram."""

from __future__ import annotations

import asyncio

from month5_kvstore.discovery.dns_records import Endpoint, endpoints, question
from month5_kvstore.discovery.instances import check_label
from scalelab.errors import Unavailable

_TRIES = 3


class _Ask(asyncio.DatagramProtocol):
    def __init__(self, answer: asyncio.Future[bytes]) -> None:
        self._answer = answer

    def datagram_received(self, data: bytes, addr: object) -> None:
        if not self._answer.done():
            self._answer.set_result(data)

    def error_received(self, exc: Exception) -> None:
        if not self._answer.done():
            self._answer.set_exception(exc)


async def lookup_srv(
    server: tuple[str, int], service: str, *, number: int, timeout_s: float = 2.0
) -> tuple[Endpoint, ...]:
    """Who is healthy, by `SERVICE.service.consul`; asked again where a datagram got lost.

    number: of the question, not to be guessed by others. Raises Unavailable, CorruptData.
    """
    check_label(service, "service")
    wanted = question(number, f"{service}.service.consul")
    loop = asyncio.get_running_loop()
    for _ in range(_TRIES):
        answer: asyncio.Future[bytes] = loop.create_future()
        transport, _ = await loop.create_datagram_endpoint(
            lambda a=answer: _Ask(a), remote_addr=server
        )
        try:
            transport.sendto(wanted)
            async with asyncio.timeout(timeout_s):
                return endpoints(await answer, number)
        except (TimeoutError, OSError):
            continue
        finally:
            transport.close()
    raise Unavailable(f"nobody answers for names on {server[0]}:{server[1]}", code="dns")
