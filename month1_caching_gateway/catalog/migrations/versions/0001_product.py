"""The product table."""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    # COLLATE "C": ids are ASCII, and pages are ordered by them the same on every server.
    op.execute(
        """
        CREATE TABLE product (
            product_id  text COLLATE "C" PRIMARY KEY
                        CHECK (product_id ~ '^[a-z0-9-]{1,40}$'),
            name        text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
            description text NOT NULL CHECK (length(description) <= 2000),
            category    text NOT NULL CHECK (length(category) BETWEEN 1 AND 60),
            unit_minor  bigint NOT NULL CHECK (unit_minor > 0),
            currency    text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
            version     integer NOT NULL DEFAULT 1 CHECK (version >= 1),
            updated_at  timestamptz NOT NULL DEFAULT now()
        )
        """
    )


def downgrade() -> None:
    op.execute("DROP TABLE product")
