"""Orders with their slot, and the answers of idempotency keys."""

from __future__ import annotations

from alembic import op

from scalelab.web import idempotency_postgres

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    op.execute(
        """
        CREATE TABLE orders (
            order_id     uuid        PRIMARY KEY,
            slot         smallint    NOT NULL CHECK (slot BETWEEN 0 AND 255),
            user_id      text        NOT NULL,
            amount_cents bigint      NOT NULL CHECK (amount_cents > 0),
            placed_at    timestamptz NOT NULL
        );
        CREATE INDEX orders_of_user ON orders (user_id, order_id DESC);
        CREATE INDEX orders_of_slot ON orders (slot);
        """
    )
    op.execute(idempotency_postgres.DDL)
