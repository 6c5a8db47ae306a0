-- Daily debits: what was delivered is collected, and debited with the day, one itemised debit per payer. Fares: rides that cost
-- nothing because of a transfer or of the day's cap.

ALTER TABLE charge DROP CONSTRAINT charge_state_check;
ALTER TABLE charge ADD CONSTRAINT charge_state_check CHECK (state IN
    ('asking', 'held', 'due', 'submitted', 'succeeded', 'refused', 'voided', 'declined', 'arrears'));
ALTER TABLE charge ADD COLUMN due_on date;           -- of what is debited with its day: that day, in the operator's zone
ALTER TABLE charge ADD COLUMN fare_minor sum_minor;  -- what a ride would cost by itself; `amount_minor` is what it does cost
ALTER TABLE charge ALTER COLUMN amount_minor TYPE sum_minor;
ALTER TABLE charge ALTER COLUMN captured_minor TYPE sum_minor;
ALTER TABLE charge ADD CONSTRAINT charge_amount_check CHECK (amount_minor > 0 OR fare_minor > 0);
ALTER TABLE charge ADD CONSTRAINT charge_due_check CHECK (state <> 'due' OR due_on IS NOT NULL);
CREATE INDEX charge_due ON charge (due_on) WHERE state = 'due';

CREATE TABLE fare_rule (
    merchant_id uuid NOT NULL REFERENCES merchant,
    version integer NOT NULL,
    currency currency NOT NULL,
    cap_per_day_minor amount_minor,                  -- never more than this of rides, per spender and day
    transfer_within_s integer CHECK (transfer_within_s BETWEEN 60 AND 86400),
    set_by uuid NOT NULL REFERENCES person,
    since timestamptz NOT NULL,
    ended boolean NOT NULL DEFAULT false,            -- rides cost what the gate says
    PRIMARY KEY (merchant_id, version)
);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON fare_rule FOR EACH ROW EXECUTE FUNCTION forbid_change();
CREATE TRIGGER append_only_whole BEFORE TRUNCATE ON fare_rule FOR EACH STATEMENT EXECUTE FUNCTION forbid_change();
