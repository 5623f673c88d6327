"""One direction of a network line: when does what went in come out?

Theory of operation
    A line has a delay, a random addition to it, and perhaps a bandwidth. Bytes queue for the
    bandwidth first and then travel: two chunks can be on their way at once, but they share the
    width of the line. A line keeps order, as TCP does: a chunk with a small random addition waits
    for the one before it.

Invariants (tests cite them)
    L1  Nothing comes out before it went in, plus the delay.
    L2  What went in first comes out first.
    L3  In any span of t seconds at most bandwidth * t bytes come out, and the chunk that ends it.
    L4  A line that resets lets through exactly `reset_after_bytes` bytes.

Absent on purpose: loss and duplicates, which TCP hides from both ends and turns into delay.
"""

from __future__ import annotations

from dataclasses import dataclass

from scalelab.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Line:
    """What a line does to bytes that go one way.

    delay_s: to every byte. jitter_s: at most this is added. bytes_per_s: None is unlimited.
    reset_after_bytes: the connection is reset once so many bytes have gone this way; None never.
    """

    delay_s: float = 0.0
    jitter_s: float = 0.0
    bytes_per_s: float | None = None
    reset_after_bytes: int | None = None

    def __post_init__(self) -> None:
        if self.delay_s < 0 or self.jitter_s < 0:
            raise InvalidInput("a line cannot deliver before it is sent", field="delay_s")
        if self.bytes_per_s is not None and self.bytes_per_s <= 0:
            raise InvalidInput("a line of no width delivers nothing", field="bytes_per_s")
        if self.reset_after_bytes is not None and self.reset_after_bytes < 0:
            raise InvalidInput("bytes are counted from 0", field="reset_after_bytes")


@dataclass(frozen=True, slots=True)
class LineState:
    """Of one connection and direction. Instants: seconds on the driver's clock.

    free_at_s: when the line has put its last byte on its way. last_out_s: when the last one
    arrives. passed: bytes let through so far.
    """

    free_at_s: float = 0.0
    last_out_s: float = 0.0
    passed: int = 0


@dataclass(frozen=True, slots=True)
class Passage:
    """Of one chunk: the first `size` bytes come out at `out_s`; then perhaps the line resets."""

    out_s: float
    size: int
    resets: bool


def pass_through(
    line: Line, state: LineState, *, size: int, now_s: float, draw: float
) -> tuple[LineState, Passage]:
    """Send `size` bytes into the line at `now_s`. draw: random, 0 <= draw < 1. Cost: O(1)."""
    allowed, resets = size, False
    if line.reset_after_bytes is not None and state.passed + size >= line.reset_after_bytes:
        allowed, resets = max(0, line.reset_after_bytes - state.passed), True
    starts_s = max(now_s, state.free_at_s)
    width = line.bytes_per_s
    free_at_s = starts_s + (allowed / width if width is not None else 0.0)
    out_s = max(free_at_s + line.delay_s + draw * line.jitter_s, state.last_out_s)
    return LineState(free_at_s, out_s, state.passed + allowed), Passage(out_s, allowed, resets)
