-- Named queries of the quota service. Times cross as Unix milliseconds (`_ms`) or microseconds (`_us`).

-- name: lock_balances(account_ids)
-- Balances, locked in the order of their ids so that two who decide never wait for each other.
-- account_ids: text[]
SELECT b.account_id, b.xmin::text AS version, b.suspended, b."window", b.units_limit, b.requests_per_minute, b.requests_burst, b.in_flight_max,
    b.text_characters_max, b.models, b.voices, b.soft_limits_percent, b.crossed_percent,
    (extract(epoch FROM b.window_started_at) * 1000)::bigint AS window_started_at_ms,
    (extract(epoch FROM b.window_ends_at) * 1000)::bigint AS window_ends_at_ms, b.used, b.held, b.in_flight,
    b.requests_tat_us
FROM quota.balances AS b
WHERE b.account_id = ANY(:account_ids::text[])
ORDER BY b.account_id
FOR UPDATE;

-- name: lock_batch(hold_ids, account_ids)
-- Locks the balances that a batch names and those that its open holds take from, likewise in order. What they say is read
-- after it: a lock may have been waited for.
-- hold_ids: uuid[]; account_ids: text[]
SELECT b.account_id
FROM quota.balances AS b
WHERE b.account_id = ANY(:account_ids::text[] || ARRAY(
    SELECT unnest(account_ids) FROM quota.holds WHERE hold_id = ANY(:hold_ids::uuid[])))
ORDER BY b.account_id
FOR UPDATE;

-- name: read_clock()$
-- The time of the decision, taken after the locks: within one account, later decisions have later times.
SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint;

-- name: look_batch(hold_ids, account_ids)^
-- All that a batch decides on, as it is at one moment: the open holds that it names, and how the others ended; the balances
-- that it names, or that those open holds take from; and their top-ups that may still matter. Ends are remembered for 32
-- days; only those months' partitions are read.
-- Nothing is locked. The version of a balance tells `write_batch` whether somebody has decided on that account since, for
-- whoever opens, extends or ends a hold writes the balances that it takes from, also where their figures stay. A new top-up
-- writes none, and counts from the next batch on. The time is taken after the look has begun: within one account, later
-- decisions have later times.
-- hold_ids: uuid[]; account_ids: text[]. All but the time are JSON arrays or null.
WITH open AS (
    SELECT hold_id, account_ids, units, coalesce(topups, '{}') AS topups,
        (extract(epoch FROM lease_ends_at) * 1000)::bigint AS lease_ends_at_ms,
        (extract(epoch FROM reserved_at) * 1000)::bigint AS reserved_at_ms, request_id, tenant_id, key_id
    FROM quota.holds
    WHERE hold_id = ANY(:hold_ids::uuid[])
), found AS (
    SELECT b.account_id, b.xmin AS version, b.suspended, b."window", b.units_limit AS "limit", b.requests_per_minute,
        b.requests_burst, b.in_flight_max, b.text_characters_max, b.models, b.voices, b.soft_limits_percent, b.crossed_percent,
        (extract(epoch FROM b.window_started_at) * 1000)::bigint AS window_started_at_ms,
        (extract(epoch FROM b.window_ends_at) * 1000)::bigint AS window_ends_at_ms, b.used, b.held, b.in_flight,
        b.requests_tat_us
    FROM quota.balances AS b
    WHERE b.account_id = ANY(:account_ids::text[] || ARRAY(SELECT unnest(account_ids) FROM open))
)
SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS now_us, (
    SELECT json_agg(found) FROM found
)::text AS balances, (
    SELECT json_agg(t) FROM (
        SELECT topup_id, account_id, units_left, units_held, (extract(epoch FROM expires_at) * 1000)::bigint AS expires_at_ms
        FROM quota.topups
        WHERE account_id = ANY(ARRAY(SELECT account_id FROM found))
            AND (units_held > 0 OR units_left > 0 AND expires_at > clock_timestamp())
    ) AS t
)::text AS topups, (
    SELECT json_agg(open) FROM open
)::text AS holds, (
    SELECT json_agg(r ORDER BY r.late, r.resolved_at_us) FROM (
        SELECT hold_id, kind, late, account_ids, units_held, units_settled,
            (extract(epoch FROM resolved_at) * 1000000)::bigint AS resolved_at_us,
            (extract(epoch FROM reserved_at) * 1000)::bigint AS reserved_at_ms, request_id, tenant_id, key_id
        FROM quota.resolutions
        WHERE hold_id = ANY(:hold_ids::uuid[]) AND resolved_at > now() - interval '32 days'
    ) AS r
)::text AS resolutions;

