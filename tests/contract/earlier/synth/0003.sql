-- Named queries of the synth service.

-- name: write_requests(received_at_ms, id, hold_id, request_id, tenant_id, key_id, model, voice, response_format, provider, outcome, code, attempts, fallback, characters, units_held, units_settled, provider_units, audio_bytes, first_audio_ms, duration_ms)!
-- A batch of ended requests. A row that is there already is left alone.
INSERT INTO synth.requests (received_at, id, hold_id, request_id, tenant_id, key_id, model, voice, response_format,
    provider, outcome, code, attempts, fallback, characters, units_held, units_settled, provider_units, audio_bytes,
    first_audio_ms, duration_ms)
SELECT to_timestamp(received_at_ms / 1000.0), id, hold_id, request_id, tenant_id, key_id, model, voice, response_format,
    provider, outcome, code, attempts, fallback, characters, units_held, units_settled, provider_units, audio_bytes,
    first_audio_ms, duration_ms
FROM unnest(:received_at_ms::bigint[], :id::uuid[], :hold_id::uuid[], :request_id::text[], :tenant_id::text[],
    :key_id::text[], :model::text[], :voice::text[], :response_format::text[], :provider::text[], :outcome::text[],
    :code::text[], :attempts::integer[], :fallback::boolean[], :characters::integer[], :units_held::bigint[],
    :units_settled::bigint[], :provider_units::bigint[], :audio_bytes::bigint[], :first_audio_ms::integer[],
    :duration_ms::integer[])
    AS n (received_at_ms, id, hold_id, request_id, tenant_id, key_id, model, voice, response_format, provider, outcome,
        code, attempts, fallback, characters, units_held, units_settled, provider_units, audio_bytes, first_audio_ms,
        duration_ms)
ON CONFLICT DO NOTHING;

-- name: ensure_partitions()!
-- The partitions of this month and the next.
SELECT synth.ensure_partition(clock_timestamp()), synth.ensure_partition(clock_timestamp() + interval '1 month');

-- name: drop_partitions(retention_days)$
-- Forget the months that ended so many days ago; how many went.
-- retention_days: integer
SELECT synth.drop_partitions(clock_timestamp() - make_interval(days => :retention_days));

