-- Named queries of the quota service. Times cross as Unix milliseconds (`_ms`) or microseconds (`_us`).

-- name: find_hold_accounts(hold_ids)
-- Which accounts open holds take from; these never change, so no lock is needed.
-- hold_ids: uuid[]
SELECT DISTINCT unnest(account_ids) AS account_id FROM quota.holds WHERE hold_id = ANY(:hold_ids::uuid[])
UNION
SELECT unnest(account_ids) FROM quota.resolutions
WHERE hold_id = ANY(:hold_ids::uuid[]) AND kind = 'expired' AND resolved_at > now() - interval '32 days';

-- name: lock_balances(account_ids)
-- The balances that a batch decides on, locked in the order of their ids so that two batches never wait for each other.
-- account_ids: text[]
SELECT account_id, suspended, "window", units_limit, requests_per_minute, requests_burst, in_flight_max,
    (extract(epoch FROM window_ends_at) * 1000)::bigint AS window_ends_at_ms, used, held, in_flight, requests_tat_us
FROM quota.balances
WHERE account_id = ANY(:account_ids::text[])
ORDER BY account_id
FOR UPDATE;

-- name: read_clock()$
-- The time of the decision, taken after the locks: within one account, later decisions have later times.
SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint;

-- name: find_holds(hold_ids)
-- The open holds that a batch names.
-- hold_ids: uuid[]
SELECT hold_id, account_ids, units, (extract(epoch FROM lease_ends_at) * 1000)::bigint AS lease_ends_at_ms,
    (extract(epoch FROM reserved_at) * 1000)::bigint AS reserved_at_ms, request_id, tenant_id, key_id
FROM quota.holds
WHERE hold_id = ANY(:hold_ids::uuid[]);

-- name: find_resolutions(hold_ids)
-- How holds ended, the newest end first for each. Remembered for 32 days; only those months' partitions are read.
-- hold_ids: uuid[]
SELECT DISTINCT ON (hold_id) hold_id, kind, late, account_ids, units_held, units_settled,
    (extract(epoch FROM reserved_at) * 1000)::bigint AS reserved_at_ms, request_id, tenant_id, key_id
FROM quota.resolutions
WHERE hold_id = ANY(:hold_ids::uuid[]) AND resolved_at > now() - interval '32 days'
ORDER BY hold_id, late DESC, resolved_at DESC;

-- name: write_balances(account_ids, used, held, in_flight, requests_tat_us, window_ends_at_ms)!
-- What a batch made of the balances.
UPDATE quota.balances AS b
SET used = n.used, held = n.held, in_flight = n.in_flight, requests_tat_us = n.requests_tat_us,
    window_ends_at = to_timestamp(n.window_ends_at_ms / 1000.0)
FROM unnest(:account_ids::text[], :used::bigint[], :held::bigint[], :in_flight::integer[], :requests_tat_us::bigint[],
    :window_ends_at_ms::bigint[]) AS n (account_id, used, held, in_flight, requests_tat_us, window_ends_at_ms)
WHERE b.account_id = n.account_id;

-- name: open_holds(hold_ids, accounts, units, lease_ends_at_ms, reserved_at_ms, request_ids, tenant_ids, key_ids)!
-- New holds. `accounts` holds each one's account ids, separated by commas (ids have none).
INSERT INTO quota.holds (hold_id, account_ids, units, lease_ends_at, reserved_at, request_id, tenant_id, key_id)
SELECT n.hold_id, string_to_array(n.accounts, ','), n.units, to_timestamp(n.lease_ends_at_ms / 1000.0),
    to_timestamp(n.reserved_at_ms / 1000.0), n.request_id, n.tenant_id, n.key_id
FROM unnest(:hold_ids::uuid[], :accounts::text[], :units::bigint[], :lease_ends_at_ms::bigint[],
    :reserved_at_ms::bigint[], :request_ids::text[], :tenant_ids::text[], :key_ids::text[])
    AS n (hold_id, accounts, units, lease_ends_at_ms, reserved_at_ms, request_id, tenant_id, key_id);

-- name: extend_holds(hold_ids, lease_ends_at_ms)!
-- Later ends of leases.
UPDATE quota.holds AS h
SET lease_ends_at = to_timestamp(n.lease_ends_at_ms / 1000.0)
FROM unnest(:hold_ids::uuid[], :lease_ends_at_ms::bigint[]) AS n (hold_id, lease_ends_at_ms)
WHERE h.hold_id = n.hold_id;

-- name: close_holds(hold_ids)!
-- Holds that ended leave the hot table.
-- hold_ids: uuid[]
DELETE FROM quota.holds WHERE hold_id = ANY(:hold_ids::uuid[]);

-- name: write_resolutions(hold_ids, kinds, late, accounts, units_held, units_settled, outcomes, providers, models, voices, provider_units, reserved_at_ms, request_ids, tenant_ids, key_ids, subjects, event_ids, bodies, now_us)!
-- The usage records of a batch, and an event for each in the same transaction.
WITH n AS (
    SELECT * FROM unnest(:hold_ids::uuid[], :kinds::text[], :late::boolean[], :accounts::text[], :units_held::bigint[],
        :units_settled::bigint[], :outcomes::text[], :providers::text[], :models::text[], :voices::text[],
        :provider_units::bigint[], :reserved_at_ms::bigint[], :request_ids::text[], :tenant_ids::text[], :key_ids::text[],
        :subjects::text[], :event_ids::uuid[], :bodies::bytea[])
        AS n (hold_id, kind, late, accounts, units_held, units_settled, outcome, provider, model, voice, provider_units,
            reserved_at_ms, request_id, tenant_id, key_id, subject, event_id, body)
), written AS (
    INSERT INTO quota.resolutions (resolved_at, hold_id, kind, late, account_ids, units_held, units_settled, outcome,
        provider, model, voice, provider_units, reserved_at, request_id, tenant_id, key_id)
    SELECT to_timestamp(:now_us / 1000000.0), hold_id, kind, late, string_to_array(accounts, ','), units_held,
        units_settled, outcome, provider, model, voice, provider_units, to_timestamp(reserved_at_ms / 1000.0), request_id,
        tenant_id, key_id
    FROM n
)
INSERT INTO quota.outbox (subject, event_id, source, body)
SELECT subject, event_id, 'odea/quota', body FROM n;