-- name: write_batch(balances, topups, opened, extended, closed, ended, entries, events, now_us)!
-- All that a batch decided, or nothing and a serialization failure if a balance is not of the version any more that it was
-- decided on. Balances are locked in the order of their ids so that two batches never wait for each other.
-- balances, topups: what became of them; opened, extended: holds; closed: uuid[], holds that leave the hot table;
-- ended: usage records, which the days' usage counts as well; entries: double entries; events: for the outbox. All but
-- `closed` are JSON arrays. How many elements these have is not known when a plan is made, and those that are to be found by
-- their ids are named in an array too: otherwise it would read all of a table.
WITH n AS (
    SELECT * FROM json_to_recordset(:balances::json) AS n (account_id text, version xid, used bigint, held bigint,
        in_flight integer, requests_tat_us bigint, crossed_percent smallint, window_started_at_ms bigint,
        window_ends_at_ms bigint)
), locked AS (
    SELECT n.* FROM n JOIN quota.balances AS b ON b.account_id = n.account_id AND b.xmin = n.version
    WHERE b.account_id = ANY(ARRAY(SELECT account_id FROM n))
    ORDER BY b.account_id
    FOR UPDATE OF b
), balanced AS (
    UPDATE quota.balances AS b
    SET used = n.used, held = n.held, in_flight = n.in_flight, requests_tat_us = n.requests_tat_us,
        -- Where a limit was lowered below what was in use, the ceiling comes down with the use and never goes up.
        units_ceiling = CASE WHEN b.units_limit IS NULL THEN NULL
            ELSE greatest(b.units_limit, least(b.units_ceiling, n.used + n.held)) END,
        crossed_percent = n.crossed_percent, window_started_at = to_timestamp(n.window_started_at_ms / 1000.0),
        window_ends_at = to_timestamp(n.window_ends_at_ms / 1000.0)
    FROM locked AS n
    WHERE b.account_id = n.account_id
    RETURNING b.account_id
), topups AS (
    SELECT * FROM json_to_recordset(:topups::json) AS n (topup_id uuid, units_left bigint, units_held bigint)
), topped AS (
    UPDATE quota.topups AS t SET units_left = n.units_left, units_held = n.units_held
    FROM topups AS n
    WHERE t.topup_id = n.topup_id AND t.topup_id = ANY(ARRAY(SELECT topup_id FROM topups))
), extended AS (
    SELECT * FROM json_to_recordset(:extended::json) AS n (hold_id uuid, lease_ends_at_ms bigint, units bigint, topups jsonb)
), prolonged AS (
    UPDATE quota.holds AS h
    SET lease_ends_at = to_timestamp(n.lease_ends_at_ms / 1000.0), units = n.units, topups = nullif(n.topups, '{}')
    FROM extended AS n
    WHERE h.hold_id = n.hold_id AND h.hold_id = ANY(ARRAY(SELECT hold_id FROM extended))
), closed AS (
    DELETE FROM quota.holds WHERE hold_id = ANY(:closed::uuid[])
), held AS (
    INSERT INTO quota.holds (hold_id, account_ids, units, topups, lease_ends_at, reserved_at, request_id, tenant_id, key_id)
    SELECT hold_id, account_ids, units, nullif(topups, '{}'), to_timestamp(lease_ends_at_ms / 1000.0),
        to_timestamp(reserved_at_ms / 1000.0), request_id, tenant_id, key_id
    FROM json_to_recordset(:opened::json) AS n (hold_id uuid, account_ids text[], units bigint, topups jsonb,
        lease_ends_at_ms bigint, reserved_at_ms bigint, request_id text, tenant_id text, key_id text)
), ended AS (
    SELECT * FROM json_to_recordset(:ended::json) AS n (hold_id uuid, kind text, late boolean, account_ids text[],
        units_held bigint, units_settled bigint, outcome text, provider text, model text, voice text, provider_units bigint,
        reserved_at_ms bigint, request_id text, tenant_id text, key_id text)
), recorded AS (
    INSERT INTO quota.resolutions (resolved_at, hold_id, kind, late, account_ids, units_held, units_settled, outcome,
        provider, model, voice, provider_units, reserved_at, request_id, tenant_id, key_id)
    SELECT to_timestamp(:now_us / 1000000.0), hold_id, kind, late, account_ids, units_held, units_settled, outcome, provider,
        model, voice, provider_units, to_timestamp(reserved_at_ms / 1000.0), request_id, tenant_id, key_id
    FROM ended
), counted AS (
    INSERT INTO quota.usage_days AS u (tenant_id, day, key_id, units, requests)
    SELECT tenant_id, (to_timestamp(:now_us / 1000000.0) AT TIME ZONE 'UTC')::date, key_id, sum(units_settled), count(*)
    FROM ended
    WHERE kind = 'settled'
    GROUP BY tenant_id, key_id
    ORDER BY tenant_id, key_id
    ON CONFLICT (tenant_id, day, key_id)
    DO UPDATE SET units = u.units + excluded.units, requests = u.requests + excluded.requests
), entered AS (
    INSERT INTO quota.entries (at, cause_id, debit, credit, units)
    SELECT to_timestamp(:now_us / 1000000.0), n.*
    FROM json_to_recordset(:entries::json) AS n (cause_id uuid, debit text, credit text, units bigint)
), told AS (
    INSERT INTO quota.outbox (subject, event_id, source, body)
    SELECT subject, event_id, 'odea/quota', convert_to(body::text, 'UTF8')
    FROM json_to_recordset(:events::json) AS n (subject text, event_id uuid, body json)
)
SELECT quota.require((SELECT count(*) FROM balanced) = json_array_length(:balances::json));

