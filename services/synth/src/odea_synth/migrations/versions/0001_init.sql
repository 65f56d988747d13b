-- One row for each speech that units were held for: who, what, how it went. Never the text and never the audio.
CREATE TABLE synth.requests (
    received_at timestamptz NOT NULL,
    hold_id uuid NOT NULL,
    request_id text NOT NULL,
    tenant_id text NOT NULL,
    key_id text NOT NULL,
    model text NOT NULL,
    voice text NOT NULL,
    response_format text NOT NULL,
    provider text NOT NULL,
    outcome text NOT NULL,
    characters integer NOT NULL,
    units_held bigint NOT NULL,
    units_settled bigint NOT NULL,
    provider_units bigint NOT NULL,
    audio_bytes bigint NOT NULL,
    first_audio_ms integer,
    duration_ms integer NOT NULL,
    CONSTRAINT requests_charge_within_hold CHECK (units_settled BETWEEN 0 AND units_held),
    PRIMARY KEY (hold_id, received_at)
) PARTITION BY RANGE (received_at);
CREATE INDEX requests_by_tenant ON synth.requests (tenant_id, received_at);

-- Makes the partition of the month that `day` lies in. Called for this month and the next, again and again.
CREATE FUNCTION synth.ensure_partition(day timestamptz) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    first timestamptz := date_trunc('month', day, 'UTC');
    name text := 'requests_' || to_char(first AT TIME ZONE 'UTC', 'YYYY_MM');
BEGIN
    IF to_regclass('synth.' || name) IS NULL THEN
        EXECUTE format('CREATE TABLE IF NOT EXISTS synth.%I PARTITION OF synth.requests FOR VALUES FROM (%L) TO (%L)',
                       name, first, first + interval '1 month');
    END IF;
END $$;
SELECT synth.ensure_partition(clock_timestamp());
SELECT synth.ensure_partition(clock_timestamp() + interval '1 month');
