-- TRUNCATE fires no trigger for rows, and none of the parent's when it names a partition, so each partition has its own.
CREATE TRIGGER resolutions_no_truncate BEFORE TRUNCATE ON quota.resolutions
    FOR EACH STATEMENT EXECUTE FUNCTION quota.refuse_change();
CREATE TRIGGER entries_no_truncate BEFORE TRUNCATE ON quota.entries
    FOR EACH STATEMENT EXECUTE FUNCTION quota.refuse_change();

DO $$
DECLARE
    child text;
BEGIN
    FOR child IN SELECT c.relname FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
                 WHERE i.inhparent IN ('quota.resolutions'::regclass, 'quota.entries'::regclass) LOOP
        EXECUTE format('CREATE TRIGGER no_truncate BEFORE TRUNCATE ON quota.%I'
                       ' FOR EACH STATEMENT EXECUTE FUNCTION quota.refuse_change()', child);
    END LOOP;
END $$;

CREATE OR REPLACE FUNCTION quota.ensure_partition(day timestamptz) RETURNS void LANGUAGE plpgsql AS $$
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
                EXECUTE format('CREATE TABLE quota.%I PARTITION OF quota.%I FOR VALUES FROM (%L) TO (%L)',
                               name, parent, first, first + interval '1 month');
                EXECUTE format('CREATE TRIGGER no_truncate BEFORE TRUNCATE ON quota.%I'
                               ' FOR EACH STATEMENT EXECUTE FUNCTION quota.refuse_change()', name);
            END IF;
        END IF;
    END LOOP;
END $$;
