"""Jobs by order, invoices with their numbers, the counter, the inbox."""

from __future__ import annotations

from alembic import op

from month3_messaging.inbox import DDL as INBOX

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# waiting: the order is not confirmed yet. attempts: begun, however they ended.
JOB = """
CREATE TABLE job (
    order_id    uuid        PRIMARY KEY,
    content     jsonb       NOT NULL,
    state       text        NOT NULL DEFAULT 'waiting'
                CHECK (state IN ('waiting', 'ready', 'done', 'parked')),
    attempts    integer     NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    enqueued_at timestamptz,
    code        text,
    cause       text,
    stack       text,
    changed_at  timestamptz NOT NULL DEFAULT now(),
    CHECK ((state = 'parked') = (code IS NOT NULL))
);
CREATE INDEX job_ready ON job (enqueued_at NULLS FIRST) WHERE state = 'ready';
"""

INVOICE = """
CREATE TABLE invoice (
    order_id  uuid        PRIMARY KEY REFERENCES job,
    number    bigint      NOT NULL UNIQUE CHECK (number > 0),
    issued_at timestamptz NOT NULL DEFAULT now(),
    pdf       bytea,
    mailed_at timestamptz
);
"""

# A sequence would leave a hole for every transaction that is rolled back.
COUNTER = """
CREATE TABLE invoice_counter (
    one  boolean PRIMARY KEY DEFAULT true CHECK (one),
    last bigint  NOT NULL CHECK (last >= 0)
);
INSERT INTO invoice_counter (last) VALUES (0);
"""


def upgrade() -> None:
    for statements in (JOB, INVOICE, COUNTER, INBOX):
        op.execute(statements)
