-- A table that is made as a partition needs its parent for itself: it waits behind every reader, a long audit too, and all
-- writers wait behind it. One that is attached does not disturb readers and writers. What does stand in its way (another
-- change of the table, a VACUUM) is waited for shortly; whoever calls tries again later.
CREATE OR REPLACE FUNCTION quota.ensure_partition(day timestamptz) RETURNS void LANGUAGE plpgsql
SET lock_timeout = '200ms' AS $$
DECLARE
    first timestamptz := date_trunc('month', day, 'UTC');
    parent text;
    name text;
BEGIN
    FOREACH parent IN ARRAY ARRAY['resolutions', 'entries'] LOOP
        name := parent || '_' || to_char(first AT TIME ZONE 'UTC', 'YYYY_MM');
        IF to_regclass('quota.' || name) IS NULL THEN
            -- Two replicas may get here at once: the second waits, then finds it made.
            PERFORM pg_advisory_xact_lock(hashtextextended('odea partitions of quota', 0));
            -- Looked up by a query: `to_regclass` may remember from before the wait that there is none.
            IF NOT EXISTS (SELECT FROM pg_catalog.pg_class AS c
                           WHERE c.relnamespace = 'quota'::regnamespace AND c.relname = name) THEN
                EXECUTE format('CREATE TABLE quota.%I (LIKE quota.%I INCLUDING ALL)', name, parent);
                EXECUTE format('CREATE TRIGGER no_truncate BEFORE TRUNCATE ON quota.%I'
                               ' FOR EACH STATEMENT EXECUTE FUNCTION quota.refuse_change()', name);
                EXECUTE format('ALTER TABLE quota.%I ATTACH PARTITION quota.%I FOR VALUES FROM (%L) TO (%L)',
                               parent, name, first, first + interval '1 month');
            END IF;
        END IF;
    END LOOP;
END $$;
