-- Named queries of the synth service.

-- name: write_requests(received_at_ms, hold_id, request_id, tenant_id, key_id, model, voice, response_format, provider, outcome, characters, units_held, units_settled, provider_units, audio_bytes, first_audio_ms, duration_ms)!
-- A batch of ended requests. A row that is there already is left alone.
INSERT INTO synth.requests (received_at, hold_id, request_id, tenant_id, key_id, model, voice, response_format, provider,
    outcome, characters, units_held, units_settled, provider_units, audio_bytes, first_audio_ms, duration_ms)
SELECT to_timestamp(received_at_ms / 1000.0), hold_id, request_id, tenant_id, key_id, model, voice, response_format,
    provider, outcome, characters, units_held, units_settled, provider_units, audio_bytes, first_audio_ms, duration_ms
FROM unnest(:received_at_ms::bigint[], :hold_id::uuid[], :request_id::text[], :tenant_id::text[], :key_id::text[],
    :model::text[], :voice::text[], :response_format::text[], :provider::text[], :outcome::text[], :characters::integer[],
    :units_held::bigint[], :units_settled::bigint[], :provider_units::bigint[], :audio_bytes::bigint[],
    :first_audio_ms::integer[], :duration_ms::integer[])
    AS n (received_at_ms, hold_id, request_id, tenant_id, key_id, model, voice, response_format, provider, outcome,
        characters, units_held, units_settled, provider_units, audio_bytes, first_audio_ms, duration_ms)
ON CONFLICT DO NOTHING;

-- name: ensure_partitions()!
-- The partitions of this month and the next.
SELECT synth.ensure_partition(clock_timestamp()), synth.ensure_partition(clock_timestamp() + interval '1 month');
