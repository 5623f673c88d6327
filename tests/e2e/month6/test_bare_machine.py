"""The package-only path: a bare machine, no root, no system packages, and still a confirmed order.

What the clone needs comes from locks: wheels for Python, PostgreSQL, Redis and a JRE, jars for
Kafka. The test downloads all of it, so it needs the package index and takes minutes; it runs once.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import psutil
import pytest

PROJECT = Path(__file__).resolve().parents[3]
NOBODY = 65534
WITHIN_S = 900.0
"""Downloads included, on a slow line; never a claim about speed."""

KEPT = ("PATH", "LANG", "LC_ALL", "TZ")
KEPT_PREFIXES = ("PIP_", "UV_", "SSL_CERT", "REQUESTS_CA", "CURL_CA", "HTTP_", "HTTPS_", "NO_PROXY")

pytestmark = pytest.mark.timeout(WITHIN_S + 120)


@pytest.fixture
def bare() -> Iterator[Path]:
    """A folder with a copy of the tracked files and an empty home, of an ordinary user's."""
    folder = Path(tempfile.mkdtemp(prefix="scalelab-bare-"))
    folder.chmod(0o755)
    (folder / "home").mkdir()
    tracked = subprocess.run(
        ["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, check=True
    ).stdout
    with BytesIO() as packed:
        with tarfile.open(fileobj=packed, mode="w") as archive:
            for name in filter(None, tracked.decode().split("\0")):
                if (PROJECT / name).exists():
                    archive.add(PROJECT / name, name)
        packed.seek(0)
        with tarfile.open(fileobj=packed) as archive:
            archive.extractall(folder / "clone", filter="data")
    if os.geteuid() == 0:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def environment(home: Path) -> dict[str, str]:
    """Nothing of ours but how to reach the package index; no Debian packages, wheels only."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in KEPT or name.upper().startswith(KEPT_PREFIXES)
    }
    return kept | {"HOME": str(home), "SCALELAB_NO_APT": "1", "SCALELAB_PROVIDER": "wheel"}


def test_a_bare_machine_confirms_orders_from_packages_alone(
    bare: Path, request: pytest.FixtureRequest
) -> None:
    """`./lab demo --once` in a fresh clone: balanced books, and a wheel for every server."""
    command = ["./lab", "demo", "--once", "--seconds", "5", "--rate", "2", "--json"]
    who = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
    done = subprocess.run(
        command,
        cwd=bare / "clone",
        env=environment(bare / "home"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
        **who,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    report = json.loads(done.stdout)
    request.node.user_properties.append(("first_order_s", report["first_order_s"]))
    assert report["orders"]["confirmed"] > 0
    assert report["books"]["balanced"] is True
    assert (report["duplicates"], report["stuck"]) == (0, 0)
    home = bare / "clone" / ".lab"
    assert (home / "servers-venv").is_dir()
    assert not [path for path in home.rglob("postmaster.pid")]
    assert here(bare) == []


def here(folder: Path) -> list[str]:
    """Processes that still run from this folder."""
    found: list[str] = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if any(str(folder) in word for word in words):
            found.append(" ".join(words)[:200])
    return found
