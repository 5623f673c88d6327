"""A clone with toy months, driven by the real command line in processes of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[4]

ONE_REDIS = '''
"""A stack with one Redis, on a free port so that tests disturb nobody."""
from scalelab.lab.servers import Redis
from scalelab.lab.servers.ports import Ports

def start(runtime):
    redis = Redis("redis", port=Ports(private=True).port("redis", 6379))
    runtime.start(redis)
    return [("Redis", redis.url)]
'''


@dataclass(frozen=True)
class Clone:
    """A folder that looks like a clone to the command line."""

    root: Path

    def command(self, *words: str) -> list[str]:
        """The command line of `./lab` in this clone."""
        return [sys.executable, "-P", "-m", "scalelab", "--root", str(self.root), *words]

    def environment(self) -> dict[str, str]:
        """As a shell would have it; the code under test comes from this repository."""
        env = {name: value for name, value in os.environ.items() if name != "SCALELAB_DEBUG"}
        return env | {"PYTHONPATH": str(ROOT)}

    def lab(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run one command to its end."""
        return subprocess.run(
            self.command(*words),
            env=self.environment(),
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
            timeout=90,
        )

    def spawn(self, *words: str) -> subprocess.Popen[str]:
        """Begin one command."""
        return subprocess.Popen(
            self.command(*words),
            env=self.environment(),
            cwd="/",
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def json(self, *words: str) -> dict[str, Any]:
        """Run a command that must succeed; its whole stdout is the document."""
        answer = self.lab(*words, "--json")
        assert answer.returncode == 0, answer.stderr
        return json.loads(answer.stdout)

    def pids(self) -> list[int]:
        """Pids of all server processes of running stacks, ready or not."""
        stacks = json.loads(self.lab("status", "--json").stdout)["stacks"]
        return [view["pid"] for stack in stacks for view in stack["processes"] if view["pid"]]

    def month(self, number: int, files: dict[str, str]) -> None:
        """Add a month with these files."""
        folder = self.root / f"month{number}_toy"
        for name, text in {"__init__.py": '"""Toy."""\n', **files}.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")


def eventually(condition: Callable[[], bool], what: str, *, within_s: float = 30.0) -> None:
    """Poll until true; fail, saying what was waited for."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        time.sleep(0.05)


@pytest.fixture
def clone(server_root: Path) -> Iterator[Clone]:
    """An empty clone with a space in its path; whatever runs in it is stopped afterwards.

    Where the servers' account can reach it, so that no data are left outside the test's folder.
    """
    root = Path(tempfile.mkdtemp(dir=server_root)) / "a clone"
    root.parent.chmod(0o711)
    root.mkdir()
    made = Clone(root)
    yield made
    made.lab("down")
