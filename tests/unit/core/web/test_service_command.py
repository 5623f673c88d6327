"""The command line of a service's process: serve, prepare, or say how it is used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

import pytest
from fastapi import FastAPI

from scalelab.telemetry import Telemetry
from scalelab.web.process import service_command


@dataclass(frozen=True)
class Told:
    """What a process is told at the least."""

    host: str = "127.0.0.1"
    port: int = 0
    trace_export: str = "none"
    log_level: str = "info"


def never(*_: object) -> NoReturn:
    raise AssertionError("not asked for")


def command(settings: Callable[[], Told], prepare: Callable[[Told], None]) -> int:
    def create(_settings: Told, _telemetry: Telemetry) -> FastAPI:
        never()

    return service_command("shop.door", "door", settings, create, prepare)


@pytest.mark.parametrize("arguments", [["serve"], ["prepare", "again"], ["--help"]])
def test_another_word_is_wrong_usage(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2 and one line; not even the settings are read."""
    monkeypatch.setattr("sys.argv", ["door", *arguments])
    assert command(never, never) == 2
    assert capsys.readouterr().err == "usage: python -m shop.door [prepare]\n"


def test_prepare_makes_what_is_needed_and_serves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the settings that the service itself would have."""
    monkeypatch.setattr("sys.argv", ["door", "prepare"])
    seen: list[Told] = []
    assert command(Told, seen.append) == 0
    assert seen == [Told()]
