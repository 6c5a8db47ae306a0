-- Messages that were given up are counted at each scrape, whatever the history.
CREATE INDEX outbox_dead ON outbox (id) WHERE dead_at IS NOT NULL;
CREATE INDEX webhook_endpoint_disabled ON webhook_endpoint (id) WHERE NOT enabled;
