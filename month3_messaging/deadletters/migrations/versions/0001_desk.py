"""Letters, and what was done to them."""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# One row for each event that a group gave up on, however often it comes back. headers are json and
# not jsonb: they go out as they came in, a NUL included.
LETTER = """
CREATE TABLE dead_letter (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    consumer         text        NOT NULL,
    origin_topic     text        NOT NULL,
    origin_partition bigint      NOT NULL,
    origin_offset    bigint      NOT NULL,
    event_id         uuid        NOT NULL,
    key              bytea,
    headers          json        NOT NULL,
    value            bytea       NOT NULL,
    attempts         bigint      NOT NULL,
    code             text        NOT NULL,
    message          text        NOT NULL,
    stack            text        NOT NULL,
    state            text        NOT NULL DEFAULT 'parked'
                     CHECK (state IN ('parked', 'replaying', 'replayed', 'discarded')),
    round            bigint      NOT NULL DEFAULT 0,
    version          bigint      NOT NULL DEFAULT 1,
    parked_at        timestamptz NOT NULL DEFAULT now(),
    changed_at       timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT one_letter_an_event
        UNIQUE (consumer, origin_topic, origin_partition, origin_offset, event_id)
);
CREATE INDEX dead_letter_state ON dead_letter (state, id);
"""

AUDIT = """
CREATE TABLE dead_letter_audit (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    letter_id bigint      NOT NULL REFERENCES dead_letter (id),
    at        timestamptz NOT NULL DEFAULT now(),
    who       text        NOT NULL,
    what      text        NOT NULL,
    before    json,
    after     json        NOT NULL
);
CREATE INDEX dead_letter_audit_letter ON dead_letter_audit (letter_id, id);
CREATE FUNCTION audit_stands() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'the audit of dead letters is only ever added to'; END $$;
CREATE TRIGGER audit_stands BEFORE UPDATE OR DELETE ON dead_letter_audit
FOR EACH STATEMENT EXECUTE FUNCTION audit_stands();
"""


def upgrade() -> None:
    for statements in (LETTER, AUDIT):
        op.execute(statements)


def downgrade() -> None:
    op.execute("DROP TABLE dead_letter_audit, dead_letter")
    op.execute("DROP FUNCTION audit_stands")
