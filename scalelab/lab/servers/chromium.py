"""Chromium, to see what a real browser asks for: one process a visit, a profile that stays.

A visit starts the browser, loads one page, and ends when the page has loaded; what it keeps, it
keeps in the profile folder. So the next visit is that of a browser that was closed and opened
again. It asks nobody but the page's server.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from scalelab.lab.servers.base import environment
from scalelab.lab.servers.errors import ServerFailed
from scalelab.lab.servers.providers import Providers, Recipe

RECIPE = Recipe(
    server="Chromium",
    program="chromium",
    minimum=(109,),
    version=r"Chrom\w+ (\d+(?:\.\d+)+)",
    places=(
        "/usr/bin/chromium",
        "/usr/bin/chromium-browser",
        "/usr/bin/google-chrome",
        "/Applications/Chromium.app/Contents/MacOS/Chromium",
    ),
    packages=("chromium",),
)

_FLAGS = (
    "--headless",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-proxy-server",
)


class Chromium:
    """A browser with one profile. profile: its folder, made if missing; one visit at a time."""

    def __init__(self, providers: Providers, profile: Path) -> None:
        program = providers.obtain(RECIPE)
        self.version = program.version
        self._path = program.path
        self._profile = profile

    def visit(self, url: str, *, timeout_s: float = 90.0) -> str:
        """Load a page, its scripts done; the page as it then is, in HTML.

        Raises ServerFailed if it has not loaded in time, or if the browser failed.
        """
        return self._run(["--dump-dom", url], timeout_s)

    def picture(self, url: str, path: Path, *, timeout_s: float = 90.0) -> None:
        """Load a page and write what it looks like, as a PNG of 1200 × 800.

        The page's clock runs ahead by some seconds while nothing is under way, so what a script
        fetches after the page has loaded is in the picture.
        """
        wait = "--virtual-time-budget=5000"
        self._run([wait, f"--screenshot={path}", "--window-size=1200,800", url], timeout_s)
        if not path.is_file():
            raise ServerFailed(f"Chromium made no picture of {url}.")

    def _run(self, arguments: Sequence[str], timeout_s: float) -> str:
        self._profile.mkdir(parents=True, exist_ok=True)
        command = [str(self._path), *_FLAGS, f"--user-data-dir={self._profile}"]
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            command.append("--no-sandbox")  # root cannot have one
        browser = subprocess.Popen(
            [*command, *arguments],
            env=environment({"HOME": str(self._profile)}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        try:
            output, _ = browser.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired as error:
            raise ServerFailed(
                f"Chromium had not loaded {arguments[-1]} after {timeout_s:.0f} s."
            ) from error
        finally:
            if browser.poll() is None:
                os.killpg(browser.pid, signal.SIGKILL)  # its helpers too
                browser.communicate()
        if browser.returncode != 0:
            raise ServerFailed(f"Chromium ended with {browser.returncode} at {arguments[-1]}.")
        return output
