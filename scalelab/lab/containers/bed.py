"""The container bed: a private daemon, stand-in images, and the project's container files in it.

    with ContainerBed(root / ".lab" / "containers", tell=print) as bed:
        with bed.project(root / "month6_capstone" / "docker-compose.yml", name="shop") as shop:
            shop.up(within_s=300)

The first start takes minutes (Debian packages, a base image, Compose from source, stand-ins), a
later one seconds: images stay in the bed's folder until `./lab clean`.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from scalelab.lab.containers import compose_tool, images
from scalelab.lab.containers.base_image import DEBOOTSTRAP, SUITE, bootstrap
from scalelab.lab.containers.commands import Steps
from scalelab.lab.containers.daemon import DOCKER, Daemon, why_not
from scalelab.lab.containers.host_settings import HostSettings, read_host_settings
from scalelab.lab.containers.project import Project
from scalelab.lab.servers.errors import ServerFailed
from scalelab.lab.servers.go import can_build
from scalelab.lab.servers.java import KAFKA, jars_of
from scalelab.lab.servers.long_commands import run_logged
from scalelab.lab.servers.providers import ProviderOptions, Providers

_STANDINS = Path(__file__).with_name("standins")
_SOURCES = Path(__file__).resolve().parents[3]
_PROTOCOL = ("scalelab/errors.py", "scalelab/lab/servers/kafka_protocol.py")
_BUILD_S = 1200.0


def missing_parts(providers: Providers) -> list[tuple[str, str]]:
    """What a bed would lack on this machine: (what, how to have it); empty where it can be."""
    reason = why_not()
    if reason is not None:
        return [(reason, "run ./lab test --beds as root on Linux")]
    missing: list[tuple[str, str]] = []
    for recipe in (DOCKER, DEBOOTSTRAP):
        there = providers.capability(recipe)
        if there.provider == "none":
            missing.append((f"no {recipe.program}", there.fix or ""))
    if compose_tool.found(providers) is None and not can_build():
        missing.append(("no Docker Compose 2.24, no Go to build it", "install Go 1.24 or newer"))
    return missing


class ContainerBed:
    """A daemon with everything that container files need. folder: images, volumes and logs.

    tell: gets a line for a person, from several threads. providers: where programs come from.
    """

    def __init__(
        self,
        folder: Path,
        *,
        tell: Callable[[str], None],
        providers: Providers | None = None,
    ) -> None:
        self.folder = folder.absolute()
        self.steps = Steps(tell)
        self._providers = providers or Providers(ProviderOptions.from_environment(os.environ))
        self.daemon = Daemon(self.folder, self._providers)
        self._logs = self.folder / "logs"
        self._compose: Path | None = None

    def __enter__(self) -> Self:
        try:
            self.open()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def open(self) -> None:
        """Start the daemon; have Compose and the base image, made side by side if missing.

        Raises ServerMissing or ServerFailed with a sentence for a person.
        """
        self.steps.run("private Docker daemon", self.daemon.start)
        with ThreadPoolExecutor(3, thread_name_prefix="bed") as pool:
            compose = pool.submit(self.steps.run, "Docker Compose", self._obtain_compose)
            jars = pool.submit(self.steps.run, "context of the stand-ins", self._fill_context)
            base = pool.submit(self.steps.run, f"base image {images.BASE}", self._have_base)
            errors = [error for one in (compose, jars, base) if (error := one.exception())]
        if errors:
            raise errors[0]
        self._compose = compose.result()

    def close(self) -> None:
        """End the daemon with everything in it. Repeatable."""
        self.daemon.stop()

    def project(self, file: Path, *, name: str, env: Mapping[str, str] | None = None) -> Project:
        """A container file, ready for `up`: the images it names are there, as stand-ins.

        Raises ServerMissing for an image that has no stand-in.
        """
        if self._compose is None:
            raise ServerFailed("The container bed is not open.")
        project = Project(
            self.daemon, self._compose, file, name=name, env=env or {}, folder=self._logs
        )
        standins = images.wanted(project.document()).standins
        if standins:
            title = f"stand-ins for {', '.join(standins)}"
            self.steps.run(title, lambda: self._build(standins))
        return project

    def _obtain_compose(self) -> Path:
        return compose_tool.obtain(self._providers, self._logs / "compose.log")

    def _fill_context(self) -> None:
        """The build context: our files, the locked wheels, Kafka's jars as the host has them."""
        context = self.folder / "context"
        shutil.rmtree(context, ignore_errors=True)
        shutil.copytree(_STANDINS, context, ignore=shutil.ignore_patterns("__pycache__"))
        for script in (*context.glob("*.sh"), *context.glob("kafka*.py")):
            script.chmod(0o755)
        # The stand-in of one of Kafka's tools is a client of ours: it takes what it imports along.
        for module in _PROTOCOL:
            copy = context / "protocol" / module
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(_SOURCES / module, copy)
        shutil.copyfile(self._providers.options.lock, context / "servers.lock")
        (context / "jars").mkdir()
        for jar in jars_of(KAFKA, self._providers):
            shutil.copy2(jar, context / "jars" / jar.name)

    def _have_base(self) -> None:
        settings = read_host_settings(os.environ)
        kept = f"scalelab/base:{_base_fingerprint(settings)}"
        if not self.daemon.has_image(kept):
            log = self._logs / "base.log"
            rootfs = self.folder / "rootfs"
            bootstrap(rootfs, self._providers, settings, log, kept)(self.daemon)
        self.daemon.docker("tag", kept, images.BASE)

    def _build(self, standins: Mapping[str, str]) -> None:
        context = self.folder / "context"
        file = self.folder / "standins.json"
        document = images.build_file(standins, context=str(context), base=images.BASE)
        file.write_text(json.dumps(document, indent=1))
        run_logged(
            [str(self._compose), "--file", str(file), "build", "--quiet"],
            env=self.daemon.environment,
            cwd=self.folder,
            log=self._logs / "standins.log",
            timeout_s=_BUILD_S,
            what="Building the stand-ins",
        )


def _base_fingerprint(settings: HostSettings) -> str:
    bundle = settings.ca_bundle.read_text(errors="replace") if settings.ca_bundle else ""
    here = Path(__file__).with_name("base_image.py").read_text()
    return images.fingerprint([SUITE, here, settings.pip_conf(), *settings.apt, bundle])
