-- The house: every table that semantics.md needs, from the first day.
-- Rules: money is bigint minor units beside a char(3) currency; ids are made by us (uuid version 7); times are timestamptz.
-- What a charge touches is keyed by circle, so that the hot tables can be spread by circle later.
-- Constraints say what is always true. Triggers only forbid changing history; none runs on the hot path.

-- The one clock. Tests and rehearsals may put another body in its place; nothing else reads the time.
CREATE FUNCTION kinpay_now() RETURNS timestamptz LANGUAGE sql VOLATILE AS 'SELECT clock_timestamp()';

CREATE FUNCTION forbid_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'history is only appended to: % on %', TG_OP, TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
END $$;

CREATE DOMAIN currency AS char(3) CHECK (VALUE ~ '^[A-Z]{3}$');
CREATE DOMAIN amount_minor AS bigint CHECK (VALUE > 0 AND VALUE <= 9007199254740991);
CREATE DOMAIN sum_minor AS bigint CHECK (VALUE >= 0);

---------------------------------------------------------------------------------------------------- operators, merchants

CREATE TABLE operator (
    id uuid PRIMARY KEY,
    name text NOT NULL,
    time_zone text NOT NULL,
    created_at timestamptz NOT NULL
);

CREATE TABLE merchant (
    id uuid PRIMARY KEY,
    operator_id uuid NOT NULL REFERENCES operator,
    name text NOT NULL,
    mcc char(4) NOT NULL CHECK (mcc ~ '^[0-9]{4}$'),
    created_at timestamptz NOT NULL
);

CREATE TABLE site (
    id uuid PRIMARY KEY,
    merchant_id uuid NOT NULL REFERENCES merchant,
    name text NOT NULL,
    created_at timestamptz NOT NULL
);

---------------------------------------------------------------------------------------------------------------- people

CREATE TABLE person (
    id uuid PRIMARY KEY,
    operator_id uuid NOT NULL REFERENCES operator,
    account text NOT NULL,                       -- the account name people give each other, normalised
    display_name text NOT NULL,
    locale text NOT NULL CHECK (locale IN ('zh', 'en')),
    birth_date date,
    assisted boolean NOT NULL DEFAULT false,     -- has no phone: a terminal stands for their own device
    state text NOT NULL CHECK (state IN ('unverified', 'active', 'closed')),
    created_at timestamptz NOT NULL,
    UNIQUE (operator_id, account)
);

CREATE TABLE person_contact (
    person_id uuid NOT NULL REFERENCES person,
    channel text NOT NULL CHECK (channel IN ('phone', 'email')),
    address text NOT NULL,
    verified_at timestamptz,
    PRIMARY KEY (person_id, channel)
);

CREATE TABLE staff (
    operator_id uuid NOT NULL REFERENCES operator,
    person_id uuid NOT NULL REFERENCES person,
    role text NOT NULL CHECK (role IN ('owner', 'installer', 'support')),
    created_at timestamptz NOT NULL,
    ended_at timestamptz,
    PRIMARY KEY (operator_id, person_id, role)
);

-- One-time codes: to sign in, and as the fresh proof of a person for exactly one content (its hash).
CREATE TABLE one_time_code (
    id uuid PRIMARY KEY,
    person_id uuid REFERENCES person,            -- null: nobody of that account, by the same steps
    purpose text NOT NULL CHECK (purpose IN ('sign_in', 'proof')),
    content_hash bytea,
    code_hash bytea NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    used_at timestamptz,
    CHECK ((purpose = 'proof') = (content_hash IS NOT NULL))
);
CREATE INDEX one_time_code_person ON one_time_code (person_id, created_at);

CREATE TABLE session (
    token_hash bytea PRIMARY KEY,
    person_id uuid NOT NULL REFERENCES person,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    ended_at timestamptz
);
CREATE INDEX session_person ON session (person_id);

CREATE TABLE passkey (
    id uuid PRIMARY KEY,
    person_id uuid NOT NULL REFERENCES person,
    credential_ref bytea NOT NULL UNIQUE,
    public_key bytea NOT NULL,
    sign_count bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL,
    revoked_at timestamptz
);

------------------------------------------------------------------------------------------------------------- circles

