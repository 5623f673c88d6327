"""Starts a stack, prints the pids of all its processes, then waits to be killed."""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path

import psutil

from scalelab.lab.runtime import Runtime, ServiceSpec
from scalelab.lab.servers import Kafka, Nginx, Postgres, Redis


def main(root: Path, echo: str) -> None:
    """One of each kind: with forked helpers, with workers, a JVM, one of our own."""
    with Runtime(root, private=True) as runtime:
        primary = Postgres("postgres")
        page = Nginx("server { listen 127.0.0.1:$PORT; return 204; }")
        runtime.start(primary, primary.add_replica("replica"), Redis(), Kafka(), page)
        port = runtime.port("echo", 8000)
        runtime.service(ServiceSpec("echo", ("python", echo, str(port)), port, restart=True))
        children = psutil.Process().children(recursive=True)
        sys.stdout.write(json.dumps([child.pid for child in children]) + "\n")
        sys.stdout.flush()
        threading.Event().wait()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
