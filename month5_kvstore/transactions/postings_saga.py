"""The saga beside two-phase commit: balances in several groups, changed one after the other.

Each posting is one command of one group: the balance and the participant's stand are changed
together, so that repeating does no harm. Between two postings nothing is locked, and everybody sees
what has been done so far. A refusal takes back what was done. Where the saga stands is a key of its
own; whoever finds it may go on with it, also two at once.

Guarantees
    S1  In the end all postings are done or all are undone, if somebody goes on with it.
    S2  A posting takes effect once at most, and once undone never again (a tombstone stays).

Not given: isolation. A reader may see some postings without the others, and a compensation may find
that somebody has spent meanwhile what it takes back: an undo is never refused, so a balance may go
below zero then.

Left out: dropping the stands and the records of sagas that are over.
Source: Garcia-Molina and Salem 1987, "Sagas"; the machine is scalelab.saga.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from month5_kvstore.client import KvClient
from month5_kvstore.transactions.kv_transactions import Checkpoint, KvTransactions, Work
from month5_kvstore.transactions.places import beside, check_key
from scalelab.clock import Clock
from scalelab.errors import Conflict, CorruptData, InvalidInput, NotFound
from scalelab.ids import uuid7
from scalelab.saga import (
    Action,
    Request,
    SagaDefinition,
    SagaState,
    Stand,
    advance,
    begin,
    decide,
    sequence,
)
from scalelab.saga import Work as Effort

_RECORDS = b"saga/record"
_STANDS = b"saga/stand"
POSTINGS_MAX = 32


@dataclass(frozen=True, slots=True)
class Posting:
    """amount: added to the balance at `key`; refused if that would make it negative, or if the key
    holds no number."""

    key: bytes
    amount: int


Post = Callable[[str, Posting, Request], Awaitable[Stand]]
"""Has a participant do or undo a posting of a saga, as scalelab.saga.participant decides."""


class PostingSagas:
    """checkpoint: called with `begun`, `do_0`, `doing_1`, … when that is on a group.

    post: who carries postings out; without it, the groups of the store.
    """

    def __init__(
        self,
        client: KvClient,
        transactions: KvTransactions,
        clock: Clock,
        *,
        checkpoint: Checkpoint | None = None,
        post: Post | None = None,
    ) -> None:
        self._post = post or self._post_to_group
        self._client = client
        self._transactions = transactions
        self._clock = clock
        self._checkpoint = checkpoint

    async def begin(self, postings: Sequence[Posting]) -> str:
        """Write a saga down; it will end from here on (S1). Returns its id. Raises InvalidInput."""
        if not 0 < len(postings) <= POSTINGS_MAX or len({one.key for one in postings}) < len(
            postings
        ):
            raise InvalidInput("1 to 32 postings, each on its own key", field="postings")
        for one in postings:
            check_key(one.key)
        saga = uuid7(self._clock.now()).hex
        state, _ = begin(_definition(len(postings)))
        record = _encode(postings, state)

        async def write(work: Work) -> None:
            work.put(_record_key(saga), record)

        await self._transactions.run(write)
        await self._reached("begun")
        return saga

    async def go_on(self, saga: str) -> str:
        """Carry it to its end: `done` or `gave_up`. Any process, any number of times (S2).

        Raises NotFound for an unknown one; Conflict, Unavailable, OutcomeUnknown: call it again.
        """
        while True:
            postings, state = await self._load(saga)
            if state.ended:
                return state.step
            verb, _, number = state.step.partition("_")
            request = Request.DO if verb == "doing" else Request.UNDO
            stand = await self._post(saga, postings[int(number)], request)
            await self._reached(f"{request.value}_{number}")
            fact = f"{stand.value}_{number}"
            if request is Request.DO and stand is Stand.UNDONE:
                continue  # somebody else goes on with it too, and is further
            step = await self._advance(saga, state, fact)
            await self._reached(step)

    async def unfinished(self) -> tuple[str, ...]:
        """Sagas that somebody should go on with. Raises Unavailable."""
        found = await self._client.find(_RECORDS)
        return tuple(
            one.key.rsplit(b"{", 1)[1].rstrip(b"}").decode()
            for one in found
            if not _decode(one.value)[1].ended
        )

    async def _post_to_group(self, saga: str, posting: Posting, request: Request) -> Stand:
        stand_key = beside(_STANDS, posting.key, saga.encode())

        async def act(work: Work) -> Stand:
            found = await work.get_all([stand_key, posting.key])
            stand = Stand((found[stand_key] or Stand.UNTOUCHED.value.encode()).decode())
            balance = _balance(found[posting.key])
            possible = balance is not None and balance + posting.amount >= 0
            verdict = decide(stand, request, possible=possible)
            if verdict.work is not Effort.NOTHING:
                if balance is None:
                    raise Conflict(f"{posting.key[:60]!r} holds no balance any more")
                sign = 1 if verdict.work is Effort.CARRY_OUT else -1
                work.put(posting.key, b"%d" % (balance + sign * posting.amount))
            if verdict.stand is not stand:
                work.put(stand_key, verdict.stand.value.encode())
            return verdict.answer

        return await self._transactions.run(act)

    async def _advance(self, saga: str, state: SagaState, fact: str) -> str:
        """Tell the saga a fact, unless it has moved meanwhile; returns its step then."""

        async def act(work: Work) -> str:
            postings, now = _decode(await work.get(_record_key(saga)) or b"")
            if now.version != state.version:
                return now.step
            moved, _ = advance(_definition(len(postings)), now, fact)
            work.put(_record_key(saga), _encode(postings, moved))
            return moved.step

        return await self._transactions.run(act)

    async def _load(self, saga: str) -> tuple[tuple[Posting, ...], SagaState]:
        current = await self._client.get(_record_key(saga))
        if current is None:
            raise NotFound(f"there is no saga {saga}")
        return _decode(current.value)

    async def _reached(self, name: str) -> None:
        if self._checkpoint is not None:
            await self._checkpoint(name)


def _record_key(saga: str) -> bytes:
    return _RECORDS + b"/{" + saga.encode() + b"}"


def _balance(value: bytes | None) -> int | None:
    """None for what is no number."""
    try:
        return int(value or b"0")
    except ValueError:
        return None


def _definition(count: int) -> SagaDefinition:
    """do_n answers done_n or refused_n; undo_n answers undone_n. Nothing waits: no deadline."""
    actions = [
        Action(f"do_{n}", f"done_{n}", f"refused_{n}", f"undo_{n}", f"undone_{n}")
        for n in range(count)
    ]
    return sequence("postings", actions, deadline_s=0.0)


def _encode(postings: Sequence[Posting], state: SagaState) -> bytes:
    told = [[one.key.hex(), one.amount] for one in postings]
    return json.dumps({"postings": told, "state": state.to_json()}).encode()


def _decode(value: bytes) -> tuple[tuple[Posting, ...], SagaState]:
    try:
        document = json.loads(value)
        postings = tuple(
            Posting(bytes.fromhex(key), int(amount)) for key, amount in document["postings"]
        )
        return postings, SagaState.from_json(document["state"])
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptData(f"this is no saga: {value[:80]!r}") from error
