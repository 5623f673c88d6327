#!/bin/sh
# Compile every lock so that versions agree. Needs uv. No lock carries an address.
set -eu
cd "$(dirname "$0")"
opts="--quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header --custom-compile-command requirements/compile.sh $*"
# shellcheck disable=SC2086
uv pip compile $opts dev.in -o dev.lock
for name in demo month1 month2 month3 month4 month5 month6; do
  # shellcheck disable=SC2086
  uv pip compile $opts -c dev.lock "$name.in" -o "$name.lock"
done
# shellcheck disable=SC2086
uv pip compile $opts servers.in -o servers.lock
