"""Every row of an order says its slot, so that an order can change its database as a whole."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None
phase = "expand"


def upgrade() -> None:
    """Add the column, empty; new rows get the slot that their transaction was admitted to.

    Where nobody admits transactions to slots, in an order service on one database, it stays empty.
    """
    for table in ("orders", "order_history", "saga", "inbox", "idempotency_key", "outbox"):
        op.execute(f"ALTER TABLE {table} ADD COLUMN slot smallint")
        op.execute(
            f"ALTER TABLE {table} ALTER COLUMN slot"
            " SET DEFAULT nullif(current_setting('scalelab.slot', true), '')::smallint"
        )
        if table != "outbox":  # its rows stay where they were written, see orders/slots.py
            op.execute(f"CREATE INDEX {table}_of_slot ON {table} (slot)")
    for table in ("orders", "order_history", "saga"):
        # The 8 bits after the variant of a routed id: see scalelab/ids.py.
        op.execute(
            f"ALTER TABLE {table} ADD CONSTRAINT {table}_slot_of_id CHECK (slot ="
            " (((get_byte(uuid_send(order_id), 8) & 63) << 2)"
            " | (get_byte(uuid_send(order_id), 9) >> 6))) NOT VALID"
        )
