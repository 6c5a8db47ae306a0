-- Reconciliation: no day is given up, every line that stands out is kept beside its break, and what was read cannot be changed.

-- How far each account has come.
CREATE TABLE recon_progress (
    provider_account_id uuid PRIMARY KEY REFERENCES provider_account,
    complete_until date NOT NULL,                -- every statement up to this day was read
    looked_until timestamptz NOT NULL            -- what we finished before was told, or named, or stands in `recon_untold`
);

-- What we hold for done and no statement has told yet; it leaves when one does, or when each that could has not.
CREATE TABLE recon_untold (
    kind text NOT NULL CHECK (kind IN ('debit', 'refund')),
    id uuid NOT NULL,
    provider_account_id uuid NOT NULL REFERENCES provider_account,
    from_day date NOT NULL,                      -- the first and the last day whose statement could tell it
    until_day date NOT NULL,
    PRIMARY KEY (kind, id),
    CHECK (from_day <= until_day)
);
CREATE INDEX recon_untold_until ON recon_untold (provider_account_id, until_day);

-- A statement that should be there and was not to be had.
CREATE TABLE recon_unread (
    provider_account_id uuid NOT NULL REFERENCES provider_account,
    day date NOT NULL,
    attempts integer NOT NULL,
    tried_at timestamptz NOT NULL,
    reason text,                                 -- null: nobody knows, the program was stopped meanwhile
    PRIMARY KEY (provider_account_id, day)
);

-- The lines that a break stands for, with what our books said of each when it was read.
CREATE TABLE recon_break_line (
    statement_id uuid NOT NULL,
    number bigint NOT NULL,
    provider_account_id uuid NOT NULL,
    kind text NOT NULL,
    key text NOT NULL,
    what text NOT NULL,
    ours jsonb,
    PRIMARY KEY (statement_id, number),
    FOREIGN KEY (statement_id, number) REFERENCES provider_line,
    FOREIGN KEY (provider_account_id, kind, key, what) REFERENCES recon_break (provider_account_id, kind, key, what)
        DEFERRABLE INITIALLY DEFERRED
);
CREATE INDEX recon_break_line_break ON recon_break_line (provider_account_id, kind, key, what);
INSERT INTO recon_break_line (statement_id, number, provider_account_id, kind, key, what, ours)
SELECT l.statement_id, l.number, b.provider_account_id, b.kind, b.key, b.what, b.ours
FROM recon_break b
JOIN provider_statement s ON s.provider_account_id = b.provider_account_id AND s.day = b.day
JOIN provider_line l ON l.statement_id = s.id AND l.number = (b.theirs ->> 'number')::bigint AND l.kind = b.kind AND l.key = b.key;

-- Where there are very many refunds, make it by hand with CONCURRENTLY before.
CREATE INDEX IF NOT EXISTS refund_succeeded ON refund (finished_at, id) WHERE state = 'succeeded';

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON provider_line FOR EACH ROW EXECUTE FUNCTION forbid_change();
CREATE TRIGGER append_only_whole BEFORE TRUNCATE ON provider_line FOR EACH STATEMENT EXECUTE FUNCTION forbid_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON recon_break_line FOR EACH ROW EXECUTE FUNCTION forbid_change();
CREATE TRIGGER append_only_whole BEFORE TRUNCATE ON recon_break_line FOR EACH STATEMENT EXECUTE FUNCTION forbid_change();
