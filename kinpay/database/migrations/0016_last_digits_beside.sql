-- Whom the last digits of a phone number may mean, before a terminal's camera. (Where very many people have an account, make it
-- by hand with CONCURRENTLY before.)
CREATE INDEX IF NOT EXISTS person_contact_digits ON person_contact (right(address, 4)) WHERE channel = 'phone';
