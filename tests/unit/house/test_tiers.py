"""The tiers plugin, run in a pytest of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]

TESTS = """
import pytest

def test_counts(count):
    assert count(1000) == EXPECTED
    assert count(10) == (10 if EXPECTED == 1000 else 1)
    assert count(100, share=0.05, least=7) == (100 if EXPECTED == 1000 else 7)

@pytest.mark.nightly
def test_night():
    pass

@pytest.mark.bed
def test_bed():
    pass
"""


def run(folder: Path, text: str, *options: str, ci: str = "") -> subprocess.CompletedProcess[str]:
    """pytest with the plugin alone, on one file below a month's folder."""
    path = folder / "tests" / "unit" / "month2" / "test_toy.py"
    path.parent.mkdir(parents=True)
    path.write_text(text, encoding="utf-8")
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n    nightly: full size\n")
    own = ["-p", "no:cacheprovider", "-p", "tests.fixtures.tiers"]
    # Options meant for the run that this test is part of; it may not know what they configure.
    outer = {key: value for key, value in os.environ.items() if key != "PYTEST_ADDOPTS"}
    where = ["-c", str(folder / "pytest.ini"), str(path)]
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rA", *own, *options, *where],
        cwd=ROOT,
        # Without every other plugin: they would take longer to load than the tests to run.
        env=outer | {"CI": ci, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


def test_an_ordinary_run_takes_a_share(tmp_path: Path) -> None:
    """2 % unless said otherwise; neither the night's tests nor the beds."""
    answer = run(tmp_path, TESTS.replace("EXPECTED", "20"))
    assert "1 passed, 2 deselected" in answer.stdout, answer.stdout
    assert not (tmp_path / "docs").exists()


def test_nightly_runs_full_size_and_writes_what_it_measured(tmp_path: Path) -> None:
    """Date, revision, cores, outcomes and counts, in a file a month."""
    answer = run(tmp_path, TESTS.replace("EXPECTED", "1000"), "--nightly")
    assert "2 passed, 1 deselected" in answer.stdout, answer.stdout
    document = json.loads((tmp_path / "docs" / "measured" / "month2.json").read_text())
    assert {"date", "revision", "cores"} <= set(document)
    assert document["outcomes"] == {"passed": 2}
    assert list(document["counts"].values()) == [[1000, 10, 100]]


def test_beds_are_run_alone(tmp_path: Path) -> None:
    """`--beds` is the other half of the suite, not the whole again."""
    answer = run(tmp_path, TESTS, "--beds")
    assert "1 passed, 2 deselected" in answer.stdout, answer.stdout


def test_no_bed_is_exit_5(tmp_path: Path) -> None:
    """Which `./lab test --beds` translates: nothing ran, nothing failed."""
    assert run(tmp_path, "def test_plain(): pass", "--beds").returncode == 5


SKIPS = {
    "call": "import pytest\ndef test_a():\n    pytest.skip('no Redis here')\n",
    "setup": (
        "import pytest\n@pytest.fixture\ndef redis():\n    pytest.skip('no Redis here')\n"
        "def test_a(redis):\n    pass\n"
    ),
    "mark": (
        "import pytest\n@pytest.mark.skipif(True, reason='no Redis here')\n"
        "def test_a():\n    pass\n"
    ),
    "module": "import pytest\npytest.skip('no Redis here', allow_module_level=True)\n",
}


@pytest.mark.parametrize("way", sorted(SKIPS))
def test_a_skip_is_a_failure_in_ci(tmp_path: Path, way: str) -> None:
    """However a test leaves itself out; the reason is in the report."""
    answer = run(tmp_path, SKIPS[way], ci="true")
    assert answer.returncode in (1, 2), answer.stdout
    assert "no Redis here" in answer.stdout


@pytest.mark.parametrize("way", sorted(SKIPS))
def test_a_skip_is_a_skip_elsewhere(tmp_path: Path, way: str) -> None:
    """On a machine that lacks something the rest still counts."""
    answer = run(tmp_path, SKIPS[way])
    assert answer.returncode in (0, 5), answer.stdout
    assert "no Redis here" in answer.stdout


def test_an_expected_failure_stays_one_in_ci(tmp_path: Path) -> None:
    """xfail reports as skipped inside pytest; it is no skip."""
    text = "import pytest\n@pytest.mark.xfail\ndef test_a():\n    assert False\n"
    assert run(tmp_path, text, ci="true").returncode == 0
