"""The object store of a stack, running for the time of one command."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from scalelab.clients.s3 import S3Settings
from scalelab.lab.runtime import Runtime
from scalelab.lab.servers import VersityGw


@contextmanager
def running_store(root: Path) -> Generator[S3Settings]:
    """The store of the stack at `root` on a free port; its objects and its keys stay there.

    Raises ServerMissing where it can neither be had nor built, ServerFailed.
    """
    with Runtime(root, private=True, keep_data=True) as runtime:
        server = VersityGw("object-store")
        runtime.start(server)
        yield S3Settings(server.endpoint, server.access_key, server.secret_key)
