-- Settlements: what a merchant is owed for a day of its operator.

-- A merchant's postings are read by day, whatever the history.
ALTER TABLE posting ADD COLUMN at timestamptz;
ALTER TABLE posting DISABLE TRIGGER append_only;
UPDATE posting p SET at = e.at FROM entry e WHERE e.id = p.entry_id;
ALTER TABLE posting ENABLE TRIGGER append_only;
ALTER TABLE posting ALTER COLUMN at SET NOT NULL;
DROP INDEX posting_account;
CREATE INDEX posting_account ON posting (account_id, at);

CREATE TABLE settlement_day (
    merchant_id uuid NOT NULL REFERENCES merchant,
    day date NOT NULL,                           -- the operator's
    currency currency NOT NULL,
    starts timestamptz NOT NULL,
    ends timestamptz NOT NULL,
    captures bigint NOT NULL,
    captured_minor sum_minor NOT NULL,
    refunds bigint NOT NULL,
    refunded_minor bigint NOT NULL,              -- refunds, less those that a provider refused in the end, maybe of days before
    closed_at timestamptz NOT NULL,
    PRIMARY KEY (merchant_id, day, currency),
    CHECK (starts < ends AND closed_at >= ends)
);
CREATE TABLE settlement_paid (
    merchant_id uuid NOT NULL,
    day date NOT NULL,
    currency currency NOT NULL,
    reference text NOT NULL,                     -- of the transfer, as the operator's bank knows it
    paid_by uuid NOT NULL REFERENCES person,
    paid_at timestamptz NOT NULL,
    PRIMARY KEY (merchant_id, day, currency),
    FOREIGN KEY (merchant_id, day, currency) REFERENCES settlement_day
);
DO $$
DECLARE name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['settlement_day', 'settlement_paid'] LOOP
        EXECUTE format('CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON %I FOR EACH ROW EXECUTE FUNCTION forbid_change()', name);
        EXECUTE format('CREATE TRIGGER append_only_whole BEFORE TRUNCATE ON %I FOR EACH STATEMENT EXECUTE FUNCTION forbid_change()', name);
    END LOOP;
END $$;
