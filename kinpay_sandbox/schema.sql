-- The sandbox bank's own books. Constraints say what is always true; the verbs are in Python.

CREATE TABLE clients (
    client_id         text PRIMARY KEY,
    name              text NOT NULL,
    public_key        bytea NOT NULL CHECK (length(public_key) = 32),
    callback_url      text NOT NULL,
    return_url_prefix text NOT NULL,
    notify_all        boolean NOT NULL,
    created_at        timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE client_accounts (
    client_id      text NOT NULL REFERENCES clients,
    account        text NOT NULL,
    business_types text[] NOT NULL,
    PRIMARY KEY (client_id, account)
);

CREATE TABLE nonces (
    client_id text NOT NULL,
    nonce     text NOT NULL,
    seen_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (client_id, nonce)
);
CREATE INDEX nonces_by_age ON nonces (seen_at);

-- The ledger. A customer's balance is kept on its row, which is locked by whoever moves it; a client's
-- settlement balance is the sum of its postings, so that a busy client is never a hot row.
CREATE TABLE ledger_accounts (
    ledger_account_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind              text NOT NULL CHECK (kind IN ('customer', 'settlement', 'clearing', 'vault')),
    owner             text NOT NULL,
    currency          char(3) NOT NULL,
    balance_minor     bigint,
    UNIQUE (kind, owner, currency),
    CHECK ((kind = 'customer') = (balance_minor IS NOT NULL)),
    CONSTRAINT never_overdrawn CHECK (balance_minor >= 0)
);

CREATE TABLE entries (
    entry_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind      text NOT NULL CHECK (kind IN ('adjustment', 'debit', 'hold', 'capture', 'release', 'refund')),
    client_id text REFERENCES clients,
    reference text NOT NULL,
    posted_at timestamptz NOT NULL
);
-- A debit is booked once, whether in one step (debit) or in two (hold, then capture or release); a refund once.
CREATE UNIQUE INDEX entries_once ON entries (reference, (CASE WHEN kind IN ('capture', 'release') THEN 'end' ELSE 'begin' END))
    WHERE kind <> 'adjustment';
CREATE INDEX entries_by_day ON entries (client_id, posted_at) WHERE kind IN ('debit', 'capture', 'refund');

CREATE TABLE postings (
    entry_id          bigint NOT NULL REFERENCES entries,
    ledger_account_id bigint NOT NULL REFERENCES ledger_accounts,
    amount_minor      bigint NOT NULL CHECK (amount_minor <> 0),
    PRIMARY KEY (entry_id, ledger_account_id)
);
CREATE INDEX postings_by_account ON postings (ledger_account_id);

CREATE FUNCTION books_are_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the books are append-only';
END $$;
CREATE TRIGGER entries_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON entries
    FOR EACH STATEMENT EXECUTE FUNCTION books_are_append_only();
CREATE TRIGGER postings_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON postings
    FOR EACH STATEMENT EXECUTE FUNCTION books_are_append_only();

CREATE TABLE customers (
    login             text PRIMARY KEY,
    name              text NOT NULL,
    password_hash     text NOT NULL,
    payer_account_id  text NOT NULL UNIQUE,
    currency          char(3) NOT NULL,
    frozen            boolean NOT NULL DEFAULT false,
    ledger_account_id bigint NOT NULL REFERENCES ledger_accounts,
    created_at        timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE login_failures (
    login        text PRIMARY KEY,
    failures     integer NOT NULL,
    paused_until timestamptz NOT NULL
);

CREATE TABLE sessions (
    session_hash bytea PRIMARY KEY,
    csrf         text NOT NULL,
    login        text REFERENCES customers,
    signed_in_at timestamptz,
    expires_at   timestamptz NOT NULL
);

CREATE TABLE agreements (
    agreement_id     text PRIMARY KEY,
    client_id        text NOT NULL REFERENCES clients,
    key              text NOT NULL,
    request_hash     text NOT NULL,
    state            text NOT NULL CHECK (state IN ('pending', 'active', 'refused', 'expired', 'ended')),
    login            text NOT NULL REFERENCES customers,
    account          text NOT NULL,
    business_type    text NOT NULL,
    per_debit_minor  bigint CHECK (per_debit_minor > 0),
    per_day_minor    bigint CHECK (per_day_minor > 0),
    currency         char(3) NOT NULL,
    valid_until      timestamptz,
    return_url       text NOT NULL,
    approve_token    text NOT NULL UNIQUE,
    created_at       timestamptz NOT NULL,
    expires_at       timestamptz NOT NULL,
    signed_at        timestamptz,
    ended_by         text CHECK (ended_by IN ('client', 'payer', 'bank')),
    end_reason       text,
    settlement_id    bigint NOT NULL REFERENCES ledger_accounts,
    UNIQUE (client_id, key),
    FOREIGN KEY (client_id, account) REFERENCES client_accounts,
    CHECK ((state = 'ended') = (ended_by IS NOT NULL))
);
CREATE INDEX agreements_by_login ON agreements (login, created_at);
CREATE INDEX agreements_pending ON agreements (expires_at) WHERE state = 'pending';
CREATE INDEX agreements_running_out ON agreements (valid_until) WHERE state = 'active' AND valid_until IS NOT NULL;

CREATE TABLE agreement_spenders (
    agreement_id text NOT NULL REFERENCES agreements,
    ref          text NOT NULL,
    name         text NOT NULL,
    state        text NOT NULL CHECK (state IN ('active', 'removed')),
    bound_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (agreement_id, ref)
);

-- What an agreement with a daily limit has let through on a UTC day (pending and succeeded).
CREATE TABLE agreement_days (
    agreement_id text NOT NULL REFERENCES agreements,
    day          date NOT NULL,
    debited_minor bigint NOT NULL CHECK (debited_minor >= 0),
    PRIMARY KEY (agreement_id, day)
);

-- A row without an agreement is a key closed by a cancel before any debit came: a tombstone.
CREATE TABLE debits (
    debit_id       text PRIMARY KEY,
    client_id      text NOT NULL REFERENCES clients,
    key            text NOT NULL,
    state          text NOT NULL CHECK (state IN ('pending', 'succeeded', 'failed', 'cancelled')),
    failure_code   text,
    agreement_id   text REFERENCES agreements,
    spender_ref    text,
    amount_minor   bigint CHECK (amount_minor > 0),
    currency       char(3),
    description    text NOT NULL,
    refunded_minor bigint NOT NULL DEFAULT 0,
    refunding_minor bigint NOT NULL DEFAULT 0,
    created_at     timestamptz NOT NULL,
    finished_at    timestamptz,
    finish_at      timestamptz,
    finish_code    text,
    counted_on     date,
    UNIQUE (client_id, key),
    CHECK (refunded_minor >= 0 AND refunding_minor >= 0 AND refunded_minor + refunding_minor <= coalesce(amount_minor, 0)),
    CHECK ((state = 'failed') = (failure_code IS NOT NULL)),
    CHECK ((state = 'pending') = (finished_at IS NULL)),
    CHECK (agreement_id IS NOT NULL OR state = 'cancelled')
);
CREATE INDEX debits_due ON debits (finish_at) WHERE state = 'pending' AND finish_at IS NOT NULL;

CREATE TABLE refunds (
    refund_id    text PRIMARY KEY,
    client_id    text NOT NULL REFERENCES clients,
    key          text NOT NULL,
    debit_key    text NOT NULL,
    state        text NOT NULL CHECK (state IN ('pending', 'succeeded', 'failed')),
    failure_code text,
    amount_minor bigint NOT NULL CHECK (amount_minor > 0),
    currency     char(3) NOT NULL,
    created_at   timestamptz NOT NULL,
    finished_at  timestamptz,
    finish_at    timestamptz,
    finish_code  text,
    UNIQUE (client_id, key),
    FOREIGN KEY (client_id, debit_key) REFERENCES debits (client_id, key),
    CHECK ((state = 'failed') = (failure_code IS NOT NULL)),
    CHECK ((state = 'pending') = (finished_at IS NULL))
);
CREATE INDEX refunds_by_debit ON refunds (client_id, debit_key);
CREATE INDEX refunds_due ON refunds (finish_at) WHERE state = 'pending' AND finish_at IS NOT NULL;

CREATE TABLE events (
    event_id   text PRIMARY KEY,
    sequence   bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    send_order bigint NOT NULL DEFAULT 0,
    client_id  text NOT NULL REFERENCES clients,
    type       text NOT NULL,
    body       bytea NOT NULL,
    state      text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'delivered', 'given_up')),
    attempts   integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL,
    due_at     timestamptz NOT NULL
);
CREATE INDEX events_waiting ON events (client_id, due_at) WHERE state = 'waiting';

-- Every sending, forgeries included, and how it was answered (status is null when nothing came back).
CREATE TABLE deliveries (
    delivery_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id    text NOT NULL,
    forged      text,
    sent_at     timestamptz NOT NULL,
    status      integer,
    error       text
);
CREATE INDEX deliveries_by_event ON deliveries (event_id);
