"""Stock with its conservation law as constraints, holds, outbox and inbox."""

from __future__ import annotations

from alembic import op

from month3_messaging.inbox import DDL as INBOX
from month3_messaging.outbox import DDL as OUTBOX

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Half-filled pages keep the many updates of a wanted product on its own page (HOT updates), so
# that its index is not touched and old versions are cleaned away in passing.
STOCK = """
CREATE TABLE stock (
    product_id text   PRIMARY KEY CHECK (product_id ~ '^[a-z0-9-]{1,40}$'),
    initial    bigint NOT NULL CHECK (initial >= 0),
    available  bigint NOT NULL CHECK (available >= 0),
    held       bigint NOT NULL DEFAULT 0 CHECK (held >= 0),
    reserved   bigint NOT NULL DEFAULT 0 CHECK (reserved >= 0),
    CONSTRAINT stock_is_conserved CHECK (initial = available + held + reserved)
) WITH (fillfactor = 50);
"""

HOLD = """
CREATE TABLE hold (
    hold_id    uuid        PRIMARY KEY,
    user_id    text        NOT NULL,
    order_id   uuid,
    state      text        NOT NULL CHECK (state IN ('held', 'reserved', 'released', 'expired')),
    expires_at timestamptz,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    CONSTRAINT hold_ends_while_held CHECK ((state = 'held') <= (expires_at IS NOT NULL)),
    CONSTRAINT hold_reserved_for_an_order CHECK ((state = 'reserved') <= (order_id IS NOT NULL))
);
CREATE INDEX hold_due ON hold (expires_at) WHERE state = 'held';
CREATE INDEX hold_order ON hold (order_id) WHERE order_id IS NOT NULL;
CREATE TABLE hold_line (
    hold_id    uuid   NOT NULL REFERENCES hold ON DELETE CASCADE,
    product_id text   NOT NULL REFERENCES stock,
    quantity   bigint NOT NULL CHECK (quantity > 0),
    PRIMARY KEY (hold_id, product_id)
);
"""


def upgrade() -> None:
    for statements in (STOCK, HOLD, OUTBOX, INBOX):
        op.execute(statements)


def downgrade() -> None:
    op.execute("DROP TABLE hold_line, hold, stock, outbox, inbox")
