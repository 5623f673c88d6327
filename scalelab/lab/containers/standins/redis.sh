#!/bin/sh
# Entry point of the stand-in for redis: options alone start the server, and other containers may
# speak to it, as with the original.
set -eu
case ${1:-} in -*) set -- redis-server "$@" ;; esac
if [ "$1" = redis-server ]; then
  set -- "$@" --protected-mode no
fi
exec "$@"
