-- Dual control: an operator may ask that privileged acts of its staff have two people.

ALTER TABLE operator ADD COLUMN dual_control boolean NOT NULL DEFAULT false;

CREATE TABLE privileged_act (
    id uuid PRIMARY KEY,
    operator_id uuid NOT NULL REFERENCES operator,
    kind text NOT NULL,
    about jsonb NOT NULL,                        -- exactly what is to be done, as the second person reads it
    fingerprint bytea NOT NULL CHECK (length(fingerprint) = 32),  -- SHA-256 of kind and about, canonical
    state text NOT NULL CHECK (state IN ('asked', 'approved', 'refused', 'withdrawn', 'expired', 'done')),
    asked_by uuid NOT NULL REFERENCES person,
    asked_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    decided_by uuid REFERENCES person,
    decided_at timestamptz,
    done_at timestamptz,
    CHECK (asked_by <> decided_by),
    CHECK (expires_at > asked_at),
    CHECK (state NOT IN ('approved', 'refused', 'done') OR (decided_by IS NOT NULL AND decided_at IS NOT NULL)),
    CHECK ((state = 'done') = (done_at IS NOT NULL))
);
-- Whoever asks again for the same thing asks the same question.
CREATE UNIQUE INDEX privileged_act_open ON privileged_act (operator_id, asked_by, fingerprint)
    WHERE state IN ('asked', 'approved');
CREATE INDEX privileged_act_of ON privileged_act (operator_id, id);
