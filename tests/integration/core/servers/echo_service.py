"""A tiny service for tests: ready at once, tells its pid, dies or eats memory on request."""

from __future__ import annotations

import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEPT: list[bytes] = []


class Handler(BaseHTTPRequestHandler):
    """GET /health/ready, /pid, /eat."""

    def do_GET(self) -> None:
        """Answer with a short text; /eat answers 500 when 600 MiB cannot be had."""
        status, text = 200, str(os.getpid())
        if self.path == "/eat":
            try:
                KEPT.append(bytes(600 * 1024 * 1024))
            except MemoryError:
                status, text = 500, "no memory"
        elif self.path == "/env":
            text = "\n".join(sorted(os.environ))
        self.send_response(status)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
