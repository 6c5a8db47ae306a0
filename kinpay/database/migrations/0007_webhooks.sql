-- What a merchant's engineer asks with and is told by: API keys, webhook endpoints, events, deliveries and their attempts.

-- Of one merchant, or (merchant_id null) of all merchants of the operator. The token itself is shown once and kept nowhere.
CREATE TABLE api_key (
    id uuid PRIMARY KEY,
    operator_id uuid NOT NULL REFERENCES operator,
    merchant_id uuid REFERENCES merchant,
    name text NOT NULL,
    prefix text NOT NULL UNIQUE,                 -- the token's first characters, by which people tell keys apart
    token_hash bytea NOT NULL,                   -- keyed
    scopes text[] NOT NULL CHECK (cardinality(scopes) > 0),
    created_by uuid NOT NULL REFERENCES person,
    created_at timestamptz NOT NULL,
    last_used_at timestamptz,                    -- to the hour
    expires_at timestamptz,
    revoked_at timestamptz
);
CREATE INDEX api_key_operator ON api_key (operator_id, id);

-- A merchant's charges, newest first: ids are ordered by time.
CREATE INDEX charge_merchant ON charge (merchant_id, id);

CREATE TABLE webhook_endpoint (
    id uuid PRIMARY KEY,
    operator_id uuid NOT NULL REFERENCES operator,
    merchant_id uuid REFERENCES merchant,        -- null: all of the operator's merchants
    url text NOT NULL,
    description text,
    types text[] NOT NULL CHECK (cardinality(types) > 0),
    enabled boolean NOT NULL DEFAULT true,
    disabled_reason text CHECK (disabled_reason IN ('asked', 'gone', 'failing')),
    disabled_at timestamptz,
    failing_since timestamptz,                   -- the first failure since anything was last delivered
    created_at timestamptz NOT NULL,
    CHECK (enabled = (disabled_reason IS NULL)),
    CHECK (enabled = (disabled_at IS NULL))
);
CREATE INDEX webhook_endpoint_operator ON webhook_endpoint (operator_id, id);

-- The newest signs first; older ones sign besides until they expire.
CREATE TABLE webhook_secret (
    id uuid PRIMARY KEY,
    endpoint_id uuid NOT NULL REFERENCES webhook_endpoint ON DELETE CASCADE,
    sealed bytea NOT NULL,
    sealed_by bytea NOT NULL,                    -- names the server's key, so that a rotation knows what is left to do
    created_at timestamptz NOT NULL,
    expires_at timestamptz
);
CREATE INDEX webhook_secret_endpoint ON webhook_secret (endpoint_id);

-- Its id is the message's id for ever, and its body the very bytes that are sent and signed.
CREATE TABLE webhook_event (
    id uuid PRIMARY KEY,
    operator_id uuid NOT NULL REFERENCES operator,
    merchant_id uuid REFERENCES merchant,
    outbox_id bigint UNIQUE,                     -- its cause; null for a test
    type text NOT NULL,
    subject_id uuid NOT NULL,                    -- the charge; of a test, itself
    body text NOT NULL,
    created_at timestamptz NOT NULL
);
CREATE INDEX webhook_event_created ON webhook_event (created_at);

CREATE TABLE webhook_delivery (
    id uuid PRIMARY KEY,
    event_id uuid NOT NULL REFERENCES webhook_event ON DELETE CASCADE,
    endpoint_id uuid NOT NULL REFERENCES webhook_endpoint ON DELETE CASCADE,
    subject_id uuid NOT NULL,
    seq bigint NOT NULL,                         -- the order within a subject: that of the causes
    state text NOT NULL CHECK (state IN ('pending', 'delivered', 'failed')),
    attempts integer NOT NULL DEFAULT 0,         -- all that there were
    tries integer NOT NULL DEFAULT 0,            -- of the present schedule, which asking again begins anew
    next_attempt_at timestamptz,
    lease_until timestamptz,
    fence bigint NOT NULL DEFAULT 0,             -- moves with every claim; a sender that lost its lease records nothing
    created_at timestamptz NOT NULL,
    finished_at timestamptz,
    UNIQUE (event_id, endpoint_id),
    CHECK ((state = 'pending') = (next_attempt_at IS NOT NULL)),
    CHECK ((state = 'pending') = (finished_at IS NULL))
) WITH (fillfactor = 80);
CREATE INDEX webhook_delivery_due ON webhook_delivery (endpoint_id, next_attempt_at) WHERE state = 'pending';
CREATE INDEX webhook_delivery_order ON webhook_delivery (endpoint_id, subject_id, seq) WHERE state = 'pending';
CREATE INDEX webhook_delivery_leased ON webhook_delivery (endpoint_id) WHERE lease_until IS NOT NULL;
CREATE INDEX webhook_delivery_endpoint ON webhook_delivery (endpoint_id, id);

CREATE TABLE webhook_attempt (
    delivery_id uuid NOT NULL REFERENCES webhook_delivery ON DELETE CASCADE,
    number integer NOT NULL,
    at timestamptz NOT NULL,
    duration_ms integer NOT NULL,
    status integer,                              -- null: no answer
    answer text,                                 -- its first characters
    error text,
    PRIMARY KEY (delivery_id, number)
);
