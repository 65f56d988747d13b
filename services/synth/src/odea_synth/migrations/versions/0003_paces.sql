-- How far each provider's pace is used, for all replicas together.
CREATE TABLE synth.paces (
    provider text PRIMARY KEY,
    -- When the pace would be unused again if nobody took a turn, in microseconds since 1970 (GCRA's arrival time).
    idle_at_us bigint NOT NULL DEFAULT 0,
    -- What the last look gave, so that one statement can decide and answer.
    granted integer NOT NULL DEFAULT 0,
    wait_us bigint NOT NULL DEFAULT 0,
    CONSTRAINT paces_granted_not_negative CHECK (granted >= 0),
    CONSTRAINT paces_wait_not_negative CHECK (wait_us >= 0)
) WITH (fillfactor = 50);
