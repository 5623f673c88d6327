"""Orders with their slot and idempotency key, and the guard that knows which slots are here."""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None
phase = "expand"


def upgrade() -> None:
    """Create the table. The slots it may hold are opened by `prepare`, not here."""
    op.execute(
        """
        CREATE TABLE orders (
            order_id        uuid        PRIMARY KEY,
            slot            smallint    NOT NULL CHECK (slot BETWEEN 0 AND 255),
            user_id         text        NOT NULL,
            amount_cents    bigint      NOT NULL CHECK (amount_cents > 0),
            placed_at       timestamptz NOT NULL,
            idempotency_key text        NOT NULL,
            UNIQUE (user_id, idempotency_key)
        );
        CREATE INDEX orders_of_user ON orders (user_id, order_id DESC);
        CREATE INDEX orders_of_slot ON orders (slot);
        """
    )
