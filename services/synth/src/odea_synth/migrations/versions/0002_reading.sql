-- squawk-ignore-file adding-field-with-default, ban-drop-not-null, ban-drop-constraint, constraint-missing-not-valid
-- squawk-ignore-file adding-serial-primary-key-field, disallowed-unique-constraint, require-concurrent-index-deletion
-- squawk-ignore-file require-concurrent-index-creation
-- Before the first release there are no rows that this could make anybody wait for, and no older version.
-- Refused requests are in the log, too: they have no hold, and perhaps no provider. The defaults are for writers that do
-- not know the new columns yet.
ALTER TABLE synth.requests
    ADD COLUMN id uuid NOT NULL DEFAULT gen_random_uuid(),
    ADD COLUMN code text,
    ADD COLUMN attempts integer NOT NULL DEFAULT 1,
    ADD COLUMN fallback boolean NOT NULL DEFAULT false,
    ALTER COLUMN provider DROP NOT NULL,
    DROP CONSTRAINT requests_pkey;
ALTER TABLE synth.requests
    ALTER COLUMN hold_id DROP NOT NULL,
    ADD PRIMARY KEY (id, received_at),
    ADD CONSTRAINT requests_log_a_hold_once UNIQUE (hold_id, received_at);

-- Each of the three ways to read, in the order of reading.
DROP INDEX synth.requests_by_tenant;
CREATE INDEX requests_by_tenant ON synth.requests (tenant_id, received_at, id);
CREATE INDEX requests_by_time ON synth.requests (received_at, id);
CREATE INDEX requests_by_request ON synth.requests (request_id, received_at, id);

-- As before, and several replicas at once make it once.
CREATE OR REPLACE FUNCTION synth.ensure_partition(day timestamptz) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    first timestamptz := date_trunc('month', day, 'UTC');
    name text := 'requests_' || to_char(first AT TIME ZONE 'UTC', 'YYYY_MM');
BEGIN
    IF to_regclass('synth.' || name) IS NULL THEN
        PERFORM pg_advisory_xact_lock(hashtextextended('partitions of synth.requests', 0));
        EXECUTE format('CREATE TABLE IF NOT EXISTS synth.%I PARTITION OF synth.requests FOR VALUES FROM (%L) TO (%L)',
                       name, first, first + interval '1 month');
    END IF;
END $$;

-- Drops the partitions that ended before `kept_from`, oldest first, and says how many. Another replica that is at it, or
-- a reader that stands on a partition, is not waited for long: the next call finds what is left.
CREATE FUNCTION synth.drop_partitions(kept_from timestamptz) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    month text;
    dropped integer := 0;
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtextextended('partitions of synth.requests', 0)) THEN
        RETURN 0;
    END IF;
    PERFORM set_config('lock_timeout', '200ms', true);
    FOR month IN
        SELECT substr(c.relname, 10)
        FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'synth.requests'::regclass AND c.relname ~ '^requests_[0-9]{4}_[0-9]{2}$'
        ORDER BY 1
    LOOP
        EXIT WHEN make_timestamptz(left(month, 4)::integer, right(month, 2)::integer, 1, 0, 0, 0, 'UTC')
            + interval '1 month' > kept_from;
        EXECUTE format('DROP TABLE synth.%I', 'requests_' || month);
        dropped := dropped + 1;
    END LOOP;
    RETURN dropped;
EXCEPTION WHEN lock_not_available THEN
    RETURN 0;
END $$;

-- A time in microseconds, exactly: what a cursor is made of.
CREATE FUNCTION synth.to_us(moment timestamptz) RETURNS bigint LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN (extract(epoch FROM moment) * 1000000)::bigint;
