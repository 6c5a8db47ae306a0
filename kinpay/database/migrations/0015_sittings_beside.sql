-- Faces at terminals: sittings before a camera, what locks them, consents, PINs, and what staff have to look at.

-- Whose face may be kept, by whose word, after reading which text; kept for as long as the account, also once withdrawn.
CREATE TABLE face_consent (
    id uuid PRIMARY KEY,
    person_id uuid NOT NULL REFERENCES person,   -- whose face
    given_by uuid NOT NULL REFERENCES person,    -- they themself, or the payer of a minor
    registration_id uuid NOT NULL REFERENCES registration,
    terminal_id uuid REFERENCES terminal,        -- on whose screen it was read; null: on the giver's own device
    text_version text NOT NULL,
    text_hash bytea NOT NULL CHECK (length(text_hash) = 32),
    language text NOT NULL CHECK (language IN ('zh', 'en')),
    given_at timestamptz NOT NULL,
    withdrawn_at timestamptz
);
CREATE INDEX face_consent_person ON face_consent (person_id, given_at);
CREATE INDEX face_consent_registration ON face_consent (registration_id);

-- One go before a terminal's camera: a challenge, its frames (which are never kept), what came of it. Pruned by the schedule.
CREATE TABLE sitting (
    id uuid PRIMARY KEY,
    operator_id uuid NOT NULL REFERENCES operator,
    site_id uuid NOT NULL REFERENCES site,
    terminal_id uuid NOT NULL REFERENCES terminal,
    purpose text NOT NULL CHECK (purpose IN ('enrol', 'recognise', 'verify')),
    state text NOT NULL CHECK (state IN ('asked', 'taken', 'stepping_up', 'passed', 'refused', 'expired')),
    acts text[] NOT NULL CHECK (cardinality(acts) = 2),
    nonce text NOT NULL CHECK (nonce ~ '^[A-Za-z0-9_-]{22,64}$'),
    capture_id uuid REFERENCES capture,          -- what is enrolled
    consent_id uuid REFERENCES face_consent,     -- the word of the person who is enrolled
    amount_minor amount_minor,                   -- what is to be paid
    currency currency,
    sealed bytea,                                -- who it is said to be, or may be: under the server's key, emptied at its end
    person_id uuid REFERENCES person,            -- who it is, once that is sure
    circle_id uuid REFERENCES circle,
    credential_id uuid REFERENCES credential,    -- the card that was shown beforehand, whose cap binds as well
    evidence jsonb,
    reasons text[] NOT NULL DEFAULT '{}',
    asked_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    finished_at timestamptz,
    CHECK (expires_at > asked_at),
    CHECK ((purpose = 'enrol') = (capture_id IS NOT NULL)),
    CHECK ((purpose = 'enrol') = (amount_minor IS NULL)),
    CHECK ((amount_minor IS NULL) = (currency IS NULL)),
    CHECK ((state IN ('passed', 'refused', 'expired')) = (finished_at IS NOT NULL)),
    CHECK (sealed IS NULL OR finished_at IS NULL),
    CHECK (purpose = 'enrol' OR (state = 'passed') = (person_id IS NOT NULL AND circle_id IS NOT NULL AND evidence IS NOT NULL))
);
CREATE INDEX sitting_open ON sitting (expires_at) WHERE finished_at IS NULL;
CREATE INDEX sitting_over ON sitting (finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX sitting_capture ON sitting (capture_id) WHERE capture_id IS NOT NULL;

-- What wrong faces and PINs come to: by terminal, by site, by person.
CREATE TABLE face_lock (
    subject_id uuid PRIMARY KEY,                 -- a terminal, a site or a person
    kind text NOT NULL CHECK (kind IN ('terminal', 'site', 'person')),
    in_a_row integer NOT NULL CHECK (in_a_row >= 0),
    tally integer NOT NULL CHECK (tally >= 0),   -- since tally_since, whatever succeeded meanwhile
    tally_since timestamptz NOT NULL,
    locked_until timestamptz,
    disabled_at timestamptz                      -- until somebody of the staff resets it
);

CREATE TABLE face_pin (
    person_id uuid PRIMARY KEY REFERENCES person,
    pin_hash bytea NOT NULL,
    set_at timestamptz NOT NULL
);

-- A face that is enrolled already for another account: the registration waits until somebody of the staff has looked.
CREATE TABLE face_finding (
    id uuid PRIMARY KEY,
    operator_id uuid NOT NULL REFERENCES operator,
    registration_id uuid NOT NULL REFERENCES registration,
    capture_id uuid NOT NULL REFERENCES capture,
    template_id uuid NOT NULL REFERENCES template,
    person_id uuid NOT NULL REFERENCES person,   -- who was captured
    alike uuid[] NOT NULL CHECK (cardinality(alike) >= 1),  -- the accounts whose templates are as near
    state text NOT NULL CHECK (state IN ('open', 'different', 'same', 'lapsed')),
    found_at timestamptz NOT NULL,
    decided_by uuid REFERENCES person,
    decided_at timestamptz,
    CHECK ((state = 'open') = (decided_at IS NULL))
);
CREATE INDEX face_finding_of ON face_finding (operator_id, id);
CREATE UNIQUE INDEX face_finding_open ON face_finding (registration_id) WHERE state = 'open';

-- How sure it was who stood there: bound, threshold, gallery, model, second factor.
ALTER TABLE charge ADD COLUMN face jsonb;
