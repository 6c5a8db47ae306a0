-- What an endpoint's deliveries that were given up are found by when it is switched on again, whatever its history.
CREATE INDEX webhook_delivery_failed ON webhook_delivery (endpoint_id, finished_at) WHERE state = 'failed';
