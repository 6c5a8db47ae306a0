-- Reconciliation: what a provider says of a day, line by line, and every difference from what is in our books.

CREATE TABLE provider_statement (
    id uuid PRIMARY KEY,
    provider_account_id uuid NOT NULL REFERENCES provider_account,
    day date NOT NULL,                           -- of the provider's statements: a UTC day
    fetched_at timestamptz NOT NULL,
    lines bigint NOT NULL,
    sha256 bytea NOT NULL,                       -- over the lines as we read them
    matched bigint NOT NULL,
    breaks bigint NOT NULL,                      -- found when it was read; see `recon_break` for those still open
    UNIQUE (provider_account_id, day)
);

CREATE TABLE provider_line (
    statement_id uuid NOT NULL REFERENCES provider_statement DEFERRABLE INITIALLY DEFERRED,
    number bigint NOT NULL,
    provider_account_id uuid NOT NULL,
    kind text NOT NULL CHECK (kind IN ('debit', 'refund')),
    key text NOT NULL,
    debit_key text,
    currency text NOT NULL,
    amount_minor bigint NOT NULL,
    finished_at timestamptz NOT NULL,
    PRIMARY KEY (statement_id, number)
);
CREATE INDEX provider_line_key ON provider_line (provider_account_id, kind, key);
CREATE INDEX debit_account ON debit (provider_account_id, finished_at) WHERE state = 'succeeded';

CREATE TABLE recon_break (
    id uuid PRIMARY KEY,
    provider_account_id uuid NOT NULL REFERENCES provider_account,
    day date NOT NULL,                           -- of the statement that showed it
    what text NOT NULL CHECK (what IN ('missing', 'orphan', 'differing', 'doubled')),
    kind text NOT NULL CHECK (kind IN ('debit', 'refund')),
    key text NOT NULL,
    ours jsonb,
    theirs jsonb,
    state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'resolved')),
    owner_id uuid REFERENCES person,
    resolution text,
    note text,
    found_at timestamptz NOT NULL,
    resolved_at timestamptz,
    resolved_by uuid REFERENCES person,          -- null: it resolved itself
    UNIQUE (provider_account_id, kind, key, what),
    CHECK ((state = 'resolved') = (resolution IS NOT NULL AND resolved_at IS NOT NULL))
);
CREATE INDEX recon_break_open ON recon_break (provider_account_id, found_at) WHERE state = 'open';
