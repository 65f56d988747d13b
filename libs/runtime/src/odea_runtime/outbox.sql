-- The outbox lives in each service's own schema, which the connection's search_path names.

-- name: take_outbox(limit)
-- The oldest events that have not been handed over, in the order in which they were written.
-- limit: how many at most
SELECT id, subject, event_id, source, body, created_at
FROM outbox
ORDER BY id
LIMIT :limit;

-- name: forget_outbox(ids)!
-- Events that JetStream has acknowledged.
-- ids: bigint[]
DELETE FROM outbox WHERE id = ANY(:ids::bigint[]);

-- name: set_aside_outbox(ids)!
-- Events that the bus does not take, out of the way of the others.
-- ids: bigint[]
WITH taken AS (
    DELETE FROM outbox WHERE id = ANY(:ids::bigint[]) RETURNING id, subject, event_id, source, body, created_at
)
INSERT INTO outbox_set_aside (id, subject, event_id, source, body, created_at)
SELECT id, subject, event_id, source, body, created_at FROM taken;

-- name: count_set_aside()$
-- How many events were set aside, up to a thousand.
SELECT count(*) FROM (SELECT FROM outbox_set_aside LIMIT 1000) AS looked_at;

-- name: outbox_lag()^
-- How many events wait, and for how long the oldest has. Events leave in the order of their ids, so the ends of the index
-- tell; counting rows would take longer the more there are, and at some millions longer than a statement may.
SELECT coalesce((SELECT max(id) FROM outbox) - oldest.id + 1, 0) AS waiting,
    coalesce(extract(epoch FROM clock_timestamp() - oldest.created_at), 0)::float8 AS oldest_s
FROM (VALUES (0)) AS one (row) LEFT JOIN LATERAL (SELECT id, created_at FROM outbox ORDER BY id LIMIT 1) AS oldest ON true;

-- name: lead_relay()$
-- True for the one session of all replicas that relays; it keeps the lock as long as it lives.
SELECT pg_try_advisory_lock(hashtextextended('odea outbox of ' || current_schema(), 0));

-- name: resign_relay()$
-- Give up what `lead_relay` took.
SELECT pg_advisory_unlock(hashtextextended('odea outbox of ' || current_schema(), 0));
