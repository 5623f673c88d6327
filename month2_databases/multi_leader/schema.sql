-- Tables of a two-leader database, one for each way to meet a conflict. Run on both nodes.
-- Local writes fire the `stamp_*` triggers (ORIGIN, the default); rows that arrive by replication
-- fire the `merge_*` triggers (REPLICA) instead, in a worker that has no search path of its own.
-- Instants are microseconds since 1970.

CREATE TABLE this_node (
    name text PRIMARY KEY,
    skew_us bigint NOT NULL DEFAULT 0  -- how far this node's wall clock is ahead, for experiments
);

CREATE FUNCTION wall_us() RETURNS bigint LANGUAGE sql VOLATILE SET search_path = public AS $$
    SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint + skew_us FROM this_node
$$;

-- 1. Nothing is done about conflicts.
CREATE TABLE plain (k text PRIMARY KEY, v text NOT NULL);

-- 2. Last write wins, by (at_us, node). Deletes are tombstones.
CREATE TABLE lww (
    k text PRIMARY KEY,
    v text NOT NULL,
    is_deleted boolean NOT NULL DEFAULT false,
    at_us bigint NOT NULL DEFAULT 0,
    node text NOT NULL DEFAULT ''
);

CREATE FUNCTION stamp_lww() RETURNS trigger LANGUAGE plpgsql SET search_path = public AS $$
BEGIN
    NEW.node := (SELECT name FROM this_node);
    NEW.at_us := wall_us();
    IF TG_OP = 'UPDATE' THEN
        NEW.at_us := greatest(NEW.at_us, OLD.at_us + 1);
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER stamp_lww BEFORE INSERT OR UPDATE ON lww FOR EACH ROW EXECUTE FUNCTION stamp_lww();

-- The resolution on an arriving INSERT of a key that is here already: change the row that stands,
-- if the arriving one is later, and insert nothing. An arriving UPDATE that is older is dropped.
CREATE FUNCTION merge_lww() RETURNS trigger LANGUAGE plpgsql SET search_path = public AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        IF (NEW.at_us, NEW.node) >= (OLD.at_us, OLD.node) THEN RETURN NEW; END IF;
        RETURN NULL;
    END IF;
    UPDATE lww SET v = NEW.v, is_deleted = NEW.is_deleted, at_us = NEW.at_us, node = NEW.node
     WHERE k = NEW.k AND (at_us, node) < (NEW.at_us, NEW.node);
    IF EXISTS (SELECT FROM lww WHERE k = NEW.k) THEN RETURN NULL; END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER merge_lww BEFORE INSERT OR UPDATE ON lww FOR EACH ROW EXECUTE FUNCTION merge_lww();
ALTER TABLE lww ENABLE REPLICA TRIGGER merge_lww;

-- 3. Last write wins for each column by itself.
CREATE TABLE by_column (
    k text PRIMARY KEY,
    title text NOT NULL,
    price text NOT NULL,
    title_at_us bigint NOT NULL DEFAULT 0,
    title_node text NOT NULL DEFAULT '',
    price_at_us bigint NOT NULL DEFAULT 0,
    price_node text NOT NULL DEFAULT ''
);

CREATE FUNCTION stamp_by_column() RETURNS trigger LANGUAGE plpgsql SET search_path = public AS $$
DECLARE
    here text := (SELECT name FROM this_node);
BEGIN
    IF TG_OP = 'INSERT' OR NEW.title IS DISTINCT FROM OLD.title THEN
        NEW.title_node := here;
        NEW.title_at_us := wall_us();
        IF TG_OP = 'UPDATE' THEN
            NEW.title_at_us := greatest(NEW.title_at_us, OLD.title_at_us + 1);
        END IF;
    END IF;
    IF TG_OP = 'INSERT' OR NEW.price IS DISTINCT FROM OLD.price THEN
        NEW.price_node := here;
        NEW.price_at_us := wall_us();
        IF TG_OP = 'UPDATE' THEN
            NEW.price_at_us := greatest(NEW.price_at_us, OLD.price_at_us + 1);
        END IF;
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER stamp_by_column BEFORE INSERT OR UPDATE ON by_column
    FOR EACH ROW EXECUTE FUNCTION stamp_by_column();

CREATE FUNCTION merge_by_column() RETURNS trigger LANGUAGE plpgsql SET search_path = public AS $$
BEGIN
    IF (NEW.title_at_us, NEW.title_node) < (OLD.title_at_us, OLD.title_node) THEN
        NEW.title := OLD.title;
        NEW.title_at_us := OLD.title_at_us;
        NEW.title_node := OLD.title_node;
    END IF;
    IF (NEW.price_at_us, NEW.price_node) < (OLD.price_at_us, OLD.price_node) THEN
        NEW.price := OLD.price;
        NEW.price_at_us := OLD.price_at_us;
        NEW.price_node := OLD.price_node;
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER merge_by_column BEFORE UPDATE ON by_column
    FOR EACH ROW EXECUTE FUNCTION merge_by_column();
ALTER TABLE by_column ENABLE REPLICA TRIGGER merge_by_column;

-- 4. A PN-counter: a row for each node, written by that node alone. Its value is a sum.
CREATE TABLE tally (
    k text NOT NULL,
    node text NOT NULL,
    added bigint NOT NULL DEFAULT 0 CHECK (added >= 0),
    taken bigint NOT NULL DEFAULT 0 CHECK (taken >= 0),
    PRIMARY KEY (k, node)
);

CREATE FUNCTION count_up(key text, amount bigint) RETURNS void LANGUAGE sql AS $$
    INSERT INTO tally AS t (k, node, added, taken)
    SELECT key, name, greatest(amount, 0), greatest(-amount, 0) FROM this_node
    ON CONFLICT (k, node) DO UPDATE SET added = t.added + excluded.added,
                                        taken = t.taken + excluded.taken
$$;

-- 5. Avoidance: each row has a home, and only its home may write it.
CREATE TABLE homed (k text PRIMARY KEY, home text NOT NULL, v text NOT NULL);

CREATE FUNCTION only_at_home() RETURNS trigger LANGUAGE plpgsql SET search_path = public AS $$
DECLARE
    here text := (SELECT name FROM this_node);
    home text := CASE TG_OP WHEN 'INSERT' THEN NEW.home ELSE OLD.home END;
BEGIN
    IF home <> here OR (TG_OP = 'UPDATE' AND NEW.home <> OLD.home) THEN
        RAISE EXCEPTION 'row of %, written on %', home, here USING ERRCODE = 'check_violation';
    END IF;
    RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
END $$;

CREATE TRIGGER only_at_home BEFORE INSERT OR UPDATE OR DELETE ON homed
    FOR EACH ROW EXECUTE FUNCTION only_at_home();

CREATE PUBLICATION of_this_node FOR TABLE plain, lww, by_column, tally, homed;
