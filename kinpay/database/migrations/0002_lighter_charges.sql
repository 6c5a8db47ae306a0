-- What every charge writes is as little as possible. The count of a circle's charges moves to its audit lane, whose row every
-- charge writes anyway; nobody looks the outbox up by subject; events are looked up by subject only where they are not a
-- charge's first, which alone make up most of the log.

ALTER TABLE audit_lane ADD COLUMN charge_seq bigint NOT NULL DEFAULT 0;   -- the order in which reservations were decided
UPDATE audit_lane l SET charge_seq = c.charge_seq FROM circle c WHERE c.id = l.id;
ALTER TABLE circle DROP COLUMN charge_seq;

DROP INDEX outbox_subject;

DROP INDEX audit_event_subject;
CREATE INDEX audit_event_subject ON audit_event (subject_id) WHERE kind <> 'charge.held' AND kind <> 'charge.refused';