CREATE TABLE circle (
    id uuid PRIMARY KEY,
    operator_id uuid NOT NULL REFERENCES operator,
    name text NOT NULL,
    time_zone text NOT NULL,
    state text NOT NULL CHECK (state IN ('active', 'frozen')),
    version bigint NOT NULL DEFAULT 1,           -- moves with every change of money rules or permissions
    charge_seq bigint NOT NULL DEFAULT 0,        -- the order in which reservations were decided
    created_at timestamptz NOT NULL
) WITH (fillfactor = 70);

CREATE TABLE circle_zone (                       -- which zone was in force from when; windows of the past keep theirs
    circle_id uuid NOT NULL REFERENCES circle,
    time_zone text NOT NULL,
    since timestamptz NOT NULL,
    PRIMARY KEY (circle_id, since)
);

CREATE TABLE circle_member (
    circle_id uuid NOT NULL REFERENCES circle,
    person_id uuid NOT NULL REFERENCES person,
    role text NOT NULL CHECK (role IN ('payer', 'approver', 'viewer', 'spender')),
    since timestamptz NOT NULL,
    ended_at timestamptz,
    PRIMARY KEY (circle_id, person_id, role)
);
CREATE INDEX circle_member_person ON circle_member (person_id);

----------------------------------------------------------------------------------------------------------- terminals

CREATE TABLE terminal (
    id uuid PRIMARY KEY,
    operator_id uuid NOT NULL REFERENCES operator,
    merchant_id uuid NOT NULL REFERENCES merchant,
    site_id uuid NOT NULL REFERENCES site,
    name text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('till', 'vending', 'gate', 'kiosk')),
    state text NOT NULL CHECK (state IN ('expected', 'active', 'revoked')),
    public_key bytea UNIQUE,                     -- P-256, uncompressed point
    install_code_hash bytea,
    install_expires_at timestamptz,
    hold_s integer NOT NULL DEFAULT 60 CHECK (hold_s BETWEEN 5 AND 604800),
    created_at timestamptz NOT NULL,
    installed_at timestamptz,
    revoked_at timestamptz,
    CHECK ((state = 'expected') = (public_key IS NULL))
);

-- Unlogged on purpose: a crash empties both together, so a nonce is never forgotten while its session key still counts.
CREATE UNLOGGED TABLE terminal_session (
    id uuid PRIMARY KEY,
    terminal_id uuid NOT NULL,
    hmac_key bytea NOT NULL,                     -- sealed under the server's key
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL
);
CREATE UNLOGGED TABLE request_nonce (
    signer_id uuid NOT NULL,                     -- a session, or a terminal that signs with its own key
    nonce text NOT NULL,
    seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (signer_id, nonce)
);
CREATE INDEX request_nonce_seen ON request_nonce (seen_at);

CREATE TABLE terminal_command (
    id uuid PRIMARY KEY,
    terminal_id uuid NOT NULL REFERENCES terminal,
    kind text NOT NULL CHECK (kind IN ('capture', 'cancel_capture', 'show')),
    body jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    delivered_at timestamptz,
    done_at timestamptz
);
CREATE INDEX terminal_command_open ON terminal_command (terminal_id, created_at) WHERE done_at IS NULL;

-- Every single-use code that was ever used: function codes, pay codes, payment codes.
CREATE TABLE burnt_code (
    id uuid PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('function', 'pay', 'payment')),
    terminal_id uuid,
    charge_id uuid,
    expires_at timestamptz NOT NULL,
    burnt_at timestamptz NOT NULL,
    CHECK (burnt_at <= expires_at)
);

CREATE TABLE scan (
    id uuid PRIMARY KEY,
    code_id uuid NOT NULL UNIQUE REFERENCES burnt_code,
    terminal_id uuid NOT NULL REFERENCES terminal,
    person_id uuid REFERENCES person,            -- null: the terminal itself stands for a person without a phone
    business_type text CHECK (business_type IN ('self', 'proxy')),
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    used_at timestamptz
);

----------------------------------------------------------------------------------------------------------- providers

