"""`python -m month5_kvstore.discovery`: the greeter, told by GREETER_… variables what to be."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from month5_kvstore.discovery.greeter import GreeterSettings, run
from scalelab.web.process import calm_collector, run_loop

if __name__ == "__main__":
    calm_collector()
    run_loop(run(cast("Callable[[], GreeterSettings]", GreeterSettings)()))
