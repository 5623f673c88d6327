"""Payments, the double-entry ledger with its rules as constraints, outbox and inbox."""

from __future__ import annotations

from alembic import op

from month3_messaging.inbox import DDL as INBOX
from month3_messaging.outbox import DDL as OUTBOX

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

PAYMENT = """
CREATE TABLE payment (
    order_id     uuid        PRIMARY KEY,
    payment_id   uuid        NOT NULL UNIQUE,
    status       text        NOT NULL
                 CHECK (status IN ('captured', 'failed', 'refunded', 'cancelled')),
    amount_minor bigint      CHECK (amount_minor > 0),
    currency     text        CHECK (currency ~ '^[A-Z]{3}$'),
    charge_id    text        UNIQUE,
    reason       text,
    recheck_at   timestamptz,
    created_at   timestamptz NOT NULL,
    updated_at   timestamptz NOT NULL,
    CONSTRAINT payment_money_iff_charged CHECK (
        (status IN ('captured', 'refunded'))
        = (num_nonnulls(amount_minor, currency, charge_id) = 3)),
    CONSTRAINT payment_recheck_only_tombstones CHECK (recheck_at IS NULL OR status = 'cancelled')
);
CREATE INDEX payment_recheck ON payment (recheck_at) WHERE recheck_at IS NOT NULL;
"""

LEDGER = """
CREATE TABLE ledger_entry (
    entry_id uuid        PRIMARY KEY,
    order_id uuid        NOT NULL REFERENCES payment,
    kind     text        NOT NULL CHECK (kind IN ('capture', 'refund')),
    currency text        NOT NULL,
    at       timestamptz NOT NULL,
    CONSTRAINT ledger_one_of_a_kind_per_order UNIQUE (order_id, kind)
);
CREATE TABLE ledger_posting (
    entry_id     uuid   NOT NULL REFERENCES ledger_entry,
    account      text   NOT NULL,
    amount_minor bigint NOT NULL CHECK (amount_minor <> 0),
    PRIMARY KEY (entry_id, account)
);
"""

# Deferred to the commit, because an entry cannot balance while its postings still arrive.
BALANCED = """
CREATE FUNCTION ledger_entry_must_balance() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    total bigint;
    lines int;
BEGIN
    SELECT coalesce(sum(amount_minor), 0), count(*) INTO total, lines
      FROM ledger_posting WHERE entry_id = NEW.entry_id;
    IF total <> 0 OR lines < 2 THEN
        RAISE EXCEPTION 'ledger entry % has % postings that sum to %', NEW.entry_id, lines, total
              USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER ledger_entry_balances AFTER INSERT ON ledger_entry
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION ledger_entry_must_balance();
CREATE CONSTRAINT TRIGGER ledger_posting_balances AFTER INSERT ON ledger_posting
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION ledger_entry_must_balance();
"""

APPEND_ONLY = """
CREATE FUNCTION ledger_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the ledger is only added to; write another entry'
          USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER ledger_entry_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_entry
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();
CREATE TRIGGER ledger_posting_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_posting
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();
"""


def upgrade() -> None:
    for statements in (PAYMENT, LEDGER, BALANCED, APPEND_ONLY, OUTBOX, INBOX):
        op.execute(statements)


def downgrade() -> None:
    op.execute("DROP TABLE ledger_posting, ledger_entry, payment, outbox, inbox")
    op.execute("DROP FUNCTION ledger_entry_must_balance(), ledger_is_append_only()")