-- name: find_reversals(hold_ids)
-- What was taken back of holds that had been settled.
-- hold_ids: uuid[]
SELECT hold_id::text, units FROM quota.reversals WHERE hold_id = ANY(:hold_ids::uuid[]);

-- name: find_charges(hold_ids)
-- What settled holds were charged to, as entries of the ledger; none of these was taken back.
-- hold_ids: uuid[]
SELECT cause_id::text, debit, credit, units FROM quota.entries
WHERE cause_id = ANY(:hold_ids::uuid[]) AND at > now() - interval '32 days';

-- name: find_spent_topups(hold_ids)
-- The top-ups that settled holds were charged to, with or without units left. Locked by the lock on their account.
-- hold_ids: uuid[]
SELECT t.topup_id::text, t.account_id, t.units_left, t.units_held,
    (extract(epoch FROM t.expires_at) * 1000)::bigint AS expires_at_ms
FROM quota.topups AS t
WHERE t.topup_id IN (SELECT substr(e.debit, 7)::uuid FROM quota.entries AS e
    WHERE e.cause_id = ANY(:hold_ids::uuid[]) AND e.at > now() - interval '32 days' AND e.debit LIKE 'topup:%');

-- name: write_reversals(reversals, now_us)!
-- Charges that were taken back; the days on which they were used know them no more.
-- reversals: JSON array, of which each has a hold
WITH n AS (
    SELECT hold_id, charged_at_us, account_ids, r.units, request_id, tenant_id, key_id
    FROM json_to_recordset(:reversals::json) AS r (hold json, units bigint, charged_at_us bigint),
        json_to_record(r.hold) AS h (hold_id uuid, account_ids text[], request_id text, tenant_id text, key_id text)
), written AS (
    INSERT INTO quota.reversals (hold_id, reversed_at, charged_at, account_ids, units, request_id, tenant_id, key_id)
    -- The clock may have been set back since, by another server that has taken over.
    SELECT hold_id, greatest(to_timestamp(:now_us / 1000000.0), to_timestamp(charged_at_us / 1000000.0)),
        to_timestamp(charged_at_us / 1000000.0), account_ids, units, request_id, tenant_id, key_id
    FROM n
)
UPDATE quota.usage_days AS u SET units = u.units - d.units
FROM (
    SELECT tenant_id, (to_timestamp(charged_at_us / 1000000.0) AT TIME ZONE 'UTC')::date AS day, key_id,
        sum(units) AS units
    FROM n GROUP BY 1, 2, 3
) AS d
WHERE (u.tenant_id, u.day, u.key_id) = (d.tenant_id, d.day, d.key_id);

