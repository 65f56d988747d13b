-- The database `odea` with a login and a schema for each service, and no way from one to another. Safe to run again, which
-- is how passwords are changed: psql "$ADMIN_URL" -v ON_ERROR_STOP=1 -v keys=… -v quota=… -v synth=… -f roles.sql
-- The values are the passwords.
SELECT format('CREATE ROLE %I', role)
FROM unnest(ARRAY['odea_keys', 'odea_quota', 'odea_synth']) AS role
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role)
\gexec
ALTER ROLE odea_keys LOGIN PASSWORD :'keys';
ALTER ROLE odea_quota LOGIN PASSWORD :'quota';
ALTER ROLE odea_synth LOGIN PASSWORD :'synth';

SELECT 'CREATE DATABASE odea' WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'odea')
\gexec
REVOKE ALL ON DATABASE odea, postgres, template1 FROM PUBLIC;
GRANT CONNECT ON DATABASE odea TO odea_keys, odea_quota, odea_synth;
-- A managed server's administrator is no superuser and must be a member of whom it makes things for.
GRANT odea_keys, odea_quota, odea_synth TO CURRENT_USER;

\connect odea
REVOKE ALL ON SCHEMA public FROM PUBLIC;
CREATE SCHEMA IF NOT EXISTS keys AUTHORIZATION odea_keys;
CREATE SCHEMA IF NOT EXISTS quota AUTHORIZATION odea_quota;
CREATE SCHEMA IF NOT EXISTS synth AUTHORIZATION odea_synth;
