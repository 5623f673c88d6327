"""What loading the room loads."""

from __future__ import annotations

import subprocess
import sys


def test_the_room_loads_no_library_of_a_format() -> None:
    """Processes that have neither library may use it."""
    code = (
        "import sys, month3_messaging.codecs.order_placed;"
        "sys.exit(any(n in sys.modules for n in ('google.protobuf', 'fastavro', 'msgpack')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
