-- Orders that are hot, and the journal of what has left for the object store.
CREATE TABLE IF NOT EXISTS orders (
    order_id     uuid        PRIMARY KEY,
    user_id      text        NOT NULL,
    country      text        NOT NULL,
    amount_cents bigint      NOT NULL CHECK (amount_cents >= 0),
    state        text        NOT NULL,
    placed_at    timestamptz NOT NULL
);
CREATE INDEX IF NOT EXISTS orders_by_user ON orders (user_id, placed_at);
CREATE INDEX IF NOT EXISTS orders_by_instant ON orders (placed_at, order_id);

-- One row a file. Rows of `orders` go in the very transaction that makes their file `cold`, so one
-- snapshot of both tables holds every order exactly once.
CREATE TABLE IF NOT EXISTS archive_batch (
    batch_id       bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    month          date        NOT NULL CHECK (extract(day FROM month) = 1),
    first_id       uuid        NOT NULL,
    last_id        uuid        NOT NULL CHECK (last_id >= first_id),
    state          text        NOT NULL DEFAULT 'planned'
                               CHECK (state IN ('planned', 'stored', 'cold')),
    tier           text        NOT NULL DEFAULT 'cold'
                               CHECK (tier IN ('cold', 'archived', 'expired')),
    manifest       text        CHECK ((manifest IS NULL) = (state = 'planned')),
    restore_ready  timestamptz,
    restore_until  timestamptz,
    restore_done   boolean     NOT NULL DEFAULT false,
    CHECK (state = 'cold' OR tier = 'cold'),
    CHECK ((restore_ready IS NULL) = (restore_until IS NULL)),
    CHECK (restore_ready IS NULL OR tier = 'archived')
);
CREATE INDEX IF NOT EXISTS archive_batch_by_month ON archive_batch (month);
