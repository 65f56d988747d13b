-- A table that is made as a partition needs its parent for itself: it waits behind every reader, and all writers wait behind
-- it. One that is attached does not disturb them. What does stand in its way (another change of the table, a VACUUM) is
-- waited for shortly; whoever calls tries again later.
CREATE OR REPLACE FUNCTION synth.ensure_partition(day timestamptz) RETURNS void LANGUAGE plpgsql
SET lock_timeout = '200ms' AS $$
DECLARE
    first timestamptz := date_trunc('month', day, 'UTC');
    name text := 'requests_' || to_char(first AT TIME ZONE 'UTC', 'YYYY_MM');
BEGIN
    IF to_regclass('synth.' || name) IS NULL THEN
        -- Two replicas may get here at once: the second waits, then finds it made.
        PERFORM pg_advisory_xact_lock(hashtextextended('partitions of synth.requests', 0));
        -- Looked up by a query: `to_regclass` may remember from before the wait that there is none.
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_class AS c
                       WHERE c.relnamespace = 'synth'::regnamespace AND c.relname = name) THEN
            EXECUTE format('CREATE TABLE synth.%I (LIKE synth.requests INCLUDING ALL)', name);
            EXECUTE format('ALTER TABLE synth.requests ATTACH PARTITION synth.%I FOR VALUES FROM (%L) TO (%L)',
                           name, first, first + interval '1 month');
        END IF;
    END IF;
END $$;