-- name: find_overdue(limit)
-- Open holds whose lease has ended, the oldest first.
-- limit: how many at most
-- `now()` and not the clock, which changes from row to row, so that the index ends the search at the first live lease.
SELECT hold_id::text, account_ids[1] AS account_id FROM quota.holds WHERE lease_ends_at < now() ORDER BY lease_ends_at LIMIT :limit;

-- name: hold_gauges()^
-- How many holds are open, and how old the oldest is.
SELECT (SELECT count(*) FROM quota.holds) AS open,
    coalesce(extract(epoch FROM clock_timestamp() - (SELECT min(reserved_at) FROM quota.holds)), 0)::float8 AS oldest_s;

-- name: units_lapsing(within_s)$
-- What is left of all top-ups that lapse soon.
-- within_s: double precision
SELECT coalesce(sum(units_left), 0)::bigint FROM quota.topups
WHERE expires_at > clock_timestamp() AND expires_at <= clock_timestamp() + :within_s::double precision * interval '1 second';

-- name: ensure_partitions()!
-- The partitions of this month and the next three: early, so that it does not matter when one can't be made at once.
SELECT quota.ensure_partition(clock_timestamp() + n * interval '1 month') FROM generate_series(0, 3) AS n;

-- name: read_accounts(account_ids)
-- Accounts with their plans and balances, for reading; no lock.
-- account_ids: text[]
SELECT b.account_id, b.suspended, b."window", b.units_limit, b.requests_per_minute, b.requests_burst, b.in_flight_max,
    b.text_characters_max, b.models, b.voices, b.soft_limits_percent, b.crossed_percent,
    (extract(epoch FROM b.window_started_at) * 1000)::bigint AS window_started_at_ms,
    (extract(epoch FROM b.window_ends_at) * 1000)::bigint AS window_ends_at_ms, b.used, b.held, b.in_flight,
    b.requests_tat_us,
    a.tenant_id, a.plan, a.overrides::text, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS now_us
FROM quota.balances AS b JOIN quota.accounts AS a USING (account_id)
WHERE b.account_id = ANY(:account_ids::text[])
ORDER BY b.account_id;

-- name: set_plan(name, units, window, requests_per_minute, requests_burst, in_flight_max, text_characters_max, models, voices, soft_limits_percent)!
-- Create a plan or change its limits; no row if it is the same already.
INSERT INTO quota.plans AS p (name, units, "window", requests_per_minute, requests_burst, in_flight_max, text_characters_max, models, voices,
    soft_limits_percent)
VALUES (:name, :units, :window, :requests_per_minute, :requests_burst, :in_flight_max, :text_characters_max, :models,
    :voices, :soft_limits_percent)
ON CONFLICT (name) DO UPDATE SET units = excluded.units, "window" = excluded."window",
    requests_per_minute = excluded.requests_per_minute, requests_burst = excluded.requests_burst,
    in_flight_max = excluded.in_flight_max, text_characters_max = excluded.text_characters_max,
    models = excluded.models, voices = excluded.voices, soft_limits_percent = excluded.soft_limits_percent,
    updated_at = clock_timestamp()
WHERE (p.units, p."window", p.requests_per_minute, p.requests_burst, p.in_flight_max, p.text_characters_max, p.models,
        p.voices, p.soft_limits_percent)
    IS DISTINCT FROM (excluded.units, excluded."window", excluded.requests_per_minute, excluded.requests_burst,
        excluded.in_flight_max, excluded.text_characters_max, excluded.models, excluded.voices,
        excluded.soft_limits_percent);

-- name: get_plan(name)^
-- One plan.
SELECT name, units, "window", requests_per_minute, requests_burst, in_flight_max, text_characters_max, models, voices,
    soft_limits_percent
FROM quota.plans WHERE name = :name;

-- name: share_plan(name)$
-- The kind of window of a plan that is about to be applied to an account: nobody changes the plan until that is done.
SELECT "window" FROM quota.plans WHERE name = :name FOR SHARE;

-- name: list_plans()
-- All plans.
SELECT name, units, "window", requests_per_minute, requests_burst, in_flight_max, text_characters_max, models, voices,
    soft_limits_percent
FROM quota.plans ORDER BY name;