CREATE TABLE provider_account (
    id uuid PRIMARY KEY,
    operator_id uuid NOT NULL REFERENCES operator,
    provider text NOT NULL,
    account text NOT NULL,
    config jsonb NOT NULL,
    config_version integer NOT NULL DEFAULT 1,
    secret bytea NOT NULL,                       -- sealed under the server's key
    is_default boolean NOT NULL DEFAULT false,   -- [0023]: the default third-party provider
    enabled boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL,
    UNIQUE (operator_id, provider, account)
);
CREATE UNIQUE INDEX provider_account_default ON provider_account (operator_id) WHERE is_default;

CREATE TABLE agreement (
    id uuid PRIMARY KEY,                         -- also its key at the provider
    circle_id uuid NOT NULL REFERENCES circle,
    operator_id uuid NOT NULL REFERENCES operator,
    provider_account_id uuid NOT NULL REFERENCES provider_account,
    payer_id uuid NOT NULL REFERENCES person,
    payer_account text NOT NULL,                 -- the payer's account name at the provider
    payer_account_id text,                       -- what the provider calls it, told once it is active [0026]
    business_type text NOT NULL,
    currency currency NOT NULL,
    per_debit_minor amount_minor,
    per_day_minor amount_minor,
    state text NOT NULL CHECK (state IN ('created', 'pending', 'active', 'ended', 'refused')),
    provider_ref text,
    action_url text,
    created_at timestamptz NOT NULL,
    expires_at timestamptz,
    active_at timestamptz,
    ended_at timestamptz,
    ended_by text,
    next_check_at timestamptz,
    CHECK (state <> 'active' OR (payer_account_id IS NOT NULL AND active_at IS NOT NULL))
);
CREATE INDEX agreement_payer ON agreement (payer_id, circle_id);
CREATE INDEX agreement_check ON agreement (next_check_at) WHERE next_check_at IS NOT NULL;

-- Claim 5: the spender as the provider records them under the payer's agreement.
CREATE TABLE agreement_spender (
    agreement_id uuid NOT NULL REFERENCES agreement,
    spender_id uuid NOT NULL REFERENCES person,
    state text NOT NULL CHECK (state IN ('wanted', 'bound', 'removed')),
    changed_at timestamptz NOT NULL,
    PRIMARY KEY (agreement_id, spender_id)
);

------------------------------------------------------------------------------------------------------------ mandates

CREATE TABLE mandate (
    id uuid PRIMARY KEY,
    circle_id uuid NOT NULL REFERENCES circle,
    payer_id uuid NOT NULL REFERENCES person,
    spender_id uuid NOT NULL REFERENCES person,
    state text NOT NULL CHECK (state IN ('pending', 'active', 'suspended', 'paused', 'ended')),
    reason text,                                 -- why it is suspended, paused or ended
    version integer NOT NULL,
    position integer NOT NULL DEFAULT 0,         -- which of a spender's mandates is tried first
    created_at timestamptz NOT NULL,
    active_at timestamptz,
    ended_at timestamptz
);
CREATE UNIQUE INDEX mandate_one_open ON mandate (circle_id, payer_id, spender_id) WHERE state <> 'ended';
CREATE INDEX mandate_spender ON mandate (spender_id);

CREATE TABLE mandate_version (
    mandate_id uuid NOT NULL REFERENCES mandate,
    circle_id uuid NOT NULL,
    version integer NOT NULL,
    terms jsonb NOT NULL,
    terms_hash bytea NOT NULL,
    agreed_by uuid NOT NULL REFERENCES person,
    proof_id uuid,                               -- the fresh proof, where one was needed
    from_charge_seq bigint NOT NULL,             -- reservations after this one are decided under this version
    since timestamptz NOT NULL,
    PRIMARY KEY (mandate_id, version)
);

-- Funding: which agreements, in what order or shares, debited when.
CREATE TABLE settlement_rule (
    mandate_id uuid NOT NULL REFERENCES mandate,
    circle_id uuid NOT NULL,
    version integer NOT NULL,
    agreement_ids uuid[] NOT NULL,
    shares integer[],                            -- null: in order, the next only after a definitive refusal
    debited text NOT NULL DEFAULT 'each_charge' CHECK (debited IN ('each_charge', 'daily')),
    since timestamptz NOT NULL,
    PRIMARY KEY (mandate_id, version)
);

