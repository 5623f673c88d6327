"""`python -m month5_kvstore.node [prepare]`: a node, or the folder of a new one.

Settings come from KVNODE_… variables.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import cast

from month5_kvstore.node.service import NodeSettings, create, prepare
from scalelab.web.process import run_service


def main(arguments: list[str]) -> int:
    """Exit code 0 after a clean stop, 2 for a wrong command line, 3 if it could not go on."""
    if arguments not in ([], ["prepare"]):
        sys.stderr.write("usage: python -m month5_kvstore.node [prepare]\n")
        return 2
    settings = cast(Callable[[], NodeSettings], NodeSettings)()
    if arguments:
        prepare(settings)
        return 0
    run_service("kvnode", settings, create)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
