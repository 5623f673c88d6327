"""A product that was deleted keeps its row, and with it its version.

Versions must never start again: an entity tag or a cache entry of the old product would fit the new
one. The row is what remembers how far they went.
"""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE product ADD COLUMN deleted_at timestamptz")


def downgrade() -> None:
    op.execute("DELETE FROM product WHERE deleted_at IS NOT NULL")
    op.execute("ALTER TABLE product DROP COLUMN deleted_at")