-- name: find_overdue(limit)
-- Open holds whose lease has ended, the oldest first.
-- limit: how many at most
SELECT hold_id::text FROM quota.holds WHERE lease_ends_at < clock_timestamp() ORDER BY lease_ends_at LIMIT :limit;

-- name: hold_gauges()^
-- How many holds are open, and how far the most overdue is past its lease.
SELECT (SELECT count(*) FROM quota.holds) AS open,
    coalesce(extract(epoch FROM clock_timestamp() - (SELECT min(reserved_at) FROM quota.holds)), 0)::float8 AS oldest_s;

-- name: ensure_partitions()!
-- The partitions of this month and the next.
SELECT quota.ensure_partition(clock_timestamp()), quota.ensure_partition(clock_timestamp() + interval '1 month');

-- name: read_accounts(account_ids)
-- Accounts with their plans and balances, for reading; no lock.
-- account_ids: text[]
SELECT b.account_id, a.tenant_id, a.plan, b.suspended, b."window", b.units_limit, b.requests_per_minute,
    b.requests_burst, b.in_flight_max, (extract(epoch FROM b.window_ends_at) * 1000)::bigint AS window_ends_at_ms,
    b.used, b.held, b.in_flight, b.requests_tat_us, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS now_us
FROM quota.balances AS b JOIN quota.accounts AS a USING (account_id)
WHERE b.account_id = ANY(:account_ids::text[])
ORDER BY b.account_id;

-- name: set_plan(name, units, window, requests_per_minute, requests_burst, in_flight_max)!
-- Create a plan or change its limits.
INSERT INTO quota.plans (name, units, "window", requests_per_minute, requests_burst, in_flight_max)
VALUES (:name, :units, :window, :requests_per_minute, :requests_burst, :in_flight_max)
ON CONFLICT (name) DO UPDATE SET units = excluded.units, "window" = excluded."window",
    requests_per_minute = excluded.requests_per_minute, requests_burst = excluded.requests_burst,
    in_flight_max = excluded.in_flight_max, updated_at = clock_timestamp();

-- name: get_plan(name)^
-- One plan.
SELECT name, units, "window", requests_per_minute, requests_burst, in_flight_max FROM quota.plans WHERE name = :name;

-- name: list_plans()
-- All plans.
SELECT name, units, "window", requests_per_minute, requests_burst, in_flight_max FROM quota.plans ORDER BY name;

-- name: add_plan(name, units, window, requests_per_minute, requests_burst, in_flight_max)!
-- A plan, unless there is one with this name.
INSERT INTO quota.plans (name, units, "window", requests_per_minute, requests_burst, in_flight_max)
VALUES (:name, :units, :window, :requests_per_minute, :requests_burst, :in_flight_max)
ON CONFLICT (name) DO NOTHING;

-- name: lock_plan_balances(plan, account_id)
-- The balances of a plan's accounts, or of one account, locked in the order of their ids.
-- plan: text or null; account_id: text or null
SELECT b.account_id, b."window", (extract(epoch FROM b.window_ends_at) * 1000)::bigint AS window_ends_at_ms
FROM quota.balances AS b JOIN quota.accounts AS a USING (account_id)
WHERE a.plan = :plan::text OR b.account_id = :account_id::text
ORDER BY b.account_id
FOR UPDATE OF b;

-- name: apply_plan(window_ends_at_ms, plan, account_ids)!
-- Copy a plan's limits into balances. What is used or held stays so, even above a lowered limit. A window of another kind
-- begins anew at `window_ends_at_ms`; used units count on in it.
UPDATE quota.balances AS b
SET units_limit = p.units,
    units_ceiling = CASE WHEN p.units IS NULL THEN NULL ELSE greatest(p.units, b.used + b.held) END,
    requests_per_minute = p.requests_per_minute, requests_burst = p.requests_burst, in_flight_max = p.in_flight_max,
    window_ends_at = CASE WHEN b."window" = p."window" THEN b.window_ends_at
        ELSE to_timestamp(:window_ends_at_ms / 1000.0) END,
    "window" = p."window"
FROM quota.plans AS p
WHERE p.name = :plan AND b.account_id = ANY(:account_ids::text[]);

-- name: open_account(account_id, tenant_id, plan, window_ends_at_ms)!
-- A new account under a plan. The outcome of a second attempt is decided by the key.
WITH opened AS (
    INSERT INTO quota.accounts (account_id, tenant_id, plan) VALUES (:account_id, :tenant_id, :plan)
    ON CONFLICT (account_id) DO NOTHING
    RETURNING account_id, plan
)
INSERT INTO quota.balances (account_id, "window", units_limit, units_ceiling, requests_per_minute, requests_burst,
    in_flight_max, window_ends_at)
SELECT opened.account_id, p."window", p.units, p.units, p.requests_per_minute, p.requests_burst, p.in_flight_max,
    to_timestamp(:window_ends_at_ms / 1000.0)
FROM opened JOIN quota.plans AS p ON p.name = opened.plan;

-- name: move_account(plan, account_id, tenant_id)!
-- Put an account under another plan.
UPDATE quota.accounts SET plan = :plan WHERE account_id = :account_id AND tenant_id = :tenant_id;