-- name: lock_plan_balances(plan, account_id)
-- The balances of a plan's accounts, or of one account, locked in the order of their ids.
-- plan: text or null; account_id: text or null
SELECT b.account_id
FROM quota.balances AS b
WHERE b.account_id = ANY(ARRAY(
    SELECT account_id FROM quota.accounts WHERE plan = :plan::text UNION ALL SELECT :account_id::text))
ORDER BY b.account_id
FOR UPDATE;

-- name: apply_plan(account_ids, now_us, window_ends_at_ms)!
-- Copy a plan's limits and each account's overrides into balances. What is used or held stays so, even above a lowered
-- limit. Where the kind of window changes, it ends at `window_ends_at_ms`; what was used counts on, so the start stays
-- where it was. A window that has ended without anybody calling counts no more, whatever the next one is. Requests that
-- were let through ahead of a slower rate fill the new rate's burst at most.
WITH limits AS (
    SELECT a.account_id, p."window", p.text_characters_max, p.models, p.voices, p.soft_limits_percent,
        coalesce(b.window_ends_at <= to_timestamp(:now_us / 1000000.0), false) AS ended,
        CASE WHEN a.overrides ? 'units' THEN (a.overrides ->> 'units')::bigint ELSE p.units END AS units,
        CASE WHEN a.overrides ? 'requests_per_minute' THEN (a.overrides ->> 'requests_per_minute')::integer
            ELSE p.requests_per_minute END AS requests_per_minute,
        CASE WHEN a.overrides ? 'requests_burst' THEN (a.overrides ->> 'requests_burst')::integer
            ELSE p.requests_burst END AS requests_burst,
        CASE WHEN a.overrides ? 'in_flight_max' THEN (a.overrides ->> 'in_flight_max')::integer
            ELSE p.in_flight_max END AS in_flight_max
    FROM quota.accounts AS a JOIN quota.plans AS p ON p.name = a.plan JOIN quota.balances AS b USING (account_id)
    WHERE a.account_id = ANY(:account_ids::text[])
)
UPDATE quota.balances AS b
SET units_limit = l.units,
    units_ceiling = CASE WHEN l.units IS NULL THEN NULL
        ELSE greatest(l.units, CASE WHEN l.ended THEN 0 ELSE b.used END + b.held) END,
    used = CASE WHEN l.ended THEN 0 ELSE b.used END,
    crossed_percent = CASE WHEN l.ended THEN 0 ELSE b.crossed_percent END,
    requests_tat_us = CASE WHEN l.requests_per_minute IS NULL THEN b.requests_tat_us
        ELSE least(b.requests_tat_us,
            :now_us::bigint + ceil(60000000.0 / l.requests_per_minute)::bigint * l.requests_burst) END,
    requests_per_minute = l.requests_per_minute, requests_burst = l.requests_burst, in_flight_max = l.in_flight_max,
    text_characters_max = l.text_characters_max, models = l.models, voices = l.voices,
    soft_limits_percent = l.soft_limits_percent,
    -- Nothing was charged since the end of a window that has ended, or the next one would have begun.
    window_started_at = CASE WHEN l.ended THEN b.window_ends_at ELSE b.window_started_at END,
    window_ends_at = CASE WHEN b."window" = l."window" AND NOT l.ended THEN b.window_ends_at
        ELSE to_timestamp(:window_ends_at_ms / 1000.0) END,
    "window" = l."window"
FROM limits AS l
WHERE b.account_id = l.account_id;

-- name: open_account(account_id, tenant_id, plan, window_started_at_ms, window_ends_at_ms)!
-- A new account under a plan. The outcome of a second attempt is decided by the key.
WITH opened AS (
    INSERT INTO quota.accounts (account_id, tenant_id, plan) VALUES (:account_id, :tenant_id, :plan)
    ON CONFLICT (account_id) DO NOTHING
    RETURNING account_id, plan
)
INSERT INTO quota.balances (account_id, "window", units_limit, units_ceiling, requests_per_minute, requests_burst,
    in_flight_max, text_characters_max, models, voices, soft_limits_percent, window_started_at, window_ends_at)
SELECT opened.account_id, p."window", p.units, p.units, p.requests_per_minute, p.requests_burst, p.in_flight_max,
    p.text_characters_max, p.models, p.voices, p.soft_limits_percent, to_timestamp(:window_started_at_ms / 1000.0),
    to_timestamp(:window_ends_at_ms / 1000.0)
