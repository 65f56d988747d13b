-- Names of changes live in each service's own schema, which the connection's search_path names.

-- name: forget_repeat(actor, operation, name_hash, keep_s)!
-- Free the name if its time is over.
-- actor, operation: text
-- name_hash: bytea
-- keep_s: double precision
DELETE FROM repeats
WHERE actor = :actor AND operation = :operation AND name_hash = :name_hash
    AND created_at <= statement_timestamp() - :keep_s::double precision * interval '1 second';

-- name: claim_repeat(actor, operation, name_hash, content_hash)$
-- True if the name was free; else nothing. Who comes second waits here for the first one's transaction.
-- actor, operation: text
-- name_hash, content_hash: bytea
INSERT INTO repeats (actor, operation, name_hash, content_hash)
VALUES (:actor, :operation, :name_hash, :content_hash)
ON CONFLICT ON CONSTRAINT repeats_named_once DO NOTHING
RETURNING true;

-- name: keep_repeat(actor, operation, name_hash, answer)!
-- What is answered to the change whose name this transaction has claimed.
-- actor, operation: text
-- name_hash: bytea
-- answer: text, JSON without any secret
UPDATE repeats
SET answer = :answer
WHERE actor = :actor AND operation = :operation AND name_hash = :name_hash;

-- name: repeat(actor, operation, name_hash)^
-- What was asked and answered under the name.
-- actor, operation: text
-- name_hash: bytea
SELECT content_hash, answer
FROM repeats
WHERE actor = :actor AND operation = :operation AND name_hash = :name_hash;

-- name: forget_old_repeats(keep_s)!
-- Free the names whose time is over.
-- keep_s: double precision
DELETE FROM repeats
WHERE created_at <= statement_timestamp() - :keep_s::double precision * interval '1 second';
