-- The audit lives in each service's own schema, which the connection's search_path names.

-- name: add_audit(actor, origin, action, tenant_id, key_id, request_id, detail)!
-- Who changed what, and from where.
-- actor, origin, action: text
-- tenant_id, key_id, request_id: text or NULL
-- detail: text, a JSON object
INSERT INTO audit (actor, origin, action, tenant_id, key_id, request_id, detail)
VALUES (:actor, :origin, :action, :tenant_id, :key_id, :request_id, :detail::jsonb);

-- name: audit_before(tenant_id, key_id, before, limit, bytes_max)
-- Changes, newest first: all of them, or one tenant's, or one key's; the first one, and more while their details fit.
-- `known` tells how many there are within the limit.
-- tenant_id, key_id: text, or NULL for any
-- before: bigint, the row before which the page begins, or NULL
-- limit, bytes_max: bigint
SELECT audit_id, at_ms, actor, origin, action, tenant_id, key_id, request_id, detail, known
FROM (
    SELECT *, count(*) OVER () AS known, row_number() OVER newest_first AS place,
        sum(octet_length(detail)) OVER newest_first AS bytes
    FROM (
        SELECT audit_id, floor(extract(epoch FROM at) * 1000)::bigint AS at_ms, actor, origin, action, tenant_id, key_id,
            request_id, detail::text AS detail
        FROM audit
        WHERE (:tenant_id::text IS NULL OR tenant_id = :tenant_id)
            AND (:key_id::text IS NULL OR key_id = :key_id)
            AND audit_id < coalesce(:before::bigint, 9223372036854775807)
        ORDER BY audit_id DESC
        LIMIT :limit
    ) AS found
    WINDOW newest_first AS (ORDER BY audit_id DESC)
) AS weighed
WHERE place = 1 OR bytes <= :bytes_max::bigint
ORDER BY audit_id DESC;
