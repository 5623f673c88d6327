#!/bin/sh
# First start of a PostgreSQL container: one role and one database per name in ROLES, and a role for
# replicas. Passwords come from /secrets, where the `secrets` job made them.
set -eu
for role in $ROLES; do
  password=$(cat "/secrets/pg-$role")
  psql -v ON_ERROR_STOP=1 -v role="$role" -v password="$password" <<'SQL'
CREATE ROLE :"role" LOGIN PASSWORD :'password';
CREATE DATABASE :"role" OWNER :"role";
SQL
done
password=$(cat /secrets/pg-replicator)
psql -v ON_ERROR_STOP=1 -v password="$password" <<'SQL'
CREATE ROLE replicator LOGIN REPLICATION PASSWORD :'password';
SQL
echo "host replication replicator all scram-sha-256" >> "$PGDATA/pg_hba.conf"
