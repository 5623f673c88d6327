"""The accounts."""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    # One spelling of an address is stored, so a plain unique index is enough; the check keeps a
    # writer that forgets to normalize from making a second account for it.
    op.execute(
        """
        CREATE TABLE user_account (
            user_id       text PRIMARY KEY,
            email         text NOT NULL CONSTRAINT user_account_email_key UNIQUE
                          CHECK (email = lower(email) AND length(email) <= 254),
            password_hash text NOT NULL CHECK (password_hash LIKE '$argon2id$%'),
            created_at    timestamptz NOT NULL
        )
        """
    )


def downgrade() -> None:
    op.execute("DROP TABLE user_account")
