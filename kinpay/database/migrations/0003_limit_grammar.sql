-- The whole limit grammar: more periods to count over, refunds that do not restore, raises that cool down, items of a receipt.

-- Periods are named as in kinpay/primitives/period.py. A trailing period has a row of usage for each moment at which something
-- was used: from then until it leaves the window.
ALTER TABLE counter DROP CONSTRAINT counter_period_check;
ALTER TABLE counter ADD CONSTRAINT counter_period_check CHECK (period ~
    '^((day|week(@[2-7])?|month|half_year|year|lifetime|trailing@[0-9]+)|consent_(day|week|fortnight|month|half_year|year)@[-0-9]{10})$');
ALTER TABLE counter ADD COLUMN refunds text NOT NULL DEFAULT 'restore' CHECK (refunds IN ('restore', 'keep'));
ALTER TABLE counter DROP CONSTRAINT counter_scope_id_period_filter_hash_key;
ALTER TABLE counter ADD UNIQUE (scope_id, period, filter_hash, refunds);

-- Until when the version before binds besides: a raise takes effect when it has cooled down.
ALTER TABLE mandate_version ADD COLUMN cools_until timestamptz;

-- What was bought, where the till tells it: [{"code", "amount_minor", "quantity"}], together the amount.
ALTER TABLE charge ADD COLUMN items jsonb;

-- The day on which something was consented to, on the circle's wall as it was then.
CREATE FUNCTION consent_day(of_circle uuid, at timestamptz) RETURNS date LANGUAGE sql STABLE AS $$
    SELECT (at AT TIME ZONE coalesce(
        (SELECT time_zone FROM circle_zone WHERE circle_id = of_circle AND since <= at ORDER BY since DESC LIMIT 1),
        (SELECT time_zone FROM circle_zone WHERE circle_id = of_circle ORDER BY since LIMIT 1),
        (SELECT time_zone FROM circle WHERE id = of_circle)))::date
$$;
