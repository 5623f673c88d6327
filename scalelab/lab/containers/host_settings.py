"""How this machine reaches package indexes and trusts them, told to the base image alone.

With these settings baked into the stand-in of `python:…-slim`, the project's own Dockerfile builds
unchanged behind a proxy, a mirror or a private certificate authority. Nothing here is written into
the project.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_DEFAULT_MIRROR = "http://deb.debian.org/debian"
_CA_BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")
_PIP_KEPT = ("index-url", "extra-index-url", "trusted-host", "proxy", "default-timeout", "timeout")
_PIP_LINE = re.compile(r"^[^.]+\.([a-z-]+)='(.*)'$")
_DEB_LINE = re.compile(r"^deb\s+(?:\[[^\]]*\]\s+)?(\S+)\s+\S+\s+.*\bmain\b", re.MULTILINE)
_DEB822_URIS = re.compile(r"^URIs:\s*(\S+)", re.MULTILINE)
_PROXIES = ("http_proxy", "https_proxy", "no_proxy")


@dataclass(frozen=True, slots=True)
class HostSettings:
    """mirror: of Debian. pip: option → value. apt: lines for apt.conf. ca_bundle: PEM file.

    proxies: variables for processes in a build, by lower-case name.
    """

    mirror: str
    pip: Mapping[str, str]
    apt: tuple[str, ...]
    ca_bundle: Path | None
    proxies: Mapping[str, str]

    def pip_conf(self) -> str:
        """The text of /etc/pip.conf."""
        lines = "".join(f"{key} = {value}\n" for key, value in sorted(self.pip.items()))
        return f"[global]\n{lines}"


def read_host_settings(environ: Mapping[str, str]) -> HostSettings:
    """What pip, apt and the certificate bundle of this machine say."""
    named = environ.get("SSL_CERT_FILE")
    bundles = [Path(name) for name in (named, *_CA_BUNDLES) if name]
    lowered = {name.lower(): value for name, value in environ.items()}
    return HostSettings(
        mirror=mirror_in(_apt_sources()),
        pip=pip_options(_pip_listing()),
        apt=proxy_lines(_answer(["apt-config", "dump", "Acquire::http", "Acquire::https"])),
        ca_bundle=next((path for path in bundles if path.is_file()), None),
        proxies={name: lowered[name] for name in _PROXIES if lowered.get(name)},
    )


def pip_options(listing: str) -> dict[str, str]:
    """The options that also hold in a container, from `pip config list`; later lines win not.

    Paths of this machine (a certificate, a folder of wheels) stay out: they exist only here.
    """
    found: dict[str, str] = {}
    for line in listing.splitlines():
        match = _PIP_LINE.match(line.strip())
        if match and match[1] in _PIP_KEPT:
            found.setdefault(match[1], match[2].replace("\\n", "\n    "))
    return found


def proxy_lines(dump: str) -> tuple[str, ...]:
    """apt's own proxy settings, from `apt-config dump`."""
    return tuple(line for line in dump.splitlines() if "::Proxy" in line and '""' not in line)


def mirror_in(sources: str) -> str:
    """The first Debian archive named in apt's source lists, in either of their two formats."""
    addresses = [*_DEB822_URIS.findall(sources), *_DEB_LINE.findall(sources)]
    debian = [one for one in addresses if one.rstrip("/").endswith("/debian")]
    return debian[0].rstrip("/") if debian else _DEFAULT_MIRROR


def _pip_listing() -> str:
    """What the first pip here says; a virtual environment may have none of its own."""
    for program in (["pip3"], ["pip"], ["python3", "-m", "pip"], [sys.executable, "-m", "pip"]):
        listing = _answer([*program, "config", "list"])
        if listing:
            return listing
    return ""


def _apt_sources() -> str:
    folder = Path("/etc/apt")
    files = [folder / "sources.list", *sorted(folder.glob("sources.list.d/*"))]
    return "\n".join(path.read_text(errors="replace") for path in files if path.is_file())


def _answer(argv: list[str]) -> str:
    if shutil.which(argv[0]) is None:
        return ""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""