-- A payer's limits over several spenders.
CREATE TABLE pool (
    id uuid PRIMARY KEY,
    circle_id uuid NOT NULL REFERENCES circle,
    payer_id uuid NOT NULL REFERENCES person,
    name text NOT NULL,
    spender_ids uuid[],                          -- null: everybody this payer pays for in the circle
    state text NOT NULL CHECK (state IN ('active', 'ended')),
    version integer NOT NULL,
    created_at timestamptz NOT NULL
);
CREATE INDEX pool_circle ON pool (circle_id);
CREATE TABLE pool_version (
    pool_id uuid NOT NULL REFERENCES pool,
    circle_id uuid NOT NULL,
    version integer NOT NULL,
    terms jsonb NOT NULL,
    terms_hash bytea NOT NULL,
    agreed_by uuid NOT NULL REFERENCES person,
    proof_id uuid,
    from_charge_seq bigint NOT NULL,
    since timestamptz NOT NULL,
    PRIMARY KEY (pool_id, version)
);

-- What a spender carries that selects the circle: a printed card, or the phone itself.
CREATE TABLE credential (
    id uuid PRIMARY KEY,
    circle_id uuid NOT NULL REFERENCES circle,
    person_id uuid NOT NULL REFERENCES person,
    kind text NOT NULL CHECK (kind IN ('card', 'phone')),
    state text NOT NULL CHECK (state IN ('active', 'revoked')),
    terms jsonb,                                 -- its own low cap
    pin_hash bytea,
    pin_failures integer NOT NULL DEFAULT 0,
    pin_locked_until timestamptz,
    issued_at timestamptz NOT NULL,
    revoked_at timestamptz
);
CREATE INDEX credential_circle ON credential (circle_id);
CREATE INDEX credential_person ON credential (person_id);

-- What is counted: one counter for each (scope, calendar period, filter) that some limit needs; one usage row a window.
CREATE TABLE counter (
    id uuid PRIMARY KEY,
    circle_id uuid NOT NULL REFERENCES circle,
    scope text NOT NULL CHECK (scope IN ('mandate', 'pool', 'credential')),
    scope_id uuid NOT NULL,
    period text NOT NULL CHECK (period IN ('day', 'week', 'month')),
    filter jsonb NOT NULL DEFAULT '{}',
    filter_hash bytea NOT NULL,
    created_at timestamptz NOT NULL,
    UNIQUE (scope_id, period, filter_hash)
);
CREATE INDEX counter_circle ON counter (circle_id);

CREATE TABLE usage (
    circle_id uuid NOT NULL,
    counter_id uuid NOT NULL,
    window_start timestamptz NOT NULL,
    window_end timestamptz NOT NULL,
    amount_minor sum_minor NOT NULL DEFAULT 0,
    count integer NOT NULL DEFAULT 0 CHECK (count >= 0),
    carried_minor sum_minor NOT NULL DEFAULT 0,  -- kept from an overlapping window when the zone changed
    carried_count integer NOT NULL DEFAULT 0 CHECK (carried_count >= 0),
    PRIMARY KEY (counter_id, window_start),
    CHECK (window_start < window_end)
) WITH (fillfactor = 60);

------------------------------------------------------------------------------------------------- biometrics, registration

CREATE TABLE template (
    id uuid PRIMARY KEY,
    person_id uuid NOT NULL REFERENCES person,
    key_id uuid NOT NULL,                        -- the person's data key; the key itself lives outside this database
    model text NOT NULL,
    model_version text NOT NULL,
    ciphertext bytea,                            -- null once destroyed
    provisional_until timestamptz,               -- null once bound
    captured_by uuid NOT NULL REFERENCES terminal,
    created_at timestamptz NOT NULL,
    destroyed_at timestamptz,
    destroyed_reason text,
    CHECK ((ciphertext IS NULL) = (destroyed_at IS NOT NULL))
);
CREATE INDEX template_person ON template (person_id) WHERE destroyed_at IS NULL;
CREATE INDEX template_provisional ON template (provisional_until) WHERE provisional_until IS NOT NULL AND destroyed_at IS NULL;

