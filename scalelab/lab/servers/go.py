"""Go, for what this project builds from Go modules."""

from __future__ import annotations

import re


def go_is_new_enough(version_output: str) -> bool:
    """True for Go >= 1.24, judged by what `go version` prints."""
    match = re.search(r"go(\d+)\.(\d+)", version_output)
    return match is not None and (int(match[1]), int(match[2])) >= (1, 24)
