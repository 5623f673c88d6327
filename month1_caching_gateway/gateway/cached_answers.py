"""The response cache at the door: which requests it serves, and what it keeps of their answers.

Only routes with a `cache` policy are looked at, and only GET and HEAD without credentials. A hit
is answered from bytes in hand, in the same callback that read the request, by one write. What runs
at the service for the cache is in cache_fetch.py; the rules are in month1's room response_cache.

What a client says in Cache-Control may not weaken the cache: `no-cache` and `max-age` of a request
are ignored, because a stranger could push his load through; `no-store` and `only-if-cached` are
obeyed. Every answer says in `Cache-Status` (RFC 9211) how it came about.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from month1_caching_gateway.gateway.cache_fetch import Fetch, FetchSeat
from month1_caching_gateway.gateway.heads import Framing, RequestHead, ResponseHead, joined
from month1_caching_gateway.gateway.interception import OwnAnswer, Seat, Tap
from month1_caching_gateway.gateway.known_hits import KnownHits
from month1_caching_gateway.gateway.plane import Plane
from month1_caching_gateway.gateway.problems import Header, Refused
from month1_caching_gateway.gateway.recent import Recent
from month1_caching_gateway.response_cache import (
    CONDITIONS,
    NOT_SENT_IN_304,
    CachePolicy,
    Entry,
    EntryStore,
    Freshness,
    Key,
    Use,
    freshness_of,
    has_credentials,
    kept_query,
    key_of,
    not_modified,
    read_directives,
    updated,
    variant_of,
    vary_names,
    why_not_stored,
)

if TYPE_CHECKING:
    from month1_caching_gateway.gateway.account import Account

NAME = b"gateway"
_SERVED = frozenset(("GET", "HEAD"))
_SAFE = frozenset(("GET", "HEAD", "OPTIONS", "TRACE"))
_HOP = frozenset((b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer"))
_DROPPED = _HOP | frozenset(
    (b"transfer-encoding", b"upgrade", b"content-length", b"age", b"x-request-id", b"server")
)
_PASSING_S = 5.0
_PASSING = 4096


@dataclass(frozen=True, slots=True)
class Ask:
    """One request the cache may serve. shared: what a fetch for it can be shared by."""

    account: Account
    policy: CachePolicy
    key: Key
    target: bytes
    asked: dict[bytes, bytes]

    @property
    def shared(self) -> tuple[Key, tuple[bytes, ...]]:
        return self.key, variant_of(tuple(sorted(self.policy.visible)), self.asked)


class ResponseCache:
    """For one event loop; of this process alone. max_bytes: of all answers together."""

    def __init__(self, max_bytes: int) -> None:
        self._store = EntryStore(max_bytes)
        self._fetches: dict[tuple[Key, tuple[bytes, ...]], Fetch] = {}
        self._alone: set[Fetch] = set()
        self._passing: Recent[Key, float] = Recent(_PASSING)
        self._counts: dict[str, int] = {}
        self._known = KnownHits(NAME)

    def counts(self) -> dict[str, float]:
        """How requests were answered, by kind; and what is held."""
        return {
            **{kind: float(count) for kind, count in self._counts.items()},
            "bytes": float(self._store.bytes),
            "keys": float(len(self._store)),
        }

    def serve(self, plane: Plane, account: Account) -> OwnAnswer | Seat | Tap | None:
        """What becomes of an admitted request. Raises Refused (504 for only-if-cached)."""
        head, route, target = account.head, account.route, account.target
        if route is None or target is None:
            return None
        policy = route.cache
        if policy is not None:
            known = self.recall(head, policy, account.began_s)
            if known is not None:
                return known
        host = head.named.get(b"host", b"").lower()
        if head.method not in _SAFE:
            return _Invalidation(self, host, target.path)
        if policy is None or head.method not in _SERVED:
            return None
        return self._serve(plane, account, policy, key_of(host, target.path, None))

    def recall(self, head: RequestHead, policy: CachePolicy, now_s: float) -> OwnAnswer | None:
        """The hit that these very bytes were before, while it is kept and fresh."""
        known = self._known.find(head, policy, now_s)
        if known is None:
            return None
        self._store.touch(known[0])
        self._count("hit")
        return known[1]

    def _serve(
        self, plane: Plane, account: Account, policy: CachePolicy, at: Key
    ) -> OwnAnswer | Seat | Tap:
        head = account.head
        host, path, _ = at
        asked = head.by_name
        if has_credentials(asked):
            return self._bypassed()
        target = account.target
        query = kept_query(None if target is None else target.query, policy)
        key = key_of(host, path, query)
        entry = self._store.find(key, asked)
        if (
            entry is not None
            and b"cache-control" not in asked
            and entry.freshness.use(account.began_s) is Use.FRESH
        ):
            if CONDITIONS.isdisjoint(asked):
                self._count("hit")
                return self._known.remember(head, policy, key, entry, account.began_s)
            return self._hit(entry, asked, account.began_s)
        wire = path.encode() + (b"" if query is None else b"?" + query)
        return self._without_fresh(plane, Ask(account, policy, key, wire, asked), entry)

    def _without_fresh(self, plane: Plane, ask: Ask, entry: Entry | None) -> OwnAnswer | Seat | Tap:
        """Nothing fresh is stored, or the request has wishes of its own."""
        directives = read_directives([ask.asked.get(b"cache-control", b"")])
        if directives.no_store:
            return self._bypassed()
        now_s = ask.account.began_s
        use = Use.VALIDATE_FIRST if entry is None else entry.freshness.use(now_s)
        if entry is not None and use is not Use.VALIDATE_FIRST:
            if use is Use.STALE_WHILE_REVALIDATE and ask.shared not in self._fetches:
                self._fetch(plane, ask, entry).start()
            return self._hit(entry, ask.asked, now_s)
        if directives.only_if_cached:
            raise Refused(504, "not_cached", "nothing usable is stored, and nothing may be fetched")
        return self._seat(plane, ask, entry, now_s)

    def sweep(self, now_s: float) -> None:
        """Act on the deadlines of the fetches under way."""
        for fetch in (*self._fetches.values(), *self._alone):
            fetch.sweep(now_s)

    def invalidate(self, host: bytes, path: str) -> None:
        """An unsafe request changed this target: nothing older is kept, or comes in late."""
        self._store.drop_target(host, path)
        for fetch in (*self._fetches.values(), *self._alone):
            if fetch.ask.key[:2] == (host, path):
                fetch.outdated = True
        for shared in [one for one, fetch in self._fetches.items() if fetch.outdated]:
            self._alone.add(self._fetches.pop(shared))

    # What a fetch asks and says.

    def may_store(self, fetch: Fetch, head: ResponseHead) -> bool:
        """Whether this answer may be kept."""
        if head.framing is Framing.LENGTH and head.length > fetch.ask.policy.max_entry_bytes:
            return False
        named = joined(head.headers)
        directives = read_directives([named.get(b"cache-control", b"")])
        freshness = fetch.freshness = self._freshness(fetch, named)
        return why_not_stored(head.status, named, directives, freshness, fetch.ask.policy) is None

    def stored(self, fetch: Fetch, head: ResponseHead, body: bytes) -> Entry:
        """Keep a whole answer, unless its target changed meanwhile."""
        removed = _DROPPED | {token.strip() for token in head.connection.split(b",")}
        headers = [
            (name, value)
            for name, value in head.headers
            if name not in removed and not name.startswith(b"x-internal-")
        ]
        return self._put(fetch, head.status, headers, body)

    def refreshed(self, fetch: Fetch, entry: Entry, head: ResponseHead) -> Entry:
        """The stored answer is still good: it gets the headers and the freshness of a 304."""
        fresh = [pair for pair in head.headers if pair[0] not in _DROPPED]
        headers = updated(entry.headers, fresh)
        fetch.freshness = self._freshness(fetch, joined(headers))
        return self._put(fetch, entry.status, headers, entry.body)

    def unstorable(self, fetch: Fetch) -> None:
        """The next ones do not wait for each other, for a while."""
        self._store.drop(fetch.ask.key)
        self._passing.put(fetch.ask.key, fetch.asked_at_s + _PASSING_S)

    def ended(self, fetch: Fetch) -> None:
        """It runs no more, or nobody may join it any more."""
        if self._fetches.get(fetch.ask.shared) is fetch:
            del self._fetches[fetch.ask.shared]
        self._alone.discard(fetch)

    def again_alone(self, seat: FetchSeat) -> None:
        """The seat's request goes to the service by itself."""
        fetch = Fetch(self, seat.wanted, seat.fetch.plane, None)
        self._alone.add(fetch)
        seat.move(fetch)

    def answer(self, entry: Entry, ask: Ask, now_s: float, said: str) -> OwnAnswer:
        """A stored answer for one who waited for it. said: for Cache-Status."""
        self._count("collapsed" if "collapsed" in said else "miss")
        return self._own(entry, ask.asked, now_s, b"; " + said.encode())

    @staticmethod
    def marked(head: ResponseHead, said: str) -> ResponseHead:
        """The head of an answer that only passes."""
        status = (b"cache-status", NAME + b"; " + said.encode())
        return replace(head, headers=[*head.headers, status], passed_on=None)

    # Inside.

    def _hit(self, entry: Entry, asked: dict[bytes, bytes], now_s: float) -> OwnAnswer:
        self._count("hit")
        return self._own(entry, asked, now_s, b"; hit")

    def _own(self, entry: Entry, asked: dict[bytes, bytes], now_s: float, said: bytes) -> OwnAnswer:
        age_s = entry.freshness.age_s(now_s)
        extra = (
            (b"age", b"%d" % age_s),
            (b"cache-status", NAME + said + b"; ttl=%d" % (entry.freshness.lifetime_s - age_s)),
        )
        if (b"if-none-match" in asked or b"if-modified-since" in asked) and not_modified(
            asked, entry.named, entry.status
        ):
            headers = [pair for pair in entry.headers if pair[0] not in NOT_SENT_IN_304]
            return OwnAnswer(ResponseHead(304, headers, Framing.NONE, 0, True, b""), b"", extra)
        made = entry.note
        if not isinstance(made, ResponseHead):
            length = (b"content-length", b"%d" % len(entry.body))
            listed = entry.headers if entry.status == 204 else [*entry.headers, length]
            made = ResponseHead(entry.status, listed, Framing.LENGTH, len(entry.body), True, b"")
            entry.note = made
        return OwnAnswer(made, entry.body, extra)

    def _seat(self, plane: Plane, ask: Ask, entry: Entry | None, now_s: float) -> Seat:
        passing_s = self._passing.get(ask.key)
        alone = passing_s is not None and now_s < passing_s
        fetch = None if alone else self._fetches.get(ask.shared)
        if fetch is None:
            fetch = self._fetch(plane, ask, entry, alone=alone)
        return FetchSeat(fetch, ask)

    def _fetch(self, plane: Plane, ask: Ask, stale: Entry | None, *, alone: bool = False) -> Fetch:
        fetch = Fetch(self, ask, plane, stale)
        if alone:
            self._alone.add(fetch)
        else:
            self._fetches[ask.shared] = fetch
        return fetch

    def _freshness(self, fetch: Fetch, named: dict[bytes, bytes]) -> Freshness:
        clock = fetch.plane.clock
        return freshness_of(
            named,
            read_directives([named.get(b"cache-control", b"")]),
            fetch.ask.policy,
            asked_at_s=fetch.asked_at_s,
            received_at_s=clock.monotonic_s(),
            now=clock.now(),
        )

    def _put(self, fetch: Fetch, status: int, headers: list[Header], body: bytes) -> Entry:
        named = joined(headers)
        vary = tuple(sorted(vary_names(named)))
        entry = Entry(
            status,
            headers,
            named,
            body,
            vary,
            variant_of(vary, fetch.ask.asked),
            fetch.freshness or self._freshness(fetch, named),
        )
        if not fetch.outdated:
            self._store.put(fetch.ask.key, entry)
        return entry

    def _bypassed(self) -> Tap:
        self._count("bypass")
        return _BYPASS

    def _count(self, kind: str) -> None:
        self._counts[kind] = self._counts.get(kind, 0) + 1


class _Bypass:
    """Says that the cache was not asked."""

    def on_head(self, head: ResponseHead) -> Iterable[Header]:
        return ((b"cache-status", NAME + b"; fwd=bypass"),)

    def on_body(self, pieces: list[bytes], *, ended: bool) -> None:
        return

    def on_broken(self) -> None:
        return


_BYPASS = _Bypass()


class _Invalidation(_Bypass):
    """Hears whether an unsafe request went well (RFC 9111 section 4.4)."""

    def __init__(self, cache: ResponseCache, host: bytes, path: str) -> None:
        self._cache = cache
        self._host = host
        self._path = path

    def on_head(self, head: ResponseHead) -> Iterable[Header]:
        if head.status < 400:
            self._cache.invalidate(self._host, self._path)
        return ()

    def on_broken(self) -> None:
        """The outcome is unknown: it may have changed."""
        self._cache.invalidate(self._host, self._path)
