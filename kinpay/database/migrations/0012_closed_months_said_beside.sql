-- What a closed month shows besides its figures: who was called what, which zone the wall was in, and which of its charges had
-- not come to their end. Null for months that were closed before this step: those show what is known today.
ALTER TABLE statement_month ADD COLUMN time_zone text, ADD COLUMN names jsonb, ADD COLUMN states jsonb;
COMMENT ON COLUMN statement_month.names IS 'id of the circle, a person or a merchant: name';
COMMENT ON COLUMN statement_month.states IS 'id of a charge that had neither succeeded nor been refused: its state';
