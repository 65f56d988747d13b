-- What accounts used before they were here. Each is a charge without a hold: an entry from the account to `predecessor`, in the
-- window of its time. Rows are added and never changed.
CREATE TABLE quota.carryovers (
    carryover_id uuid PRIMARY KEY,
    account_id text NOT NULL CONSTRAINT carryovers_account_exists REFERENCES quota.accounts (account_id),
    tenant_id text NOT NULL,
    units bigint NOT NULL,
    carried_at timestamptz NOT NULL,
    CONSTRAINT carryovers_units_positive CHECK (units > 0)
);
CREATE TRIGGER carryovers_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON quota.carryovers
    FOR EACH STATEMENT EXECUTE FUNCTION quota.refuse_change();
