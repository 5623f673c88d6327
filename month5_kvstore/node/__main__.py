"""`python -m month5_kvstore.node [prepare]`: a node, or the folder of a new one.

Settings come from KVNODE_… variables. Exit code 3 if the node could not go on.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import cast

from month5_kvstore.node.service import NodeSettings, create, prepare
from scalelab.web.process import service_command

if __name__ == "__main__":
    sys.exit(
        service_command(
            "month5_kvstore.node",
            "kvnode",
            cast("Callable[[], NodeSettings]", NodeSettings),
            create,
            prepare,
        )
    )
