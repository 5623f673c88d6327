"""Commands in the small set of packages, with which a stack starts on a new clone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]
WITHOUT = """
import sys
sys.modules.update(dict.fromkeys({packages!r}))
from scalelab.lab.cli.app import main
sys.argv = ["lab", "month2", "archive", "files"]
main()
"""


@pytest.mark.parametrize("package", ["boto3", "pyarrow", "duckdb"])
def test_the_archive_says_which_package_it_lacks_and_how_to_have_it(package: str) -> None:
    """A sentence and exit code 3, not the name of an exception."""
    ended = subprocess.run(
        [sys.executable, "-c", WITHOUT.format(packages=[package])],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert ended.returncode == 3, ended.stderr
    assert f"needs the package {package}" in ended.stderr
    assert "./lab experiment" in ended.stderr