FROM opened JOIN quota.plans AS p ON p.name = opened.plan;

-- name: lock_account(account_id)^
-- Whose an account is and under which plan. Changes of it wait here for each other; rows that refer to it, such as a
-- top-up that has its balance already, do not.
SELECT tenant_id, plan FROM quota.accounts WHERE account_id = :account_id FOR NO KEY UPDATE;

-- name: move_account(account_id, plan, overrides)!
-- Put an account under another plan and, unless null, give it other overrides; no row if it has them already.
UPDATE quota.accounts SET plan = :plan, overrides = coalesce(:overrides::text::jsonb, overrides)
WHERE account_id = :account_id AND (plan, overrides) <> (:plan, coalesce(:overrides::text::jsonb, overrides));

-- name: find_topups(account_ids)
-- Top-ups that may still matter to accounts: those with units left or held. Locked by the lock on their account.
-- account_ids: text[]
SELECT topup_id::text, account_id, units_left, units_held,
    (extract(epoch FROM expires_at) * 1000)::bigint AS expires_at_ms
FROM quota.topups
WHERE account_id = ANY(:account_ids::text[])
    AND (units_held > 0 OR units_left > 0 AND expires_at > clock_timestamp());

-- name: write_entries(now_us, entries)!
-- Double entries.
-- entries: JSON array
INSERT INTO quota.entries (at, cause_id, debit, credit, units)
SELECT to_timestamp(:now_us / 1000000.0), n.*
FROM json_to_recordset(:entries::json) AS n (cause_id uuid, debit text, credit text, units bigint);

-- name: read_usage_days(tenant_id, first_day, days, key_id, limit)
-- A tenant's usage day by day and key by key.
-- key_id: text or null for all; limit: how many rows at most
SELECT day::text, key_id, units, requests
FROM quota.usage_days
WHERE tenant_id = :tenant_id AND day >= :first_day::date AND day < :first_day::date + :days::integer
    AND (:key_id::text IS NULL OR key_id = :key_id::text)
ORDER BY day, key_id
LIMIT :limit;

-- name: set_suspended(suspended, account_id)!
-- Suspend or resume an account; no row if it is so already, or is not there.
UPDATE quota.balances SET suspended = :suspended WHERE account_id = :account_id AND suspended <> :suspended;

-- name: add_topup(topup_id, account_id, units, expires_at_ms)!
-- A top-up, unless there is one with this id.
INSERT INTO quota.topups (topup_id, account_id, units, units_left, expires_at)
VALUES (:topup_id::uuid, :account_id, :units, :units, to_timestamp(:expires_at_ms / 1000.0))
ON CONFLICT (topup_id) DO NOTHING;

-- name: is_same_topup(topup_id, account_id, units, expires_at_ms)$
-- Whether a top-up is what a repeated command says.
SELECT account_id = :account_id AND units = :units AND expires_at = to_timestamp(:expires_at_ms / 1000.0)
FROM quota.topups WHERE topup_id = :topup_id::uuid;

-- name: add_carryover(carryover_id, account_id, tenant_id, units, now_us)$
-- True if no usage was carried over under this id before; else nothing.
INSERT INTO quota.carryovers (carryover_id, account_id, tenant_id, units, carried_at)
VALUES (:carryover_id::uuid, :account_id, :tenant_id, :units, to_timestamp(:now_us / 1000000.0))
ON CONFLICT (carryover_id) DO NOTHING
RETURNING true;

-- name: is_same_carryover(carryover_id, account_id, units)$
-- Whether a carry-over is what a repeated command says.
SELECT account_id = :account_id AND units = :units FROM quota.carryovers WHERE carryover_id = :carryover_id::uuid;

-- name: add_usage(tenant_id, now_us, key_id, units)!
-- Add to a day's usage what no request of that day used.
INSERT INTO quota.usage_days AS u (tenant_id, day, key_id, units, requests)
VALUES (:tenant_id, (to_timestamp(:now_us / 1000000.0) AT TIME ZONE 'UTC')::date, :key_id, :units, 0)
ON CONFLICT (tenant_id, day, key_id) DO UPDATE SET units = u.units + excluded.units;

