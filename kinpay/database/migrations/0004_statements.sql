-- Statements in constant time, and months that are closed for good.

-- What the charges decided on one day of a circle came to, once all of them have ended; whatever changes one of them later takes
-- the row away again, and the day is summed up anew.
CREATE TABLE rolled_day (
    circle_id uuid NOT NULL REFERENCES circle,
    day date NOT NULL,
    starts timestamptz NOT NULL,                 -- when the circle's wall first showed the day
    ends timestamptz NOT NULL,
    paid jsonb NOT NULL,                         -- [{currency, day, spender_id, payer_id, merchant_id, mcc, charges, …}]
    unpaid jsonb NOT NULL,                       -- [{currency, spender_id, what, count, amount_minor}]
    PRIMARY KEY (circle_id, day),
    CHECK (starts < ends)
);

-- How far a circle has been summed up: `charge_seq` of its lane then, and whether some day with charges was left over.
CREATE TABLE roll_mark (
    circle_id uuid PRIMARY KEY REFERENCES circle,
    charge_seq bigint NOT NULL,
    open boolean NOT NULL,
    looked_at timestamptz NOT NULL
);

-- A closed month: its figures as they stood at `closed_at`. What happens to its charges later is told in the month it happens.
CREATE TABLE statement_month (
    circle_id uuid NOT NULL REFERENCES circle,
    month date NOT NULL CHECK (extract(day FROM month) = 1),
    starts timestamptz NOT NULL,
    ends timestamptz NOT NULL,
    closed_at timestamptz NOT NULL,
    paid jsonb NOT NULL,
    unpaid jsonb NOT NULL,
    late jsonb NOT NULL,                         -- what happened in the month to charges of months closed before
    hash bytea NOT NULL,                         -- SHA-256 over all of that, as the audit log keeps it
    PRIMARY KEY (circle_id, month),
    CHECK (starts < ends AND closed_at >= ends)
);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON statement_month FOR EACH ROW EXECUTE FUNCTION forbid_change();
CREATE TRIGGER append_only_whole BEFORE TRUNCATE ON statement_month FOR EACH STATEMENT EXECUTE FUNCTION forbid_change();

-- What happened when, for what is told in another month than that of its charge.
CREATE INDEX debit_finished ON debit (circle_id, finished_at) WHERE state = 'succeeded';
CREATE INDEX refund_opened ON refund (circle_id, created_at);
CREATE INDEX refund_refused ON refund (circle_id, finished_at) WHERE state = 'failed';
