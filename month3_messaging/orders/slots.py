"""Which tables go along when an order changes its database, and which row stays behind.

Every row of an order is admitted, moved and guarded by its slot. The outbox alone stays: its ids
are one database's own and say in which order its events leave, so an event leaves from where it was
committed. A slot may go once none of its events is waiting there any more. Then no later event of
an order, committed elsewhere, can overtake an earlier one.
"""

from __future__ import annotations

from typing import Final

SLOT: Final = "slot"
"""The column, in all of them."""

MOVING_TABLES: Final = ("orders", "order_history", "saga", "inbox", "idempotency_key")
"""Tables whose rows go with their slot."""

STAYING_TABLE: Final = "outbox"
"""The table whose rows stay, and must have left as events before the slot goes."""

UNSENT_WHILE_NULL: Final = "sent_at"
"""Its column that is empty until a row's event has left."""