-- name: audit_balances()
-- Accounts whose stored balance differs from what open holds and the ledger say, or exceeds its ceiling.
WITH parts AS (
    SELECT h.hold_id, t.account_id, sum(p.value::bigint) AS units
    FROM quota.holds AS h, jsonb_each_text(h.topups) AS p (topup_id, value)
    JOIN quota.topups AS t ON t.topup_id = p.topup_id::uuid
    GROUP BY 1, 2
), open AS (
    SELECT a.account_id, sum(h.units - coalesce(parts.units, 0)) AS held, count(*) AS in_flight
    FROM quota.holds AS h
    CROSS JOIN LATERAL unnest(h.account_ids) AS a (account_id)
    LEFT JOIN parts ON parts.hold_id = h.hold_id AND parts.account_id = a.account_id
    GROUP BY 1
), charged AS (
    -- What was taken back counts no more, in whatever window it was charged.
    SELECT b.account_id, sum(e.units) - coalesce(sum(back.units), 0) AS used
    FROM quota.balances AS b JOIN quota.entries AS e ON e.debit = b.account_id AND e.at >= b.window_started_at
    LEFT JOIN (quota.reversals AS v JOIN quota.entries AS back ON back.cause_id = v.hold_id)
        ON (back.cause_id, back.debit, back.credit) = (e.cause_id, e.credit, e.debit)
    GROUP BY 1
)
SELECT b.account_id AS subject,
    format('used %s, ledger %s; held %s, holds %s; in flight %s, holds %s; ceiling %s', b.used, coalesce(c.used, 0),
        b.held, coalesce(o.held, 0), b.in_flight, coalesce(o.in_flight, 0), b.units_ceiling) AS difference
FROM quota.balances AS b LEFT JOIN open AS o USING (account_id) LEFT JOIN charged AS c USING (account_id)
WHERE (b.used, b.held, b.in_flight) <> (coalesce(c.used, 0), coalesce(o.held, 0), coalesce(o.in_flight, 0))
    OR b.used + b.held > b.units_ceiling
ORDER BY 1;

-- name: audit_topups()
-- Top-ups whose stored units differ from what open holds and the ledger say.
WITH held AS (
    SELECT p.topup_id::uuid AS topup_id, sum(p.value::bigint) AS units
    FROM quota.holds AS h, jsonb_each_text(h.topups) AS p (topup_id, value)
    GROUP BY 1
), used AS (
    SELECT topup_id, sum(units) AS units
    FROM (
        SELECT substr(debit, 7)::uuid AS topup_id, units FROM quota.entries WHERE debit LIKE 'topup:%'
        UNION ALL
        SELECT substr(credit, 7)::uuid, -units FROM quota.entries WHERE credit LIKE 'topup:%' AND debit <> 'operator'
    ) AS part
    GROUP BY 1
), given AS (
    SELECT substr(credit, 7)::uuid AS topup_id, sum(units) AS units
    FROM quota.entries WHERE credit LIKE 'topup:%' AND debit = 'operator' GROUP BY 1
)
SELECT t.topup_id::text AS subject,
    format('given %s, ledger %s; held %s, holds %s; used %s, ledger %s', t.units, coalesce(g.units, 0), t.units_held,
        coalesce(h.units, 0), t.units - t.units_left - t.units_held, coalesce(u.units, 0)) AS difference
FROM quota.topups AS t LEFT JOIN held AS h USING (topup_id) LEFT JOIN used AS u USING (topup_id)
    LEFT JOIN given AS g USING (topup_id)
WHERE (t.units, t.units_held, t.units - t.units_left - t.units_held)
    <> (coalesce(g.units, 0), coalesce(h.units, 0), coalesce(u.units, 0))
ORDER BY 1;