-- name: requests_of_tenant(tenant_id, key_id, outcome, model, provider, since_ms, until_ms, after_us, after_id, looked_max, limit)
-- Of one tenant. Up to `limit` rows that fit, newest first, among the first `looked_max` behind the cursor; with each row how many
-- were looked at, and where that ended. One row of nothing else if some were looked at and none fit.
WITH looked AS (
    SELECT * FROM synth.requests
    WHERE tenant_id = :tenant_id AND
        received_at >= coalesce(to_timestamp(:since_ms::bigint / 1000.0), '-infinity')
        AND received_at < coalesce(to_timestamp(:until_ms::bigint / 1000.0), 'infinity')
        AND (received_at, id) < (
            coalesce(timestamptz 'epoch' + :after_us::bigint * interval '1 microsecond', 'infinity'),
            coalesce(:after_id::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
    ORDER BY received_at DESC, id DESC
    LIMIT :looked_max::bigint
), found AS (
    SELECT * FROM looked
    WHERE (:key_id::text IS NULL OR key_id = :key_id) AND (:outcome::text IS NULL OR outcome = :outcome)
        AND (:model::text IS NULL OR model = :model) AND (:provider::text IS NULL OR provider = :provider)
    ORDER BY received_at DESC, id DESC
    LIMIT :limit::bigint
), ending AS (
    SELECT received_at, id, (SELECT count(*) FROM looked) AS looked FROM looked ORDER BY received_at, id LIMIT 1
)
SELECT found.*, synth.to_us(found.received_at) AS at_us, ending.looked, synth.to_us(ending.received_at) AS last_us,
    ending.id AS last_id
FROM ending LEFT JOIN found ON true
ORDER BY found.received_at DESC, found.id DESC;

-- name: requests_of_all(key_id, outcome, model, provider, since_ms, until_ms, after_us, after_id, looked_max, limit)
-- The same of all tenants.
WITH looked AS (
    SELECT * FROM synth.requests
    WHERE received_at >= coalesce(to_timestamp(:since_ms::bigint / 1000.0), '-infinity')
        AND received_at < coalesce(to_timestamp(:until_ms::bigint / 1000.0), 'infinity')
        AND (received_at, id) < (
            coalesce(timestamptz 'epoch' + :after_us::bigint * interval '1 microsecond', 'infinity'),
            coalesce(:after_id::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
    ORDER BY received_at DESC, id DESC
    LIMIT :looked_max::bigint
), found AS (
    SELECT * FROM looked
    WHERE (:key_id::text IS NULL OR key_id = :key_id) AND (:outcome::text IS NULL OR outcome = :outcome)
        AND (:model::text IS NULL OR model = :model) AND (:provider::text IS NULL OR provider = :provider)
    ORDER BY received_at DESC, id DESC
    LIMIT :limit::bigint
), ending AS (
    SELECT received_at, id, (SELECT count(*) FROM looked) AS looked FROM looked ORDER BY received_at, id LIMIT 1
)
SELECT found.*, synth.to_us(found.received_at) AS at_us, ending.looked, synth.to_us(ending.received_at) AS last_us,
    ending.id AS last_id
FROM ending LEFT JOIN found ON true
ORDER BY found.received_at DESC, found.id DESC;

-- name: requests_by_request_id(tenant_id, key_id, request_id, outcome, model, provider, since_ms, until_ms, after_us, after_id, looked_max, limit)
-- The same of one request id, of one tenant or of all.
WITH looked AS (
    SELECT * FROM synth.requests
    WHERE request_id = :request_id AND (:tenant_id::text IS NULL OR tenant_id = :tenant_id) AND
        received_at >= coalesce(to_timestamp(:since_ms::bigint / 1000.0), '-infinity')
        AND received_at < coalesce(to_timestamp(:until_ms::bigint / 1000.0), 'infinity')
        AND (received_at, id) < (
            coalesce(timestamptz 'epoch' + :after_us::bigint * interval '1 microsecond', 'infinity'),
            coalesce(:after_id::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
    ORDER BY received_at DESC, id DESC
    LIMIT :looked_max::bigint
), found AS (
    SELECT * FROM looked
    WHERE (:key_id::text IS NULL OR key_id = :key_id) AND (:outcome::text IS NULL OR outcome = :outcome)
        AND (:model::text IS NULL OR model = :model) AND (:provider::text IS NULL OR provider = :provider)
    ORDER BY received_at DESC, id DESC
    LIMIT :limit::bigint
), ending AS (
    SELECT received_at, id, (SELECT count(*) FROM looked) AS looked FROM looked ORDER BY received_at, id LIMIT 1
)
SELECT found.*, synth.to_us(found.received_at) AS at_us, ending.looked, synth.to_us(ending.received_at) AS last_us,
    ending.id AS last_id
FROM ending LEFT JOIN found ON true
ORDER BY found.received_at DESC, found.id DESC;

-- name: take_pace(provider, wanted, interval_us, burst)^
-- Up to `wanted` turns of a provider's pace, and how long the next takes to come. The clock is read when the row is locked.
-- provider: text
-- wanted: integer, at least 1
-- interval_us: bigint, between two turns in the long run
-- burst: integer, how many may come at once
INSERT INTO synth.paces AS pace (provider, idle_at_us, granted, wait_us)
VALUES (:provider, 0, 0, 0)
ON CONFLICT (provider) DO UPDATE SET (idle_at_us, granted, wait_us) = (
    SELECT from_us + given * :interval_us::bigint, given,
        greatest(0, from_us + given * :interval_us::bigint - (now_us + (:burst::integer - 1) * :interval_us::bigint))
    FROM (SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS now_us OFFSET 0) AS clock,
        -- Nothing is further ahead than a whole burst, unless a clock was set back or the pace was changed.
        LATERAL (SELECT greatest(now_us, least(pace.idle_at_us, now_us + :burst::integer * :interval_us::bigint))
            AS from_us OFFSET 0) AS begin,
        LATERAL (SELECT greatest(0, least(:wanted::integer, :burst::integer
            - ((from_us - now_us + :interval_us::bigint - 1) / :interval_us::bigint)))::integer AS given OFFSET 0) AS gift
)
RETURNING granted, wait_us;