CREATE TABLE registration (
    id uuid PRIMARY KEY,
    operator_id uuid NOT NULL REFERENCES operator,
    scan_id uuid UNIQUE REFERENCES scan,
    terminal_id uuid REFERENCES terminal,
    business_type text NOT NULL CHECK (business_type IN ('self', 'proxy')),
    binding_order text NOT NULL CHECK (binding_order IN ('A', 'B', 'C')),
    spender_id uuid NOT NULL REFERENCES person,
    payer_id uuid REFERENCES person,             -- null: nobody who could pay has that account; looks like silence
    payer_account text NOT NULL,
    match_number smallint NOT NULL,              -- shown to the spender, asked of the payer: against pushes from strangers
    state text NOT NULL CHECK (state IN ('open', 'bound', 'refused', 'expired', 'withdrawn')),
    circle_id uuid REFERENCES circle,
    mandate_id uuid REFERENCES mandate,
    agreement_id uuid REFERENCES agreement,
    template_id uuid REFERENCES template,
    consented_at timestamptz,
    agreement_active_at timestamptz,
    enrolled_at timestamptz,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    closed_at timestamptz,
    CHECK (binding_order = 'C' OR terminal_id IS NOT NULL),
    CHECK (business_type = 'self' OR payer_id IS DISTINCT FROM spender_id)
);
CREATE INDEX registration_spender ON registration (spender_id, created_at);
CREATE INDEX registration_payer ON registration (payer_id, created_at);
CREATE INDEX registration_open ON registration (expires_at) WHERE state = 'open';

CREATE TABLE capture (
    id uuid PRIMARY KEY,
    registration_id uuid NOT NULL REFERENCES registration,
    person_id uuid NOT NULL REFERENCES person,
    terminal_id uuid NOT NULL REFERENCES terminal,
    state text NOT NULL CHECK (state IN ('asked', 'captured', 'failed', 'cancelled')),
    reason text,
    asked_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    finished_at timestamptz
);
CREATE UNIQUE INDEX capture_one_open ON capture (registration_id) WHERE state = 'asked';

------------------------------------------------------------------------------------------------------ charges, debits

CREATE TABLE charge (
    id uuid NOT NULL,
    circle_id uuid NOT NULL,
    seq bigint NOT NULL,                         -- per circle, in the order of deciding
    operator_id uuid NOT NULL,
    merchant_id uuid NOT NULL,
    terminal_id uuid NOT NULL,
    spender_id uuid NOT NULL,
    mandate_id uuid,
    mandate_version integer,
    agreement_id uuid,
    payer_id uuid,
    credential_id uuid,
    method text NOT NULL CHECK (method IN ('pay_code', 'card', 'payment_code', 'face')),
    mcc char(4) NOT NULL,
    currency currency NOT NULL,
    amount_minor amount_minor NOT NULL,          -- as authorised
    captured_minor amount_minor,                 -- as captured, at most as authorised
    refunded_minor sum_minor NOT NULL DEFAULT 0, -- asked back and not refused
    state text NOT NULL CHECK (state IN ('asking', 'held', 'submitted', 'succeeded', 'refused', 'voided', 'declined', 'arrears')),
    capture_at_once boolean NOT NULL,
    delivered boolean NOT NULL DEFAULT false,    -- goods were handed over before the debit
    void_requested boolean NOT NULL DEFAULT false,
    late boolean NOT NULL DEFAULT false,         -- succeeded after it was held for failed
    reference text,                              -- the till's own number
    refusal jsonb,
    decided_at timestamptz NOT NULL,
    hold_expires_at timestamptz,
    owed_since timestamptz,                      -- delivered, then definitively refused: arrears, until paid
    retry_at timestamptz,
    finished_at timestamptz,
    PRIMARY KEY (id, circle_id),
    CHECK (captured_minor IS NULL OR captured_minor <= amount_minor),
    CHECK (refunded_minor <= coalesce(captured_minor, 0)),
    CHECK ((state = 'refused') = (refusal IS NOT NULL)),
    CHECK (state IN ('refused', 'asking') OR (mandate_id IS NOT NULL AND agreement_id IS NOT NULL))
) WITH (fillfactor = 80);
CREATE INDEX charge_circle ON charge (circle_id, decided_at);
CREATE INDEX charge_held ON charge (hold_expires_at) WHERE state = 'held';
CREATE INDEX charge_owed ON charge (circle_id) WHERE owed_since IS NOT NULL;
CREATE INDEX charge_retry ON charge (retry_at) WHERE retry_at IS NOT NULL;

