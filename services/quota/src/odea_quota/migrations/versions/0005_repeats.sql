-- Changes that may be asked for again, each under the name that its caller gave it, with the answer that it got. The names are
-- not stored.
CREATE TABLE quota.repeats (
    actor text NOT NULL,
    operation text NOT NULL,
    name_hash bytea NOT NULL,
    content_hash bytea NOT NULL,
    answer text,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT repeats_named_once PRIMARY KEY (actor, operation, name_hash)
);
CREATE INDEX repeats_by_age ON quota.repeats (created_at);
