#!/usr/bin/env python
"""Stand-in for kafka-broker-api-versions.sh: `--bootstrap-server HOST:PORT`.

The original is a Java program that is in none of the server's jars. This one asks the same of the
broker, which versions it speaks and who is alive, and like it fails until a broker is part of its
cluster.
"""

from __future__ import annotations

import sys

from scalelab.errors import CorruptData
from scalelab.lab.servers.kafka_protocol import living_brokers

_TIMEOUT_S = 10.0


def main(arguments: list[str]) -> int:
    """0 if a broker is alive, 1 if not, 2 for another command line."""
    if len(arguments) != 2 or arguments[0] != "--bootstrap-server":
        sys.stderr.write("usage: kafka-broker-api-versions.sh --bootstrap-server HOST:PORT\n")
        return 2
    host, _, port = arguments[1].rpartition(":")
    try:
        alive = living_brokers(host, int(port), timeout_s=_TIMEOUT_S)
    except (OSError, ValueError, CorruptData) as error:
        sys.stderr.write(f"{arguments[1]}: {error}\n")
        return 1
    sys.stdout.write(f"{alive} brokers\n")
    return 0 if alive >= 1 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
