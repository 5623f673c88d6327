"""A route file: bytes on disk to rules, every mistake with file, line and reason.

The file is YAML (JSON is YAML too, so a JSON file works). It is read whole and checked whole:
either all of it can be put in force, or none. The revision is a digest of the bytes, so two
processes that serve the same routes say so.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from month1_caching_gateway.gateway.route_config import BadConfig, load_config
from month1_caching_gateway.gateway.snapshot import Rules
from month1_caching_gateway.gateway.yaml_nodes import BadYaml, read_yaml
from scalelab.errors import InvalidInput

MAX_FILE_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Misprint:
    """One mistake in a file. line: from 1, 0 for the file as a whole. path: `routes.3.rate`."""

    line: int
    path: str
    reason: str


class BadFile(InvalidInput):
    """The file cannot be put in force. `str()` has a line for each mistake: `FILE:LINE: reason`."""

    code = "invalid_config"

    def __init__(self, file: str, misprints: tuple[Misprint, ...]) -> None:
        super().__init__("\n".join(_shown(file, one) for one in misprints))
        self.misprints = misprints


def load_file(path: Path) -> Rules:
    """The rules of a route file. Raises BadFile, also for a file that cannot be read."""
    return rules_of(read_file(path), path.name)


def read_file(path: Path) -> bytes:
    """The bytes of a route file. Raises BadFile if they cannot be read or are too many."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise _whole(path.name, f"cannot be read: {error.strerror}") from error
    if len(raw) > MAX_FILE_BYTES:
        raise _whole(path.name, f"is larger than {MAX_FILE_BYTES} bytes")
    return raw


def rules_of(raw: bytes, name: str) -> Rules:
    """The rules of a route file's bytes. name: for the messages. Raises BadFile."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise BadFile(name, (Misprint(line, "", "is not UTF-8"),)) from error
    try:
        tree = read_yaml(text)
    except BadYaml as error:
        raise BadFile(name, (Misprint(error.line, "", error.reason),)) from error
    if not isinstance(tree.value, dict):
        raise BadFile(name, (Misprint(tree.line, "", "is no mapping"),))
    try:
        config = load_config(cast("dict[str, object]", tree.value))
    except BadConfig as error:
        found = [
            Misprint(tree.line_of(fault.path), ".".join(map(str, fault.path)), fault.reason)
            for fault in error.faults
        ]
        raise BadFile(name, tuple(sorted(found, key=lambda one: one.line))) from error
    return config.rules(hashlib.sha256(raw).hexdigest()[:16])


def _whole(name: str, reason: str) -> BadFile:
    return BadFile(name, (Misprint(0, "", reason),))


def _shown(name: str, one: Misprint) -> str:
    place = f"{name}:{one.line}" if one.line else name
    return f"{place}: {one.path}: {one.reason}" if one.path else f"{place}: {one.reason}"
