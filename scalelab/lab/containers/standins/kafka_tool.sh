#!/bin/sh
# Run one of Kafka's classes: kafka-run-class.sh CLASS ARGS...
set -eu
# shellcheck disable=SC2086 -- options are words
exec java ${KAFKA_HEAP_OPTS:--Xmx256m} -XX:+UseSerialGC -XX:TieredStopAtLevel=1 \
  -Dorg.slf4j.simpleLogger.defaultLogLevel=warn ${KAFKA_OPTS:-} -cp '/opt/kafka/libs/*' "$@"
