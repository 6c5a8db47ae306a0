-- A database that was restored from a backup: closed until providers were asked for what it does not know.

CREATE TABLE restoration (
    id uuid PRIMARY KEY,
    restored_at timestamptz NOT NULL,
    point_at timestamptz NOT NULL,               -- what was committed until then is here; what came after it is not
    backup text NOT NULL,                        -- the base backup's name
    asked_at timestamptz,                        -- when the providers were last asked
    opened_at timestamptz,
    opened_with text,                            -- what was still open when an operator opened it all the same
    CHECK (point_at <= restored_at)
);
CREATE UNIQUE INDEX restoration_closed ON restoration ((true)) WHERE opened_at IS NULL;

-- A charge that only the provider still knew. `mark`: the end of its id, which is made from the key of its request.
CREATE TABLE recovered_charge (
    charge_id uuid PRIMARY KEY,
    circle_id uuid NOT NULL,
    debit_id uuid NOT NULL,
    mark text NOT NULL CHECK (mark ~ '^[0-9a-f]{8}$'),
    recovered_at timestamptz NOT NULL
);
CREATE INDEX recovered_charge_mark ON recovered_charge (mark);

-- Neither fires unless `closed.py` puts it on a table, which it does for a restored database alone.
CREATE FUNCTION refuse_while_closed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF coalesce(current_setting('kinpay.recovering', true), '') <> 'on' THEN
        RAISE EXCEPTION 'restored, and not yet asked for what was lost: % on %', TG_OP, TG_TABLE_NAME USING ERRCODE = 'KP001';
    END IF;
    RETURN NEW;
END $$;
CREATE FUNCTION refuse_recovered() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM recovered_charge r
               WHERE r.mark = right(NEW.id::text, 8) AND r.charge_id <> NEW.id) THEN
        RAISE EXCEPTION 'this request made a charge before the database was restored' USING ERRCODE = 'KP002';
    END IF;
    RETURN NEW;
END $$;
