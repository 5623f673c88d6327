"""`python -m scalelab`: the command line that `./lab` hands over to."""

from __future__ import annotations

from scalelab.lab.cli.app import main

if __name__ == "__main__":
    main()
