"""What is cold at which instant: whole calendar months (UTC) of orders that will not change again.

Theory of operation
    An order is read often while it is young, and hardly ever afterwards. The unit that cools down
    is the month in which it was placed: a name that everybody knows, that never changes for an
    order, and that a question about a span of time can be turned into. A month is cold once
    `hot_months` whole months have passed since its end. Of a cold month only the orders in an end
    state move; one that is still open stays hot, however old, and moves when it has ended.

Invariants (tests cite them)
    I1  A month that is cold stays cold: coldness depends on the instant alone and never goes back.
    I2  No order of the last `hot_months` whole months, nor of the current one, is cold.
    I3  No open order is cold.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from uuid import UUID

from scalelab.errors import InvalidInput

OPEN_STATES = ("pending", "paid", "stock_reserved")
END_STATES = ("confirmed", "rejected", "payment_failed", "cancelled", "refunded")


@dataclass(frozen=True, slots=True)
class OrderRow:
    """An order as it is stored, hot and cold alike. placed_at: aware, UTC, microseconds."""

    order_id: UUID
    user_id: str
    country: str
    amount_cents: int
    state: str
    placed_at: datetime


@dataclass(frozen=True, slots=True)
class ColdPolicy:
    """hot_months: whole months kept hot besides the current one. batch_rows: of one file, most."""

    hot_months: int = 3
    batch_rows: int = 50_000

    def __post_init__(self) -> None:
        if not 0 <= self.hot_months <= 1200:
            raise InvalidInput("hot_months is 0 to 1200", field="hot_months")
        if not 1 <= self.batch_rows <= 1_000_000:
            raise InvalidInput("batch_rows is 1 to 1,000,000", field="batch_rows")


def month_of(instant: datetime) -> date:
    """The first day of an aware instant's month in UTC. Raises InvalidInput on a naive one."""
    if instant.tzinfo is None:
        raise InvalidInput(f"{instant} has no time zone", field="instant")
    return instant.astimezone(UTC).date().replace(day=1)


def months_after(month: date, count: int) -> date:
    """The month `count` later; earlier for a negative count."""
    index = month.year * 12 + month.month - 1 + count
    return date(index // 12, index % 12 + 1, 1)


def start_of(month: date) -> datetime:
    """The instant at which a month begins."""
    return datetime(month.year, month.month, 1, tzinfo=UTC)


def cold_before(policy: ColdPolicy, now: datetime) -> date:
    """The first month that is not cold at `now`; every month before it is."""
    return months_after(month_of(now), -policy.hot_months)


def is_cold(row: OrderRow, policy: ColdPolicy, now: datetime) -> bool:
    """Whether this order may leave the hot store at `now`."""
    return row.state in END_STATES and month_of(row.placed_at) < cold_before(policy, now)
