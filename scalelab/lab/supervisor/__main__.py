"""Entry of the background process of one stack."""

from __future__ import annotations

import sys

from scalelab.lab.supervisor.process import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
