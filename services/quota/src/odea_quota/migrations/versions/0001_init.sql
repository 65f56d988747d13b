CREATE TABLE quota.plans (
    name text PRIMARY KEY,
    units bigint,
    "window" text NOT NULL,
    requests_per_minute integer,
    requests_burst integer NOT NULL,
    in_flight_max integer,
    text_characters_max integer,
    models text[],
    voices text[],
    soft_limits_percent smallint[] NOT NULL DEFAULT '{}',
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT plans_window_known CHECK ("window" IN ('month', 'day', 'none')),
    CONSTRAINT plans_units_not_negative CHECK (units >= 0),
    CONSTRAINT plans_rates_positive CHECK (requests_per_minute > 0 AND requests_burst > 0 AND in_flight_max > 0)
);

-- What a tenant gets for whom no other plan is named.
INSERT INTO quota.plans (name, units, "window", requests_per_minute, requests_burst, in_flight_max)
VALUES ('default', 10000, 'month', 60, 10, 5);

CREATE TABLE quota.accounts (
    account_id text PRIMARY KEY,
    tenant_id text NOT NULL,
    plan text NOT NULL CONSTRAINT accounts_plan_exists REFERENCES quota.plans (name),
    -- Limits that differ from the plan's; a key that is absent follows the plan, null is no limit.
    overrides jsonb NOT NULL DEFAULT '{}',
    opened_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX accounts_by_plan ON quota.accounts (plan);

-- The hot half of an account: one narrow row that every decision locks. The plan's limits are copied here, so that a
-- decision reads this row and nothing else. No index but the key and a low fill factor keep its updates in place (HOT).
CREATE TABLE quota.balances (
    account_id text PRIMARY KEY CONSTRAINT balances_account_exists REFERENCES quota.accounts (account_id),
    suspended boolean NOT NULL DEFAULT false,
    "window" text NOT NULL,
    units_limit bigint,
    -- What P1 is checked against. It equals units_limit except after a limit was lowered below what was in use already.
    units_ceiling bigint,
    requests_per_minute integer,
    requests_burst integer NOT NULL,
    in_flight_max integer,
    text_characters_max integer,
    models text[],
    voices text[],
    soft_limits_percent smallint[] NOT NULL DEFAULT '{}',
    -- The highest soft limit that was reached in this window.
    crossed_percent smallint NOT NULL DEFAULT 0,
    window_started_at timestamptz NOT NULL,
    window_ends_at timestamptz,
    used bigint NOT NULL DEFAULT 0,
    held bigint NOT NULL DEFAULT 0,
    in_flight integer NOT NULL DEFAULT 0,
    -- Theoretical arrival time of GCRA, in microseconds since 1970.
    requests_tat_us bigint NOT NULL DEFAULT 0,
    CONSTRAINT balances_no_overspend CHECK (used + held <= units_ceiling),
    CONSTRAINT balances_not_negative CHECK (used >= 0 AND held >= 0 AND in_flight >= 0),
    CONSTRAINT balances_held_needs_holds CHECK (held = 0 OR in_flight > 0)
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);

-- Extra units of an account until they lapse. What is neither left nor held is used.
CREATE TABLE quota.topups (
    topup_id uuid PRIMARY KEY,
    account_id text NOT NULL CONSTRAINT topups_account_exists REFERENCES quota.accounts (account_id),
    units bigint NOT NULL,
    units_left bigint NOT NULL,
    units_held bigint NOT NULL DEFAULT 0,
    expires_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT topups_no_overspend CHECK (units_left + units_held <= units),
    CONSTRAINT topups_not_negative CHECK (units > 0 AND units_left >= 0 AND units_held >= 0)
) WITH (fillfactor = 50);
CREATE INDEX topups_by_account ON quota.topups (account_id, expires_at);

-- Open holds only; a hold leaves when it ends.
CREATE TABLE quota.holds (
    hold_id uuid PRIMARY KEY,
    account_ids text[] NOT NULL,
    units bigint NOT NULL,
    -- Which of the units come from which top-up; null if none do.
    topups jsonb,
    lease_ends_at timestamptz NOT NULL,
    reserved_at timestamptz NOT NULL,
    request_id text NOT NULL,
    tenant_id text NOT NULL,
    key_id text NOT NULL,
    CONSTRAINT holds_units_positive CHECK (units > 0),
    CONSTRAINT holds_accounts_named CHECK (cardinality(account_ids) BETWEEN 1 AND 2)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX holds_by_lease ON quota.holds (lease_ends_at);

-- How each hold ended: the usage record. Rows are added and never changed. A hold that expired and was settled late has
-- two rows.
CREATE TABLE quota.resolutions (
    resolved_at timestamptz NOT NULL,
    hold_id uuid NOT NULL,
    kind text NOT NULL,
    late boolean NOT NULL DEFAULT false,
    account_ids text[] NOT NULL,
    units_held bigint NOT NULL,
    units_settled bigint NOT NULL,
    outcome text,
    provider text NOT NULL DEFAULT '',
    model text NOT NULL DEFAULT '',
    voice text NOT NULL DEFAULT '',
    provider_units bigint,
    reserved_at timestamptz NOT NULL,
    request_id text NOT NULL,
    tenant_id text NOT NULL,
    key_id text NOT NULL,
    CONSTRAINT resolutions_kind_known CHECK (kind IN ('settled', 'released', 'expired')),
    CONSTRAINT resolutions_outcome_iff_settled CHECK ((kind = 'settled') = (outcome IS NOT NULL)),
    CONSTRAINT resolutions_late_is_settled CHECK (NOT late OR kind = 'settled'),
    CONSTRAINT resolutions_within_hold CHECK (units_settled BETWEEN 0 AND units_held),
    CONSTRAINT resolutions_charge_is_settled CHECK (units_settled = 0 OR kind = 'settled'),
    CONSTRAINT resolutions_written_off_is_free CHECK (outcome <> 'written_off' OR units_settled = 0),
    PRIMARY KEY (hold_id, kind, resolved_at)
) PARTITION BY RANGE (resolved_at);

-- The ledger: every charge and every top-up as a double entry. Rows are added and never changed; balances follow from them.
CREATE TABLE quota.entries (
    at timestamptz NOT NULL,
    -- The hold that was settled, or the top-up that was given.
    cause_id uuid NOT NULL,
    debit text NOT NULL,
    credit text NOT NULL,
    units bigint NOT NULL,
    CONSTRAINT entries_units_positive CHECK (units > 0),
    CONSTRAINT entries_two_accounts CHECK (debit <> credit),
    PRIMARY KEY (cause_id, debit, at)
) PARTITION BY RANGE (at);
CREATE INDEX entries_by_debit ON quota.entries (debit, at);

-- What each key used on each day in UTC, for charts.
CREATE TABLE quota.usage_days (
    tenant_id text NOT NULL,
    day date NOT NULL,
    key_id text NOT NULL,
    units bigint NOT NULL,
    requests bigint NOT NULL,
    PRIMARY KEY (tenant_id, day, key_id)
) WITH (fillfactor = 50);

CREATE FUNCTION quota.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'rows of % are never changed', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER resolutions_append_only BEFORE UPDATE OR DELETE ON quota.resolutions
    FOR EACH ROW EXECUTE FUNCTION quota.refuse_change();
CREATE TRIGGER entries_append_only BEFORE UPDATE OR DELETE ON quota.entries
    FOR EACH ROW EXECUTE FUNCTION quota.refuse_change();

-- Makes the partitions of the month that `day` lies in. Called for this month and the next, again and again.
CREATE FUNCTION quota.ensure_partition(day timestamptz) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    first timestamptz := date_trunc('month', day, 'UTC');
    parent text;
    name text;
BEGIN
    FOREACH parent IN ARRAY ARRAY['resolutions', 'entries'] LOOP
        name := parent || '_' || to_char(first AT TIME ZONE 'UTC', 'YYYY_MM');
        IF to_regclass('quota.' || name) IS NULL THEN
            -- IF NOT EXISTS alone fails when two replicas get here at once.
            PERFORM pg_advisory_xact_lock(hashtextextended('odea partitions of quota', 0));
            EXECUTE format('CREATE TABLE IF NOT EXISTS quota.%I PARTITION OF quota.%I FOR VALUES FROM (%L) TO (%L)',
                           name, parent, first, first + interval '1 month');
        END IF;
    END LOOP;
END $$;
SELECT quota.ensure_partition(clock_timestamp());
SELECT quota.ensure_partition(clock_timestamp() + interval '1 month');

CREATE TABLE quota.outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    subject text NOT NULL,
    event_id uuid NOT NULL,
    source text NOT NULL,
    body bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
