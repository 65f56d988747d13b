#!/bin/sh
# Run once by the image's entrypoint, on the empty server: the database, and a login and a schema for each service.
set -eu
psql -v ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres --no-psqlrc --quiet \
  -v keys="$KEYS_PASSWORD" -v quota="$QUOTA_PASSWORD" -v synth="$SYNTH_PASSWORD" \
  -f /docker-entrypoint-initdb.d/roles/roles.sql
