"""`python -m month6_capstone.truth`: reconcile from variables, print the verdict as JSON.

For stores that the workbench did not start, such as those in containers:

    TRUTH_SHARDS           {"shard-0": DSN, …}: the primary of every order shard
    TRUTH_PAYMENTS, TRUTH_INVENTORY          DSNs
    TRUTH_KAFKA_BOOTSTRAP, TRUTH_BOOK_PATH   addresses; the provider's book as a file

Exit code 0 if the books balance, 1 if not, 2 if a variable is missing or wrong.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from month6_capstone.truth.reconcile import reconcile
from month6_capstone.truth.settings import TruthSettings
from scalelab.errors import InvalidInput, ScalelabError


def settings_in(environ: Mapping[str, str]) -> TruthSettings:
    """The settings that the variables above mean. Raises InvalidInput naming the wrong one."""

    def variable(name: str) -> str:
        value = environ.get(f"TRUTH_{name}")
        if not value:
            raise InvalidInput(f"the variable TRUTH_{name} is not set", field=f"TRUTH_{name}")
        return value

    try:
        shards: object = json.loads(variable("SHARDS"))
    except ValueError as error:
        raise InvalidInput("TRUTH_SHARDS is not JSON", field="TRUTH_SHARDS") from error
    if not isinstance(shards, dict) or not shards:
        raise InvalidInput("TRUTH_SHARDS is not a table of DSNs", field="TRUTH_SHARDS")
    return TruthSettings(
        shards=cast("dict[str, str]", shards),
        payments=variable("PAYMENTS"),
        inventory=variable("INVENTORY"),
        kafka_bootstrap=variable("KAFKA_BOOTSTRAP"),
        book_path=Path(variable("BOOK_PATH")),
    )


def main(environ: Mapping[str, str]) -> int:
    """Print the report; return the exit code."""
    try:
        report = reconcile(settings_in(environ))
    except ScalelabError as error:
        sys.stderr.write(f"{error.message}\n")
        return 2 if isinstance(error, InvalidInput) else 1
    sys.stdout.write(json.dumps(report.as_json(), indent=1) + "\n")
    return 0 if report.balanced else 1


if __name__ == "__main__":
    sys.exit(main(os.environ))
