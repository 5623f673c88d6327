"""Rows from before 0002 get their slot, an order's together."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None
phase = "backfill"

batch = """
WITH found AS (
    SELECT order_id, user_id,
           ((get_byte(uuid_send(order_id), 8) & 63) << 2) | (get_byte(uuid_send(order_id), 9) >> 6)
               AS slot
    FROM orders WHERE slot IS NULL LIMIT 500 FOR UPDATE
), told AS (
    UPDATE order_history AS h SET slot = found.slot FROM found WHERE h.order_id = found.order_id
), kept AS (
    UPDATE saga AS s SET slot = found.slot FROM found WHERE s.order_id = found.order_id
), sent AS (
    UPDATE outbox AS o SET slot = found.slot FROM found WHERE o.key = found.order_id::text
), received AS (
    UPDATE inbox AS i SET slot = found.slot FROM found JOIN order_history AS h USING (order_id)
    WHERE i.event_id = h.event_id
), answered AS (
    UPDATE idempotency_key AS k SET slot = found.slot FROM found WHERE k.user_id = found.user_id
)
UPDATE orders AS o SET slot = found.slot FROM found WHERE o.order_id = found.order_id
"""


def upgrade() -> None:
    """Fill what is empty, then hold every row to its id.

    Inbox rows of events that changed no order name none, so their slot cannot be known. They go:
    such an event, delivered once more, changes nothing once more.
    """
    connection = op.get_bind()
    while connection.exec_driver_sql(batch).rowcount > 0:
        pass
    op.execute("DELETE FROM inbox WHERE slot IS NULL")
    for table in ("orders", "order_history", "saga"):
        op.execute(f"ALTER TABLE {table} VALIDATE CONSTRAINT {table}_slot_of_id")