-- name: audit_charges()
-- Settled holds whose entries do not add up to what was settled, by the tenant's account and by the key's if it has one,
-- or to what was taken back of it, and entries that no settled hold explains.
WITH settled AS (
    SELECT hold_id, sum(units_settled) AS units, sum(units_settled * (cardinality(account_ids) - 1)) AS key_units
    FROM quota.resolutions WHERE kind = 'settled' GROUP BY 1
), reversed AS (
    SELECT hold_id, units, units * (cardinality(account_ids) - 1) AS key_units FROM quota.reversals
), paid AS (
    SELECT cause_id AS hold_id, coalesce(sum(units) FILTER (WHERE credit LIKE 'provider:%'), 0) AS units,
        coalesce(sum(units) FILTER (WHERE credit LIKE 'budget:%'), 0) AS key_units,
        coalesce(sum(units) FILTER (WHERE debit LIKE 'provider:%'), 0) AS units_back,
        coalesce(sum(units) FILTER (WHERE debit LIKE 'budget:%'), 0) AS key_units_back
    FROM quota.entries WHERE debit <> 'operator' GROUP BY 1
)
SELECT hold_id::text AS subject,
    format('settled %s, ledger %s; by the key %s, ledger %s; taken back %s, ledger %s; by the key %s, ledger %s',
        coalesce(s.units, 0), coalesce(p.units, 0), coalesce(s.key_units, 0), coalesce(p.key_units, 0),
        coalesce(v.units, 0), coalesce(p.units_back, 0), coalesce(v.key_units, 0), coalesce(p.key_units_back, 0)
    ) AS difference
FROM settled AS s FULL JOIN paid AS p USING (hold_id) FULL JOIN reversed AS v USING (hold_id)
WHERE (coalesce(s.units, 0), coalesce(s.key_units, 0), coalesce(v.units, 0), coalesce(v.key_units, 0))
    <> (coalesce(p.units, 0), coalesce(p.key_units, 0), coalesce(p.units_back, 0), coalesce(p.key_units_back, 0))
    OR coalesce(v.units, 0) NOT IN (0, coalesce(s.units, 0))
ORDER BY 1;

-- name: audit_carryovers()
-- What was carried over without the one entry that charges it, and such entries that no carry-over explains.
SELECT coalesce(c.carryover_id, e.cause_id)::text AS subject,
    format('carried over %s to %s, ledger %s from %s', coalesce(c.units, 0), c.account_id, coalesce(e.units, 0), e.debit)
        AS difference
FROM quota.carryovers AS c
FULL JOIN (SELECT * FROM quota.entries WHERE credit = 'predecessor') AS e ON e.cause_id = c.carryover_id
WHERE (c.account_id, c.units, c.carried_at) IS DISTINCT FROM (e.debit, e.units, e.at)
ORDER BY 1;

-- name: audit_endings()
-- Holds that ended more than once without being a late settlement, or that are open and ended.
SELECT r.hold_id::text AS subject, format('%s endings, open: %s', count(*), bool_or(h.hold_id IS NOT NULL)) AS difference
FROM quota.resolutions AS r LEFT JOIN quota.holds AS h USING (hold_id)
GROUP BY r.hold_id
HAVING count(*) - count(*) FILTER (WHERE r.late) > 1 OR count(*) FILTER (WHERE r.late) > 1
    OR bool_or(h.hold_id IS NOT NULL)
ORDER BY 1;

-- name: audit_usage_days()
-- Days on which a key's usage differs from its settled holds, less what was taken back; or a tenant's from what was carried
-- over to its account.
WITH days AS (
    SELECT tenant_id, day, key_id, sum(units) AS units, sum(requests) AS requests
    FROM (
        SELECT tenant_id, (resolved_at AT TIME ZONE 'UTC')::date AS day, key_id, units_settled AS units, 1 AS requests
        FROM quota.resolutions WHERE kind = 'settled'
        UNION ALL
        SELECT tenant_id, (charged_at AT TIME ZONE 'UTC')::date, key_id, -units, 0 FROM quota.reversals
        UNION ALL
        SELECT tenant_id, (carried_at AT TIME ZONE 'UTC')::date, 'carried_over', units, 0 FROM quota.carryovers
        WHERE account_id = tenant_id
    ) AS part
    GROUP BY 1, 2, 3
)
SELECT tenant_id || ' ' || day || ' ' || key_id AS subject,
    format('shown %s in %s requests, settled %s in %s', coalesce(u.units, 0), coalesce(u.requests, 0),
        coalesce(d.units, 0), coalesce(d.requests, 0)) AS difference
FROM days AS d FULL JOIN quota.usage_days AS u USING (tenant_id, day, key_id)
WHERE (coalesce(u.units, 0), coalesce(u.requests, 0)) <> (coalesce(d.units, 0), coalesce(d.requests, 0))
ORDER BY 1;
