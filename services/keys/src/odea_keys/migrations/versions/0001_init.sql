-- Ids hold the time of their making, and pages are read in their order: bytewise, whatever the database's language is.
CREATE TABLE keys.tenants (
    tenant_id text COLLATE "C" PRIMARY KEY,
    name text NOT NULL CONSTRAINT tenants_name_unique UNIQUE,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    suspended_at timestamptz
);

CREATE TABLE keys.keys (
    key_id text COLLATE "C" PRIMARY KEY,
    tenant_id text COLLATE "C" NOT NULL CONSTRAINT keys_tenant_exists REFERENCES keys.tenants (tenant_id),
    name text NOT NULL,
    scopes text[] NOT NULL,
    own_account boolean NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz,
    revoked_at timestamptz,
    CONSTRAINT keys_scopes_given CHECK (cardinality(scopes) > 0),
    CONSTRAINT keys_expire_later CHECK (expires_at > created_at)
);
CREATE INDEX keys_by_tenant ON keys.keys (tenant_id, key_id);

-- One row for each secret that a key has had. The newest has no end of its own; rotation gives it one and adds a row.
CREATE TABLE keys.secrets (
    public_id text COLLATE "C" PRIMARY KEY,
    key_id text COLLATE "C" NOT NULL CONSTRAINT secrets_key_exists REFERENCES keys.keys (key_id),
    pepper_id text NOT NULL,
    hash bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz,
    CONSTRAINT secrets_public_id_form CHECK (public_id ~ '^[0-9A-Za-z]{12}$'),
    CONSTRAINT secrets_hash_whole CHECK (octet_length(hash) = 64)
);
CREATE INDEX secrets_by_key ON keys.secrets (key_id);
CREATE UNIQUE INDEX secrets_one_newest ON keys.secrets (key_id) WHERE expires_at IS NULL;

-- Who changed what, and when. Rows are added and never changed.
CREATE TABLE keys.audit (
    audit_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor text NOT NULL,
    action text NOT NULL,
    tenant_id text NOT NULL,
    key_id text,
    request_id text,
    detail jsonb NOT NULL
);
CREATE INDEX audit_by_tenant ON keys.audit (tenant_id, audit_id);

CREATE FUNCTION keys.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'rows of % are never changed', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END $$;
-- For each statement, so that TRUNCATE and a statement that would find no row are refused too.
CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON keys.audit
    FOR EACH STATEMENT EXECUTE FUNCTION keys.refuse_change();

CREATE TABLE keys.outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    subject text NOT NULL,
    event_id uuid NOT NULL,
    source text NOT NULL,
    body bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- The wire counts in Unix milliseconds, cut off below; these two are each other's inverse on whole milliseconds.
CREATE FUNCTION keys.to_ms(at timestamptz) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN floor(extract(epoch FROM at) * 1000)::bigint;
CREATE FUNCTION keys.from_ms(ms bigint) RETURNS timestamptz LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN timestamptz '1970-01-01 00:00:00+00' + ms * interval '1 millisecond';
