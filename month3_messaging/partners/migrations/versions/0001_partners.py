"""Products with their stock, what each saga stands at, outbox and inbox."""

from __future__ import annotations

from alembic import op

from month3_messaging.inbox import DDL as INBOX
from month3_messaging.outbox import DDL as OUTBOX

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

PRODUCT = """
CREATE TABLE product (
    product_id text   PRIMARY KEY CHECK (product_id ~ '^[a-z0-9-]{1,40}$'),
    unit_minor bigint NOT NULL CHECK (unit_minor > 0),
    initial    bigint NOT NULL CHECK (initial >= 0),
    free       bigint NOT NULL CHECK (free >= 0),
    taken      bigint NOT NULL DEFAULT 0 CHECK (taken >= 0),
    CONSTRAINT stock_is_conserved CHECK (initial = free + taken)
) WITH (fillfactor = 50);
"""

# amount_minor stays after a refund: it says that there was something to give back.
PART = """
CREATE TABLE part (
    role         text   NOT NULL CHECK (role IN ('payment', 'stock')),
    saga_id      uuid   NOT NULL,
    stand        text   NOT NULL DEFAULT 'untouched'
                 CHECK (stand IN ('untouched', 'done', 'refused', 'undone')),
    lines        jsonb  NOT NULL DEFAULT '[]',
    expires_at   timestamptz,
    amount_minor bigint CHECK (amount_minor > 0),
    currency     text,
    PRIMARY KEY (role, saga_id)
);
CREATE INDEX part_due ON part (expires_at) WHERE stand = 'done' AND expires_at IS NOT NULL;
"""


def upgrade() -> None:
    for statements in (PRODUCT, PART, OUTBOX, INBOX):
        op.execute(statements)


def downgrade() -> None:
    op.execute("DROP TABLE product, part, outbox, inbox")
