-- name: find_secret(public_id)^
-- The one read of a verification: a secret with its key and its tenant, and the time by which they are judged. There is
-- always one row, and each table is probed once, so that an id that nobody has costs what a known one costs.
-- public_id: text
SELECT
    s.public_id IS NOT NULL AS known,
    coalesce(k.tenant_id, '') AS tenant_id,
    coalesce(k.key_id, '') AS key_id,
    coalesce(k.scopes, '{}') AS scopes,
    coalesce(k.own_account, false) AS own_account,
    coalesce(k.allowed_cidrs, '{}') AS allowed_cidrs,
    coalesce(s.pepper_id, '') AS pepper_id,
    coalesce(s.hash, '') AS hash,
    keys.to_ms(least(s.expires_at, k.expires_at)) AS expires_at_ms,
    k.revoked_at IS NOT NULL AS revoked,
    t.suspended_at IS NOT NULL AS suspended,
    keys.to_ms(clock_timestamp()) AS now_ms
FROM (SELECT :public_id::text AS public_id) AS asked
LEFT JOIN keys.secrets s ON s.public_id = asked.public_id
LEFT JOIN keys.keys k ON k.key_id = coalesce(s.key_id, '')
LEFT JOIN keys.tenants t ON t.tenant_id = coalesce(k.tenant_id, '');

-- name: add_tenant(tenant_id, name)^
-- The new tenant, or no row if the name is taken; the unique constraint decides between callers.
-- tenant_id, name: text
INSERT INTO keys.tenants (tenant_id, name)
VALUES (:tenant_id, :name)
ON CONFLICT ON CONSTRAINT tenants_name_unique DO NOTHING
RETURNING tenant_id, name, false AS suspended, keys.to_ms(created_at) AS created_at_ms;

-- name: tenant_named(name)^
-- The tenant with this name, a text.
SELECT tenant_id, name, suspended_at IS NOT NULL AS suspended, keys.to_ms(created_at) AS created_at_ms
FROM keys.tenants
WHERE name = :name;

-- name: tenant(tenant_id)^
-- The tenant with this id.
-- tenant_id: text
SELECT tenant_id, name, suspended_at IS NOT NULL AS suspended, keys.to_ms(created_at) AS created_at_ms
FROM keys.tenants
WHERE tenant_id = :tenant_id;

-- name: tenants_after(after, limit)
-- Tenants in order of creation.
-- after: text, the id behind which the page begins, or NULL
-- limit: bigint
SELECT tenant_id, name, suspended_at IS NOT NULL AS suspended, keys.to_ms(created_at) AS created_at_ms
FROM keys.tenants
WHERE tenant_id > coalesce(:after, '')
ORDER BY tenant_id
LIMIT :limit;

-- name: rename_tenant(tenant_id, name)^
-- The tenant under its new name; no row if it is not there. The unique constraint decides between callers.
-- tenant_id, name: text
UPDATE keys.tenants
SET name = :name
WHERE tenant_id = :tenant_id
RETURNING tenant_id, name, suspended_at IS NOT NULL AS suspended, keys.to_ms(created_at) AS created_at_ms;

-- name: suspend(tenant_id)^
-- The tenant if this suspended it; no row if it was suspended before, or is not there.
-- tenant_id: text
UPDATE keys.tenants
SET suspended_at = clock_timestamp()
WHERE tenant_id = :tenant_id AND suspended_at IS NULL
RETURNING tenant_id, name, true AS suspended, keys.to_ms(created_at) AS created_at_ms;

-- name: resume(tenant_id)^
-- The tenant if this resumed it; no row if it was not suspended, or is not there.
-- tenant_id: text
UPDATE keys.tenants
SET suspended_at = NULL
WHERE tenant_id = :tenant_id AND suspended_at IS NOT NULL
RETURNING tenant_id, name, false AS suspended, keys.to_ms(created_at) AS created_at_ms;

-- name: key(key_id)^
-- A key with its newest secret's public id.
-- key_id: text
SELECT
    k.key_id,
    k.tenant_id,
    k.name,
    s.public_id,
    k.scopes,
    k.own_account,
    k.allowed_cidrs,
    keys.to_ms(k.created_at) AS created_at_ms,
    keys.to_ms(k.expires_at) AS expires_at_ms,
    keys.to_ms(k.revoked_at) AS revoked_at_ms
FROM keys.keys k
JOIN keys.secrets s ON s.key_id = k.key_id AND s.expires_at IS NULL
WHERE k.key_id = :key_id;

