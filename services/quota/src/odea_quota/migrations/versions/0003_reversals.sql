-- Charges that were taken back, since what was made did not arrive: at most one for each settled hold. Rows are added and
-- never changed.
CREATE TABLE quota.reversals (
    hold_id uuid PRIMARY KEY,
    reversed_at timestamptz NOT NULL,
    -- When the hold was settled: the moment that its charge counted from.
    charged_at timestamptz NOT NULL,
    account_ids text[] NOT NULL,
    units bigint NOT NULL,
    request_id text NOT NULL,
    tenant_id text NOT NULL,
    key_id text NOT NULL,
    CONSTRAINT reversals_units_positive CHECK (units > 0),
    CONSTRAINT reversals_after_charge CHECK (reversed_at >= charged_at)
);
CREATE TRIGGER reversals_append_only BEFORE UPDATE OR DELETE ON quota.reversals
    FOR EACH ROW EXECUTE FUNCTION quota.refuse_change();
CREATE TRIGGER reversals_no_truncate BEFORE TRUNCATE ON quota.reversals
    FOR EACH STATEMENT EXECUTE FUNCTION quota.refuse_change();

-- A reversal of a charge to several sources has several entries with the same debit, the provider's. The wider key takes
-- all that the older one took, so no running version misses it; it is built in seconds, since no month is old yet.
-- squawk-ignore ban-drop-constraint, constraint-missing-not-valid, adding-serial-primary-key-field
ALTER TABLE quota.entries DROP CONSTRAINT entries_pkey, ADD PRIMARY KEY (cause_id, debit, credit, at);
