"""One dependency of two freezes. What do calls to the other one get?

Two Redis servers; one is stopped with SIGSTOP, so that whoever asks it waits. First so many calls
go to the frozen one, then calls to the healthy one, one after the other. Nothing is timed: a call
is answered, refused, or still without a thread when its caller gives up.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from redis import Redis as RedisClient
from redis.backoff import NoBackoff
from redis.exceptions import TimeoutError as RedisTimeout
from redis.retry import Retry

from month3_messaging.concurrency import BlockingPool
from scalelab.errors import DeadlineExceeded, OutcomeUnknown, Overloaded
from scalelab.lab.course.experiment import Arm, Axis, Claim, Experiment, Lab, Plot, Result
from scalelab.lab.servers import Redis

THREADS = 8
WAITING = 8
CALLS = 20
UNBOUNDED = 10**9
_PATIENCE_S = 0.2  # of a caller that has no thread; one that has gets all the time it needs
_ANSWER_S = 30.0
_SOCKET_S = 0.2

Asked = Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Seen:
    """frozen: calls to the frozen server. served, refused, unserved: of the healthy one's calls."""

    frozen: int
    served: int
    refused: int
    unserved: int
    left_waiting: int


@dataclass(frozen=True, slots=True)
class Arrangement:
    """healthy and frozen may be one pool: that is the question."""

    name: str
    shared: bool
    waiting: int


