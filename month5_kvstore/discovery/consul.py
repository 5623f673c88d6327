"""Consul as a registry: its agent's services with a check by time to live, and its key-value tree.

Questions that wait (`index`, `wait`) make a watch: the agent answers when its index has moved. An
index that goes back, as after a restore, is begun anew.

What Consul does not do by itself: a heartbeat that comes after the check has failed turns the check
green again. This registration asks how its check stands first, and gives itself up if it failed.
Between that question and the heartbeat a frozen owner may still slip; the check then fails again.
A service whose check stays red is taken out of the catalogue after a minute, the least that Consul
allows, by a collector that looks every half minute. Lookups do not see it meanwhile.
"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from typing import Any
from urllib.parse import quote

from month5_kvstore.discovery.instances import Instance, check_label, check_ttl
from month5_kvstore.discovery.registry import RegistrationLost
from scalelab.clients.http import Answer, HttpClient
from scalelab.clock import Clock
from scalelab.errors import CorruptData, NotFound

_WAIT_S = 20
_CALL_S = 5.0
_SETTINGS = "scalelab/"
_COLLECTED_AFTER = "1m"

RandomBits = Callable[[int], int]
"""Takes n, returns a uniform integer of n bits (the shape of random.getrandbits)."""


class ConsulRegistration:
    """One service of the agent. Made by `ConsulRegistry.register`."""

    def __init__(
        self,
        http: HttpClient,
        instance: Instance,
        number: str,
        *,
        ttl_s: float,
        clock: Clock,
        begun_s: float,
    ) -> None:
        self._http = http
        self._instance = instance
        self._number = number
        self._ttl_s = ttl_s
        self._clock = clock
        self._beat_s = begun_s

    @property
    def instance(self) -> Instance:
        """Who is registered."""
        return self._instance

    async def heartbeat(self) -> None:
        """Turn the check green, if it is green."""
        begun_s = self._clock.monotonic_s()
        if begun_s - self._beat_s > self._ttl_s or not await self._stands():
            await self._take_out()
            raise RegistrationLost(f"{self._instance.id} was not heard for {self._ttl_s} s")
        try:
            await self._http.put(_pass_path(self._instance.id))
        except NotFound as error:
            raise RegistrationLost(f"the agent knows no {self._instance.id}") from error
        self._beat_s = begun_s

    async def withdraw(self) -> None:
        """Out of the catalogue."""
        await self._take_out()

    async def _stands(self) -> bool:
        path = f"/v1/agent/health/service/id/{quote(self._instance.id, safe='')}"
        answer = await self._http.get(path, accept=frozenset({404, 503}))
        if answer.status != 200:
            return False
        return bool(answer.json()["Service"]["Meta"]["number"] == self._number)

    async def _take_out(self) -> None:
        """Unless somebody else has registered under the same id since."""
        path = f"/v1/agent/service/{quote(self._instance.id, safe='')}"
        answer = await self._http.get(path, accept=frozenset({404}))
        if answer.status == 200 and answer.json()["Meta"].get("number") == self._number:
            leave = f"/v1/agent/service/deregister/{quote(self._instance.id, safe='')}"
            with suppress(NotFound):
                await self._http.put(leave)


class ConsulRegistry:
    """One agent. random_bits: numbers of registrations, so that one is told from the next."""

    def __init__(self, http: HttpClient, *, clock: Clock, random_bits: RandomBits) -> None:
        self._http = http
        self._clock = clock
        self._random_bits = random_bits

    async def register(self, instance: Instance, *, ttl_s: float) -> ConsulRegistration:
        """A service with one check, green from now on."""
        check_ttl(ttl_s)
        number = f"{self._random_bits(64):016x}"
        document = {
            "Name": instance.service,
            "ID": instance.id,
            "Address": instance.host,
            "Port": instance.port,
            "Meta": {"version": instance.version, "number": number},
            "Check": {
                "TTL": f"{int(ttl_s * 1000)}ms",
                "Status": "passing",
                "DeregisterCriticalServiceAfter": _COLLECTED_AFTER,
            },
        }
        path, params = "/v1/agent/service/register", {"replace-existing-checks": "true"}
        begun_s = self._clock.monotonic_s()
        await self._http.put(path, document, params=params, timeout_s=_CALL_S)
        # An agent that starts again knows how a check stood only if it was told after registering.
        await self._http.put(_pass_path(instance.id), timeout_s=_CALL_S)
        return ConsulRegistration(
            self._http, instance, number, ttl_s=ttl_s, clock=self._clock, begun_s=begun_s
        )

    async def lookup(self, service: str) -> tuple[Instance, ...]:
        """Whose checks are all green, as the leader knows it."""
        check_label(service, "service")
        return _instances((await self._healthy(service, {"consistent": ""})).json())

    async def watch(self, service: str) -> AsyncGenerator[tuple[Instance, ...], None]:
        """By questions that wait."""
        check_label(service, "service")
        given: tuple[Instance, ...] | None = None
        index = 0
        while True:
            answer = await self._healthy(service, {"index": str(index), "wait": f"{_WAIT_S}s"})
            index = _next_index(answer, index)
            found = _instances(answer.json())
            if found != given:
                given = found
                yield found

    async def setting(self, key: str) -> bytes | None:
        """Of the key-value tree."""
        return _setting(await self._key(key, {"consistent": ""}))

    async def put_setting(self, key: str, value: bytes) -> None:
        """Into the key-value tree. The agent takes a body as it is; it is read as bytes again."""
        check_label(key, "key")
        text = base64.b64encode(value).decode()
        document = [{"KV": {"Verb": "set", "Key": _SETTINGS + key, "Value": text}}]
        await self._http.put("/v1/txn", document, timeout_s=_CALL_S)

    async def watch_setting(self, key: str) -> AsyncGenerator[bytes | None, None]:
        """By questions that wait."""
        given: bytes | None = None
        index = 0
        while True:
            answer = await self._key(key, {"index": str(index), "wait": f"{_WAIT_S}s"})
            value = _setting(answer)
            if not index or value != given:
                given = value
                yield value
            index = _next_index(answer, index)

    async def _healthy(self, service: str, params: dict[str, str]) -> Answer:
        path = f"/v1/health/service/{service}"
        return await self._ask(path, {**params, "passing": "true"})

    async def _key(self, key: str, params: dict[str, str]) -> Answer:
        check_label(key, "key")
        return await self._ask(f"/v1/kv/{_SETTINGS}{key}", params)

    async def _ask(self, path: str, params: dict[str, str]) -> Answer:
        # The agent spreads its answers over a sixteenth of the wait.
        limit_s = _CALL_S + (_WAIT_S * 1.1 if "wait" in params else 0.0)
        return await self._http.get(path, params=params, timeout_s=limit_s, accept=frozenset({404}))


def _pass_path(service_id: str) -> str:
    return f"/v1/agent/check/pass/{quote(f'service:{service_id}', safe='')}"


def _next_index(answer: Answer, index: int) -> int:
    """Where to wait from: what Consul advises for an index that went back is to begin at 0."""
    following = int(answer.headers.get("x-consul-index", "0"))
    return following if following >= index and following > 0 else 0


def _instances(document: Any) -> tuple[Instance, ...]:
    try:
        return tuple(sorted(_instance(one["Service"]) for one in document))
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptData(f"this is no answer of Consul's: {json.dumps(document)[:80]}") from error


def _instance(service: Any) -> Instance:
    return Instance(
        service["Service"],
        service["ID"],
        service["Address"],
        int(service["Port"]),
        service["Meta"].get("version", ""),
    )


def _setting(answer: Answer) -> bytes | None:
    if answer.status == 404:
        return None
    return base64.b64decode(answer.json()[0]["Value"] or "")
