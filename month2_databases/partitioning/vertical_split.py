"""A table split by columns: what every page shows apart from what few ask for, one view on both.

    product_hot    id, price_cents, stock       narrow: many rows a page, updated all day
    product_cold   id, description              wide: read when one product is looked at
    product        a view that joins them again

The view joins from the hot side, outer, on the cold side's primary key. So the planner knows that
leaving the cold table out changes no row, and does so whenever no column of it is asked for. Rows
are put in through the view: one trigger writes both tables, so that neither is forgotten.
"""

from __future__ import annotations

from typing import LiteralString

HOT, COLD, VIEW = "product_hot", "product_cold", "product"

SCHEMA: LiteralString = """
CREATE TABLE product_hot (
    id bigint PRIMARY KEY,
    price_cents bigint NOT NULL CHECK (price_cents > 0),
    stock integer NOT NULL CHECK (stock >= 0)
);
CREATE TABLE product_cold (
    id bigint PRIMARY KEY REFERENCES product_hot ON DELETE CASCADE,
    description text NOT NULL
);
CREATE VIEW product AS
SELECT hot.id, hot.price_cents, hot.stock, cold.description
  FROM product_hot AS hot LEFT JOIN product_cold AS cold ON cold.id = hot.id;

CREATE FUNCTION write_product() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        DELETE FROM product_hot WHERE id = OLD.id;
        RETURN OLD;
    END IF;
    IF TG_OP = 'INSERT' THEN
        INSERT INTO product_hot VALUES (NEW.id, NEW.price_cents, NEW.stock);
        INSERT INTO product_cold VALUES (NEW.id, NEW.description);
        RETURN NEW;
    END IF;
    IF NEW.id <> OLD.id THEN
        RAISE EXCEPTION 'a product keeps its id' USING ERRCODE = 'check_violation';
    END IF;
    UPDATE product_hot SET price_cents = NEW.price_cents, stock = NEW.stock WHERE id = OLD.id
       AND (price_cents, stock) IS DISTINCT FROM (NEW.price_cents, NEW.stock);
    UPDATE product_cold SET description = NEW.description WHERE id = OLD.id
       AND description IS DISTINCT FROM NEW.description;
    RETURN NEW;
END $$;

CREATE TRIGGER write_product INSTEAD OF INSERT OR UPDATE OR DELETE ON product
    FOR EACH ROW EXECUTE FUNCTION write_product();
"""