-- Room for asking a person (a later issue): nothing is reserved while it is open.
CREATE TABLE approval (
    id uuid PRIMARY KEY,
    circle_id uuid NOT NULL,
    charge_id uuid NOT NULL,
    state text NOT NULL CHECK (state IN ('open', 'approved', 'refused', 'expired')),
    lifts jsonb NOT NULL,
    answered_by uuid REFERENCES person,
    proof_id uuid,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    answered_at timestamptz
);

CREATE TABLE debit (
    id uuid NOT NULL,                            -- the provider's order number
    circle_id uuid NOT NULL,
    operator_id uuid NOT NULL,
    payer_id uuid NOT NULL,
    agreement_id uuid NOT NULL,
    provider_account_id uuid NOT NULL,
    spender_ref text,
    currency currency NOT NULL,
    amount_minor amount_minor NOT NULL,
    kind text NOT NULL DEFAULT 'charge' CHECK (kind IN ('charge', 'daily', 'arrears')),
    day date,                                    -- of a daily debit, in the operator's zone
    state text NOT NULL CHECK (state IN ('frozen', 'submitted', 'succeeded', 'failed')),
    unknown boolean NOT NULL DEFAULT false,      -- whoever waited was told: not known yet
    provider_ref text,
    failure_cause text,
    failure_code text,
    late boolean NOT NULL DEFAULT false,
    attempts integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL,
    finished_at timestamptz,
    next_check_at timestamptz,
    PRIMARY KEY (id, circle_id),
    CHECK ((state IN ('succeeded', 'failed')) = (finished_at IS NOT NULL)),
    CHECK (state = 'submitted' OR next_check_at IS NULL)
);
CREATE INDEX debit_check ON debit (next_check_at) WHERE next_check_at IS NOT NULL;

CREATE TABLE charge_debit (
    circle_id uuid NOT NULL,
    charge_id uuid NOT NULL,
    debit_id uuid NOT NULL,
    amount_minor amount_minor NOT NULL,
    PRIMARY KEY (charge_id, debit_id)
);
CREATE INDEX charge_debit_debit ON charge_debit (debit_id);

CREATE TABLE refund (
    id uuid NOT NULL,                            -- its key at the provider
    circle_id uuid NOT NULL,
    charge_id uuid NOT NULL,
    debit_id uuid NOT NULL,
    currency currency NOT NULL,
    amount_minor amount_minor NOT NULL,
    reason text NOT NULL CHECK (reason IN ('asked', 'late', 'void', 'surplus')),
    state text NOT NULL CHECK (state IN ('submitted', 'succeeded', 'failed')),
    provider_ref text,
    failure_code text,
    attempts integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL,
    finished_at timestamptz,
    next_check_at timestamptz,
    PRIMARY KEY (id, circle_id),
    CHECK ((state = 'submitted') = (finished_at IS NULL))
);
CREATE INDEX refund_charge ON refund (charge_id);
CREATE INDEX refund_check ON refund (next_check_at) WHERE next_check_at IS NOT NULL;

-------------------------------------------------------------------------------------------------------------- ledger

CREATE TABLE ledger_account (
    id uuid PRIMARY KEY,                         -- made from what it is: kind, owner, currency
    kind text NOT NULL CHECK (kind IN ('payer', 'merchant', 'clearing', 'payout')),
    owner_id uuid NOT NULL,
    currency currency NOT NULL,
    UNIQUE (kind, owner_id, currency)
);

CREATE TABLE entry (
    id uuid PRIMARY KEY,
    circle_id uuid NOT NULL,
    kind text NOT NULL CHECK (kind IN ('capture', 'debit', 'refund', 'refund_paid', 'adjustment')),
    charge_id uuid,
    debit_id uuid,
    refund_id uuid,
    at timestamptz NOT NULL
);
CREATE INDEX entry_charge ON entry (charge_id);

CREATE TABLE posting (
    entry_id uuid NOT NULL REFERENCES entry,
    account_id uuid NOT NULL REFERENCES ledger_account,
    circle_id uuid NOT NULL,
    currency currency NOT NULL,
    amount_minor bigint NOT NULL CHECK (amount_minor <> 0),   -- positive: debited to the account; negative: credited
    PRIMARY KEY (entry_id, account_id)
);
CREATE INDEX posting_account ON posting (account_id);