ARRANGEMENTS = (
    Arrangement("one pool, endless queue", True, UNBOUNDED),
    Arrangement("one pool, bounded queue", True, WAITING),
    Arrangement("a pool each (bulkhead)", False, WAITING // 2),
)


@contextmanager
def pools(arrangement: Arrangement) -> Generator[tuple[BlockingPool, BlockingPool]]:
    """The pool of the healthy and of the frozen dependency; as many threads in each arrangement."""
    if arrangement.shared:
        with BlockingPool("all", threads=THREADS, waiting=arrangement.waiting) as pool:
            yield pool, pool
        return
    waiting = arrangement.waiting
    with ExitStack() as stack:
        made = [
            stack.enter_context(BlockingPool(name, threads=THREADS // 2, waiting=waiting))
            for name in ("healthy", "frozen")
        ]
        yield made[0], made[1]


def run(lab: Lab) -> Result:
    """Sweep the number of stuck calls, then put the time-out into the call."""
    healthy, frozen = Redis("healthy"), Redis("frozen")
    lab.runtime.start(healthy, frozen)
    stuck = range(0, 2 * THREADS + 1, 4 if lab.quick else 1)
    seen: dict[Arrangement, list[Seen]] = {}
    with _client(healthy, None) as good:
        for arrangement in ARRANGEMENTS:
            lab.note(arrangement.name)
            seen[arrangement] = [
                _with_frozen(lab, arrangement, frozen, _asking(good), number) for number in stuck
            ]
        lab.note("one pool, the time-out in the call")
        inside = _time_out_inside(lab, frozen, _asking(good))
    return Result(
        arms=(
            *(_arm(one, of_one) for one, of_one in seen.items()),
            Arm("one pool, time-out in the call", "treatment", _figures(inside), ()),
            Arm(
                "theory, one pool",
                "theory",
                {"served": CALLS},
                tuple((float(n), float(CALLS * (n < THREADS))) for n in stuck),
            ),
        ),
        shape=_claims(seen, inside),
        plot=Plot(
            Axis("calls that wait for the frozen server"),
            Axis(f"calls to the healthy one that were answered (of {CALLS})"),
        ),
        notes=(
            f"{THREADS} threads in every arrangement; the bulkhead gives each dependency half.",
            "The frozen server is a stopped process: it takes connections and says nothing.",
        ),
    )


def _client(server: Redis, timeout_s: float | None) -> RedisClient:
    return RedisClient(
        port=server.port,
        password=server.password,
        socket_timeout=timeout_s,
        retry=Retry(NoBackoff(), 0),
    )


def _asking(client: RedisClient) -> Asked:
    """A call that blocks until the server has answered."""
    return lambda: client.echo("here")  # pyright: ignore[reportUnknownMemberType] - its stub


def _with_frozen(lab: Lab, arrangement: Arrangement, frozen: Redis, ask: Asked, stuck: int) -> Seen:
    with _client(frozen, None) as bad, pools(arrangement) as (own, other):
        _asking(bad)()
        lab.runtime.pause(frozen.name)
        try:
            _fill(other, _asking(bad), stuck)
            seen = _served(own, ask, stuck)
        finally:
            # The pools end only when their calls do.
            lab.runtime.resume(frozen.name)
    return seen


def _fill(pool: BlockingPool, work: Asked, calls: int) -> list[Future[Any]]:
    taken: list[Future[Any]] = []
    for _ in range(calls):
        try:
            taken.append(pool.submit(work))
        except Overloaded:
            break
    return taken


def _served(pool: BlockingPool, ask: Asked, stuck: int) -> Seen:
    served = refused = unserved = 0
    for _ in range(CALLS):
        try:
            _patient(pool, ask)
            served += 1
        except Overloaded:
            refused += 1
        except (DeadlineExceeded, OutcomeUnknown):
            unserved += 1
    return Seen(stuck, served, refused, unserved, pool.counts().waiting)


def _patient(pool: BlockingPool, ask: Asked) -> None:
    """A call that will have a thread is waited for; one that has none gives up soon.

    So a busy machine makes no healthy call late: what is judged is whether there was a thread.
    """
    counts = pool.counts()
    free = counts.running + counts.waiting < pool.threads
    pool.call(ask, timeout_s=_ANSWER_S if free else _PATIENCE_S)


def _time_out_inside(lab: Lab, frozen: Redis, ask: Asked) -> Seen:
    """The socket's own time-out ends each stuck call, and its thread comes back."""
    with (
        _client(frozen, _SOCKET_S) as bad,
        pools(ARRANGEMENTS[1]) as (pool, _),
    ):
        lab.runtime.pause(frozen.name)
        try:
            for future in _fill(pool, _asking(bad), 2 * THREADS):
                if not isinstance(future.exception(_ANSWER_S), RedisTimeout):
                    raise OutcomeUnknown("the frozen server answered")
            return _served(pool, ask, 2 * THREADS)
        finally:
            lab.runtime.resume(frozen.name)


def _figures(seen: Seen) -> dict[str, int]:
    return {
        "stuck_calls": seen.frozen,
        "answered": seen.served,
        "refused_at_once": seen.refused,
        "gave_up": seen.unserved,
    }


def _arm(arrangement: Arrangement, seen: list[Seen]) -> Arm:
    return Arm(
        arrangement.name,
        "control" if arrangement.shared else "treatment",
        _figures(seen[-1]),
        tuple((float(one.frozen), float(one.served)) for one in seen),
    )


def _claims(seen: dict[Arrangement, list[Seen]], inside: Seen) -> tuple[Claim, ...]:
    endless, bounded, bulkhead = (seen[one] for one in ARRANGEMENTS)
    return (
        Claim(
            "a shared pool answers everything until its last thread is stuck, then nothing",
            all(one.served == (CALLS if one.frozen < THREADS else 0) for one in endless + bounded),
            f"answered by stuck calls: {[(one.frozen, one.served) for one in bounded]}",
        ),
        Claim(
            "with a pool of its own the healthy dependency answers every call",
            all(one.served == CALLS for one in bulkhead),
            f"answered: {[one.served for one in bulkhead]} of {CALLS}",
        ),
        Claim(
            "once its queue is full, a bounded pool refuses at once; an endless one never does",
            bounded[-1].refused == CALLS and sum(one.refused for one in endless) == 0,
            f"refused {bounded[-1].refused} and {endless[-1].refused} of {CALLS}",
        ),
        Claim(
            "a time-out inside the call gives the threads back, even in a shared pool",
            inside.served == CALLS,
            f"answered {inside.served} of {CALLS} after {inside.frozen} stuck calls",
        ),
    )


EXPERIMENT = Experiment(
    slug="thread-pools",
    question="What does a frozen dependency do to calls to a healthy one in the same process?",
    varied="one pool of threads or one each; an endless or a bounded queue; where the time-out is",
    fixed="eight threads in all, two servers, twenty calls to the healthy one",
    run=run,
    topics=("P3.1",),
    needs=("redis",),
)
