-- Who changed what about plans and accounts, and when. Rows are added and never changed. What quota does by itself has none:
-- an account that opens with a tenant or a key is told of in the audit of keys.
CREATE TABLE quota.audit (
    audit_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor text NOT NULL,
    origin text NOT NULL,
    action text NOT NULL,
    -- Null where a plan is meant, which is nobody's own.
    tenant_id text,
    -- The key whose own account is meant.
    key_id text,
    request_id text,
    detail jsonb NOT NULL
);
CREATE INDEX audit_by_tenant ON quota.audit (tenant_id, audit_id) WHERE tenant_id IS NOT NULL;
CREATE INDEX audit_by_key ON quota.audit (key_id, audit_id) WHERE key_id IS NOT NULL;
-- For each statement, so that TRUNCATE and a statement that would find no row are refused too.
CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON quota.audit
    FOR EACH STATEMENT EXECUTE FUNCTION quota.refuse_change();
