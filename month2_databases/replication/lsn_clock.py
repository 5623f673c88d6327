"""LSN clock: how old a replica's answer can be, without trusting anybody's wall clock. Pure.

Theory of operation
    `now() - pg_last_xact_replay_timestamp()` is what most dashboards call lag. It compares clocks
    of two machines, grows while an idle primary has nothing to replay, and says nothing of a
    stream that broke. Here the primary is asked now and then where its log ends, and the instant
    *before* asking is kept with the answer: everything acknowledged until then stands at or
    before it. A replica that has replayed that far shows all of it, so its answer is no older
    than that instant. One clock, the asker's.

        asked at  10.00  10.05  10.10  10.15      replica replayed 210, now 10.18
        log end     100    210    210    380      -> at most 10.18 - 10.10 = 0.08 s old

Invariants (tests cite them)
    I1  The bound holds: a commit acknowledged `bound` seconds ago or earlier is shown.
    I2  An idle primary that answers keeps caught-up replicas fresh.
    I3  A primary that does not answer makes every bound grow with time.
    I4  At most `SAMPLES_MAX` samples are kept; what is older than all of them is infinitely stale.
    I5  Another timeline begins with no samples: its positions do not compare.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

SAMPLES_MAX = 1200
PAGE_BYTES = 8192
_HEADERS_BYTES = (24, 40)  # of a page, and of the first page of a segment


@dataclass(frozen=True, slots=True)
class Sample:
    """The log ended at `lsn` when asked; asked_at_s: monotonic, before asking."""

    lsn: int
    asked_at_s: float


@dataclass(frozen=True, slots=True)
class LsnClock:
    """Samples of one timeline, positions and instants rising; () knows nothing."""

    timeline: int | None = None
    samples: tuple[Sample, ...] = ()

    def end_lsn(self, timeline: int) -> int | None:
        """Where the log ended when last asked, bytes; None for a timeline that was not asked."""
        return self.samples[-1].lsn if self.samples and self.timeline == timeline else None


def observe(clock: LsnClock, *, timeline: int, lsn: int, asked_at_s: float) -> LsnClock:
    """The clock after the primary answered (I2, I4, I5)."""
    lsn = end_of_record(lsn)
    if clock.timeline != timeline:
        return LsnClock(timeline, (Sample(lsn, asked_at_s),))
    kept: Sequence[Sample] = clock.samples
    while kept and kept[-1].lsn >= lsn:  # an idle primary: the same place, later
        kept = kept[:-1]
    kept = (*kept[-(SAMPLES_MAX - 1) :], Sample(lsn, asked_at_s))
    return LsnClock(timeline, kept)


def stale_bound_s(clock: LsnClock, *, timeline: int, replayed_lsn: int, now_s: float) -> float:
    """Seconds that an answer from `replayed_lsn` can be old at most (I1, I3); inf if unknown."""
    if clock.timeline != timeline:
        return math.inf
    place = bisect_right(clock.samples, replayed_lsn, key=lambda sample: sample.lsn)
    return now_s - clock.samples[place - 1].asked_at_s if place else math.inf


def end_of_record(lsn: int) -> int:
    """Where the last record ended, for an insert position that may stand behind a page header.

    A replica that has replayed that record reports the page's start; nothing lies between.
    """
    offset = lsn % PAGE_BYTES
    return lsn - offset if offset in _HEADERS_BYTES else lsn
