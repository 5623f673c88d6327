"""Orders, their history and sagas, the outbox, the inbox and idempotency keys."""

from __future__ import annotations

from alembic import op

from month3_messaging import inbox, outbox
from month3_messaging.orders import records
from scalelab.web import idempotency_postgres

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None
phase = "expand"


def upgrade() -> None:
    """Create the tables; each room's own statement is its first version, frozen."""
    op.execute(records.DDL)
    op.execute(outbox.DDL)
    op.execute(inbox.DDL)
    op.execute(idempotency_postgres.DDL)