-- name: keys_after(tenant_id, after, limit)
-- A tenant's keys in order of creation.
-- tenant_id: text
-- after: text, the id behind which the page begins, or NULL
-- limit: bigint
SELECT
    k.key_id,
    k.tenant_id,
    k.name,
    s.public_id,
    k.scopes,
    k.own_account,
    k.allowed_cidrs,
    keys.to_ms(k.created_at) AS created_at_ms,
    keys.to_ms(k.expires_at) AS expires_at_ms,
    keys.to_ms(k.revoked_at) AS revoked_at_ms
FROM keys.keys k
JOIN keys.secrets s ON s.key_id = k.key_id AND s.expires_at IS NULL
WHERE k.tenant_id = :tenant_id AND k.key_id > coalesce(:after, '')
ORDER BY k.key_id
LIMIT :limit;

-- name: add_key(key_id, tenant_id, name, scopes, own_account, allowed_cidrs, expires_at_ms)!
-- The tenant must be there and the end must lie ahead; named constraints say so.
-- key_id, tenant_id, name: text
-- scopes, allowed_cidrs: text[]
-- own_account: boolean
-- expires_at_ms: bigint or NULL
INSERT INTO keys.keys (key_id, tenant_id, name, scopes, own_account, allowed_cidrs, expires_at)
VALUES (:key_id, :tenant_id, :name, :scopes, :own_account, :allowed_cidrs, keys.from_ms(:expires_at_ms));

-- name: update_key(key_id, name, scopes, allowed_cidrs, sets_expiry, expires_at_ms)$
-- The key's id; nothing if it would end in the past. The key is locked and lives.
-- key_id, name: text; a name of NULL stays as it is
-- scopes, allowed_cidrs: text[], or NULL to leave them
-- sets_expiry: boolean
-- expires_at_ms: bigint, or NULL for no end
UPDATE keys.keys
SET
    name = coalesce(:name, name),
    scopes = coalesce(:scopes, scopes),
    allowed_cidrs = coalesce(:allowed_cidrs, allowed_cidrs),
    expires_at = CASE WHEN :sets_expiry THEN keys.from_ms(:expires_at_ms) ELSE expires_at END
WHERE key_id = :key_id
    AND (NOT :sets_expiry OR :expires_at_ms::bigint IS NULL OR keys.from_ms(:expires_at_ms) > clock_timestamp())
RETURNING key_id;

-- name: add_secret(public_id, key_id, pepper_id, hash)!
-- The key's newest secret. There must be no other without an end.
-- public_id, key_id, pepper_id: text
-- hash: bytea
INSERT INTO keys.secrets (public_id, key_id, pepper_id, hash)
VALUES (:public_id, :key_id, :pepper_id, :hash);

-- name: lock_living_key(key_id)$
-- Its tenant's id; nothing if the key is not there, revoked or expired. Changes of one key wait here for each other.
-- key_id: text
SELECT tenant_id
FROM keys.keys
WHERE key_id = :key_id AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > clock_timestamp())
FOR UPDATE;

-- name: limit_secrets(key_id, grace_ms)!
-- Let no secret of the key live longer than the grace from now. It shortens lives and never lengthens one.
-- key_id: text
-- grace_ms: bigint
UPDATE keys.secrets
SET expires_at = statement_timestamp() + :grace_ms::bigint * interval '1 millisecond'
WHERE key_id = :key_id
    AND (expires_at IS NULL OR expires_at > statement_timestamp() + :grace_ms::bigint * interval '1 millisecond');

-- name: revoke(key_id)$
-- The tenant's id if this revoked the key; nothing if it was revoked before, or is not there.
-- key_id: text
UPDATE keys.keys
SET revoked_at = clock_timestamp()
WHERE key_id = :key_id AND revoked_at IS NULL
RETURNING tenant_id;

-- name: keys_expiring(within_s, lifetime_s_min)$
-- How many living keys of tenants that are not suspended expire soon, of those that were made to live long.
-- within_s, lifetime_s_min: double precision
SELECT count(*) FROM keys.keys AS k JOIN keys.tenants AS t USING (tenant_id)
WHERE k.expires_at > clock_timestamp() AND k.expires_at <= clock_timestamp() + :within_s::double precision * interval '1 second'
    AND k.expires_at - k.created_at >= :lifetime_s_min::double precision * interval '1 second'
    AND k.revoked_at IS NULL AND t.suspended_at IS NULL;

-- name: add_event(subject, event_id, source, body)!
-- An event that leaves with the outbox once this transaction is committed.
-- subject, event_id, source: text
-- body: bytea
INSERT INTO keys.outbox (subject, event_id, source, body)
VALUES (:subject, :event_id::uuid, :source, :body);
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
