"""Old letters may leave, and only a clean-up may take their lines of the audit along."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# The line that says a letter was cleaned away outlives the letter. Against accidents, not against
# who owns the table: a clean-up says what it is, and lines are never changed.
CLEAN_UP = """
ALTER TABLE dead_letter_audit DROP CONSTRAINT dead_letter_audit_letter_id_fkey;
CREATE INDEX dead_letter_settled ON dead_letter (changed_at, id)
    WHERE state IN ('replayed', 'discarded');
CREATE OR REPLACE FUNCTION audit_stands() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN
    IF TG_OP = 'DELETE' AND current_setting('desk.cleaning', true) = 'on' THEN RETURN NULL; END IF;
    RAISE EXCEPTION 'the audit of dead letters is only ever added to';
END $$;
"""


def upgrade() -> None:
    op.execute(CLEAN_UP)
