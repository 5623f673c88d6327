"""One container file brought up in the bed, used, and taken down without a trace."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

from scalelab.lab.containers import images
from scalelab.lab.containers.daemon import Daemon
from scalelab.lab.servers.errors import ServerFailed
from scalelab.lab.servers.long_commands import run_logged

_COMMAND_S = 120.0
_TAIL_LINES = 15


class Project:
    """`docker compose` on one file. env: variables for the file's own placeholders.

    As a context manager it takes everything down at the end, volumes too. folder: for logs.
    """

    def __init__(
        self,
        daemon: Daemon,
        program: Path,
        file: Path,
        *,
        name: str,
        env: Mapping[str, str],
        folder: Path,
    ) -> None:
        self.name = name
        self.file = file
        self.log = folder / f"{name}.log"
        self._daemon = daemon
        self._env = {**daemon.environment, **env}
        self._folder = folder
        self._program = program
        self._overlay: Path | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.down()

    def document(self) -> dict[str, Any]:
        """The file as Compose understands it: includes, anchors and variables resolved."""
        text = self.compose("config", "--format", "json", "--no-path-resolution=false")
        return cast("dict[str, Any]", json.loads(text))

    def up(self, *, within_s: float) -> None:
        """Build, start, wait until all is healthy and every job has ended well.

        Raises ServerFailed with the state and the last words of the containers that are not well.
        """
        self._lay_over()
        command = ["up", "--detach", "--build", "--pull", "never", "--quiet-pull"]
        command += ["--wait", "--wait-timeout", str(int(within_s))]
        try:
            run_logged(
                self._argv(command),
                env=self._env,
                cwd=self.file.parent,
                log=self.log,
                timeout_s=within_s + 600,
                what=f"docker compose up of {self.file.parent.name}",
            )
        except ServerFailed as error:
            raise ServerFailed(f"{error.message}\n{self.last_words()}") from error

    def down(self) -> None:
        """Stop and remove containers, networks and volumes. Repeatable."""
        run_logged(
            self._argv(["down", "--volumes", "--remove-orphans", "--timeout", "20"]),
            env=self._env,
            cwd=self.file.parent,
            log=self.log,
            timeout_s=300,
            what=f"docker compose down of {self.file.parent.name}",
        )
        if self._overlay is not None:
            self._overlay.unlink(missing_ok=True)
            self._overlay = None

    def compose(self, *arguments: str, stdin: str = "", timeout_s: float = _COMMAND_S) -> str:
        """Any other `docker compose` command; its standard output. Raises ServerFailed."""
        done = subprocess.run(
            self._argv(arguments),
            env=self._env,
            cwd=self.file.parent,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if done.returncode != 0:
            words = " ".join((done.stderr + done.stdout).split())[-1500:]
            raise ServerFailed(f'docker compose {arguments[0]} failed: "{words}".')
        return done.stdout

    def containers(self) -> list[dict[str, Any]]:
        """Every container of the project, ended ones too, as `docker compose ps` tells it."""
        lines = self.compose("ps", "--all", "--format", "json").splitlines()
        return [json.loads(line) for line in lines if line.strip()]

    def address(self, service: str, port: int) -> str:
        """`127.0.0.1:8080`: where a published port of a service is on the host."""
        return self.compose("port", service, str(port)).strip()

    def logs(self, service: str | None = None) -> str:
        """What the containers said, all of it."""
        return self.compose("logs", "--no-color", *([service] if service else []))

    def last_words(self) -> str:
        """For a failure: every container's state, and the end of the log of each that is not well.

        The whole of the logs is kept beside the project's own log.
        """
        kept = self.log.with_suffix(".containers.log")
        try:
            kept.write_text(self.logs())
            lines = [f"All containers' logs are in {kept}."]
            for one in self.containers():
                state = one.get("Health") or f"{one['State']} ({one.get('ExitCode')})"
                lines.append(f"  {one['Service']}: {state}")
                if state not in ("healthy", "running (0)", "exited (0)"):
                    tail = self.compose("logs", "--no-color", "--tail", str(_TAIL_LINES))
                    words = [line for line in tail.splitlines() if line.startswith(one["Service"])]
                    lines += [f"    {line}" for line in words]
        except ServerFailed as error:
            return f"Their logs cannot be read: {error.message}"
        return "\n".join(lines)

    def _lay_over(self) -> None:
        if self._overlay is None:
            document = images.overlay(images.wanted(self.document()).built)
            with tempfile.NamedTemporaryFile(
                "w", dir=self._folder, prefix=f"{self.name}-", suffix=".json", delete=False
            ) as file:
                json.dump(document, file)
            self._overlay = Path(file.name)

    def _argv(self, arguments: Sequence[str]) -> list[str]:
        files = [str(self.file), *([str(self._overlay)] if self._overlay else [])]
        named = [word for file in files for word in ("--file", file)]
        place = ["--project-directory", str(self.file.parent)]
        return [str(self._program), "--project-name", self.name, *place, *named, *arguments]
