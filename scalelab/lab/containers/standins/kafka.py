"""Entry point of the stand-in for apache/kafka: variables become properties, as in the original.

KAFKA_NODE_ID=1 is `node.id=1`; three underscores are a dash, two an underscore, one a dot. The
variables of the Java runtime are not Kafka's. A new data folder is formatted at the first start.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

_NOT_PROPERTIES = (
    "KAFKA_VERSION",
    "KAFKA_HEAP_OPTS",
    "KAFKA_LOG4J",
    "KAFKA_TOOLS_LOG4J",
    "KAFKA_OPTS",
    "KAFKA_JMX",
    "KAFKA_JVM_PERFORMANCE_OPTS",
    "KAFKA_GC_LOG_OPTS",
)
_CLUSTER = "5L6g3nShT-eMCtK--X86sw"
_TOOL = "/opt/kafka/bin/kafka-run-class.sh"
_CONFIG = Path("/tmp/server.properties")


def properties(environ: Mapping[str, str]) -> dict[str, str]:
    """The lines of server.properties that the variables mean."""
    return {
        _name(key.removeprefix("KAFKA_")): value
        for key, value in sorted(environ.items())
        if key.startswith("KAFKA_") and not key.startswith(_NOT_PROPERTIES)
    }


def _name(words: str) -> str:
    lowered = words.lower().replace("___", "-").replace("__", "\0")
    return lowered.replace("_", ".").replace("\0", "_")


def main() -> None:
    """Write the configuration, format if need be, become Kafka."""
    lines = properties(os.environ)
    lines.setdefault("log.dirs", "/tmp/kafka-logs")
    _CONFIG.write_text("".join(f"{key}={value}\n" for key, value in lines.items()))
    if not Path(lines["log.dirs"], "meta.properties").exists():
        cluster = os.environ.get("CLUSTER_ID", _CLUSTER)
        format_it = ["kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(_CONFIG)]
        subprocess.run([_TOOL, *format_it], check=True)
    os.execv(_TOOL, [_TOOL, "kafka.Kafka", str(_CONFIG)])


if __name__ == "__main__":
    main()
