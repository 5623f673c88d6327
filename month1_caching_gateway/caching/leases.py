"""Single flight across processes: whoever holds a key's lease asks the source, the others wait.

Theory of operation
    A miss takes the key's lease in the store: a random token with a lifetime, set only if absent.
    The winner looks once more (somebody may have filled meanwhile), asks the source, fills the
    store and drops the lease if it is still its own. A loser polls the store until the entry is
    there or the lease is free, then it tries to win. Leases won are dropped before anything is
    waited for, so two batches that overlap cannot wait for each other.

Guarantees (tests cite them)
    L1  While a holder lives and runs, at most one process asks the source for its key.
    L2  When a holder is killed, the next asks after at most `ttl_s`: two asks in all, not more.
    L3  A loser waits at most `wait_s`, then asks the source; without the store it asks at once.
    L4  A loser's answer comes from the store, so a fence holds for it as for any reader.

A lease saves work and protects nothing: a holder that was paused for longer than `ttl_s` may ask
a second time at once with the next. What it fills is checked by version (entries.py, I1).
Source: Nishtala et al. 2013, section 3.2.1 (leases against thundering herds); differs in: the
token does not decide what may be stored.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Generic, TypeVar

from month1_caching_gateway.caching.entries import Entry
from month1_caching_gateway.caching.events import Hook, LeaseWaited
from month1_caching_gateway.caching.remote_store import RemoteStore
from scalelab.errors import InvalidInput, Unavailable

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LeasePolicy:
    """How long leases stand and losers wait. All in seconds.

    ttl_s: a lease's lifetime, more than a load may take; after a holder's death nobody asks for
    that long. wait_s: the longest a loser waits, at least ttl_s. poll_s: the mean pause between
    two looks of a loser; each pause is drawn from half to one and a half of it.
    """

    ttl_s: float = 6.0
    wait_s: float = 8.0
    poll_s: float = 0.02

    def __post_init__(self) -> None:
        if min(self.ttl_s, self.poll_s) <= 0:
            raise InvalidInput("ttl_s and poll_s of a lease are above 0 s", field="ttl_s")
        if self.wait_s < self.ttl_s:
            raise InvalidInput(
                f"wait_s {self.wait_s} is below ttl_s {self.ttl_s}: losers would not outwait a "
                "dead holder",
                field="wait_s",
            )


class LeasedLoad(Generic[T]):
    """`load` under leases. fill: asks the source and stores. served: answers among entries.

    load_timeout_s: deadline of one ask with its fill, less than the lease's lifetime.
    """

    def __init__(
        self,
        store: RemoteStore,
        policy: LeasePolicy,
        *,
        fill: Callable[[Sequence[str]], Awaitable[Mapping[str, T]]],
        served: Callable[[Mapping[str, Entry]], Mapping[str, T]],
        load_timeout_s: float,
        random: Random,
        hook: Hook,
    ) -> None:
        if load_timeout_s >= policy.ttl_s:
            raise InvalidInput(
                f"ttl_s {policy.ttl_s} of the lease must exceed load_timeout_s {load_timeout_s}: "
                "a second process would ask while the first still does",
                field="ttl_s",
            )
        self._store = store
        self._policy = policy
        self._fill = fill
        self._served = served
        self._load_timeout_s = load_timeout_s
        self._random = random
        self._hook = hook

    @property
    def timeout_s(self) -> float:
        """The longest `load` takes: its own keys, the wait for others', and asking after all."""
        return self._policy.wait_s + 2 * self._load_timeout_s

    async def load(self, keys: Sequence[str]) -> dict[str, T]:
        """An answer for every key. Raises what the source raises; Unavailable `load_timeout`."""
        answers: dict[str, T] = {}
        left: list[str] = list(keys)
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + self._policy.wait_s
        told = False
        while left:
            token = secrets.token_hex(16)
            won = await self._store.take_leases(left, token, round(self._policy.ttl_s * 1000))
            if won is None or loop.time() >= give_up_at:
                if won is not None:
                    self._hook(LeaseWaited(len(left), gave_up=True))
                answers.update(await self._bounded(self._fill, left, won or set[str](), token))
                return answers
            if won:
                answers.update(await self._bounded(self._look_then_fill, sorted(won), won, token))
                left = [key for key in left if key not in won]
                continue
            if not told:
                self._hook(LeaseWaited(len(left)))
                told = True
            await asyncio.sleep(self._policy.poll_s * (0.5 + self._random.random()))
            answers.update(self._served(await self._store.read(left) or {}))
            left = [key for key in left if key not in answers]
        return answers

    async def refresh(self, keys: Sequence[str]) -> None:
        """Load anew those of the keys whose lease is free; the others are somebody's already.

        Raises as `load`. Without the store nothing is loaded: there would be no place for it.
        """
        token = secrets.token_hex(16)
        won = await self._store.take_leases(keys, token, round(self._policy.ttl_s * 1000))
        if won:
            await self._bounded(self._fill, sorted(won), won, token)

    async def _bounded(
        self,
        ask: Callable[[Sequence[str]], Awaitable[Mapping[str, T]]],
        keys: Sequence[str],
        leased: set[str],
        token: str,
    ) -> Mapping[str, T]:
        """Ask within the deadline and drop the leases, whatever the outcome."""
        deadline = asyncio.timeout(self._load_timeout_s)
        try:
            async with deadline:
                return await ask(keys)
        except TimeoutError as error:
            if not deadline.expired():
                raise
            raise Unavailable(
                f"loading {len(keys)} keys took longer than {self._load_timeout_s} s",
                code="load_timeout",
            ) from error
        finally:
            if leased:
                await self._store.drop_leases(sorted(leased), token)

    async def _look_then_fill(self, keys: Sequence[str]) -> Mapping[str, T]:
        """The winner's way: an entry that came between its miss and its lease saves the ask."""
        answers = dict(self._served(await self._store.read(keys) or {}))
        missing = [key for key in keys if key not in answers]
        if missing:
            answers.update(await self._fill(missing))
        return answers