------------------------------------------------------------------------------------- request keys, audit, outbox, inbox

CREATE TABLE request_key (
    principal_id uuid NOT NULL,
    operation text NOT NULL,
    key text NOT NULL,
    fingerprint bytea NOT NULL,
    charge_id uuid,                              -- the answer is this charge, as it is now
    circle_id uuid,
    status smallint,                             -- otherwise the answer is kept as it was given
    answer text,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (principal_id, operation, key)
);

CREATE TABLE audit_lane (
    id uuid PRIMARY KEY,                         -- a circle, an operator, or a person without a circle
    seq bigint NOT NULL DEFAULT 0,
    hash bytea NOT NULL
) WITH (fillfactor = 70);

CREATE TABLE audit_event (
    lane uuid NOT NULL,
    seq bigint NOT NULL,
    at timestamptz NOT NULL,
    kind text NOT NULL,
    subject_id uuid NOT NULL,
    actor_id uuid,
    body text NOT NULL,                          -- canonical JSON, exactly as hashed
    hash bytea NOT NULL,
    PRIMARY KEY (lane, seq)
);
CREATE INDEX audit_event_subject ON audit_event (subject_id);

CREATE TABLE checkpoint (
    id uuid PRIMARY KEY,
    at timestamptz NOT NULL,
    lanes bigint NOT NULL,
    root bytea NOT NULL,
    key_id text NOT NULL,
    signature bytea NOT NULL
);
CREATE TABLE checkpoint_lane (                   -- only lanes that moved since the checkpoint before
    checkpoint_id uuid NOT NULL REFERENCES checkpoint,
    lane uuid NOT NULL,
    seq bigint NOT NULL,
    hash bytea NOT NULL,
    PRIMARY KEY (checkpoint_id, lane)
);

CREATE TABLE outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    lane uuid NOT NULL,
    topic text NOT NULL,
    subject_id uuid NOT NULL,
    body jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL,
    available_at timestamptz NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    fence bigint NOT NULL DEFAULT 0,             -- moves with every claim; a worker that lost its lease cannot finish it
    lease_until timestamptz,
    done_at timestamptz,
    dead_at timestamptz,
    error text
) WITH (fillfactor = 80);
CREATE INDEX outbox_open ON outbox (available_at, id) WHERE done_at IS NULL AND dead_at IS NULL;
CREATE INDEX outbox_subject ON outbox (subject_id);

CREATE TABLE inbox (
    provider_account_id uuid NOT NULL REFERENCES provider_account,
    notice_id text NOT NULL,
    received_at timestamptz NOT NULL,
    headers jsonb NOT NULL,
    body bytea NOT NULL,
    applied_at timestamptz,
    result text,
    attempts integer NOT NULL DEFAULT 0,
    next_try_at timestamptz,
    PRIMARY KEY (provider_account_id, notice_id)
);
CREATE INDEX inbox_open ON inbox (next_try_at) WHERE applied_at IS NULL;

CREATE TABLE notice (
    id uuid PRIMARY KEY,
    person_id uuid NOT NULL REFERENCES person,
    outbox_id bigint NOT NULL,
    kind text NOT NULL,
    subject_id uuid NOT NULL,
    body jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    read_at timestamptz,
    UNIQUE (outbox_id, person_id, kind)
);
CREATE INDEX notice_person ON notice (person_id, id);

---------------------------------------------------------------------------------------------------- history is appended to

DO $$
DECLARE name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['audit_event', 'entry', 'posting', 'mandate_version', 'pool_version', 'settlement_rule',
                                'checkpoint', 'checkpoint_lane', 'circle_zone', 'burnt_code', 'charge_debit'] LOOP
        EXECUTE format('CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON %I FOR EACH ROW EXECUTE FUNCTION forbid_change()', name);
        EXECUTE format('CREATE TRIGGER append_only_whole BEFORE TRUNCATE ON %I FOR EACH STATEMENT EXECUTE FUNCTION forbid_change()', name);
    END LOOP;
END $$;
