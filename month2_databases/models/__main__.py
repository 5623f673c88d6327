"""`python -m month2_databases.models` prints the order model as a Mermaid diagram."""

from __future__ import annotations

import sys

from month2_databases.models.er_diagram import er_diagram
from month2_databases.models.schema import METADATA

if __name__ == "__main__":
    sys.stdout.write(er_diagram(METADATA))
