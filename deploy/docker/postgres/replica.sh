#!/bin/sh
# A streaming replica: copies the primary at its first start, then follows it for ever.
# PRIMARY: host name of the primary. NAME: this replica's application name and slot.
set -eu
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  PGPASSWORD=$(cat /secrets/pg-replicator)
  export PGPASSWORD
  slot=$(echo "$NAME" | tr - _)
  # A copy that was interrupted leaves its slot behind; take it over instead of failing for ever.
  if ! pg_basebackup -h "$PRIMARY" -U replicator -D "$PGDATA" -R -X stream -C -S "$slot"; then
    rm -rf "${PGDATA:?}"/*
    pg_basebackup -h "$PRIMARY" -U replicator -D "$PGDATA" -R -X stream -S "$slot"
  fi
  cat >> "$PGDATA/postgresql.auto.conf" <<CONF
primary_conninfo = 'host=$PRIMARY user=replicator password=$PGPASSWORD application_name=$NAME'
CONF
  chmod 0700 "$PGDATA"
fi
exec postgres "$@"
