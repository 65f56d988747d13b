-- squawk-ignore-file constraint-missing-not-valid, require-concurrent-index-creation
-- Before the first release there are no rows that this could make anybody wait for.
ALTER TABLE keys.keys
    ADD COLUMN allowed_cidrs text[] NOT NULL DEFAULT '{}',
    ADD CONSTRAINT keys_networks_bounded CHECK (cardinality(allowed_cidrs) <= 32);

ALTER TABLE keys.audit ADD COLUMN origin text NOT NULL DEFAULT 'unknown';
CREATE INDEX audit_by_key ON keys.audit (key_id, audit_id) WHERE key_id IS NOT NULL;

-- Changes that may be asked for again, each under the name that its caller gave it. The names are not stored, and nor is
-- a secret: it is derived from the salt, the name and a pepper, so it is out of reach once its row is forgotten.
CREATE TABLE keys.repeats (
    actor text NOT NULL,
    operation text NOT NULL,
    name_hash bytea NOT NULL,
    content_hash bytea NOT NULL,
    salt bytea NOT NULL,
    made_id text NOT NULL DEFAULT '',
    public_id text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT repeats_named_once PRIMARY KEY (actor, operation, name_hash),
    CONSTRAINT repeats_salt_whole CHECK (octet_length(salt) = 64)
);
CREATE INDEX repeats_by_age ON keys.repeats (created_at);
