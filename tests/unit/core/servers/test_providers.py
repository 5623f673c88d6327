"""Finding programs: search path, version, companions, and what is told when there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from scalelab.errors import InvalidInput
from scalelab.lab.servers import Capability, ProviderOptions, Providers, ServerMissing
from scalelab.lab.servers.providers import ProviderName, Recipe, version_tuple


def recipe(folder: Path, **more: object) -> Recipe:
    """Recipe of a program `serve` 2.5 or newer, looked for in one folder."""
    fields: dict[str, object] = {
        "server": "serve",
        "program": "scalelab-test-serve",
        "minimum": (2, 5),
        "places": (f"{folder}/*/scalelab-test-serve",),
        **more,
    }
    return Recipe(**fields)  # pyright: ignore[reportArgumentType] -- fields vary by test


def program(folder: Path, version: str) -> Path:
    """An executable that tells a version."""
    folder.mkdir()
    path = folder / "scalelab-test-serve"
    path.write_text(f"#!/bin/sh\necho serve version {version}\n")
    path.chmod(0o755)
    return path


def providers(tmp_path: Path, only: ProviderName | None = "machine") -> Providers:
    """Providers that may install nothing."""
    lock = tmp_path / "absent.lock"
    return Providers(ProviderOptions(tmp_path, tmp_path / "venv", lock, only, apt=False))


def test_the_highest_version_wins_by_number_not_by_letter(tmp_path: Path) -> None:
    """Folder 10 comes before folder 9."""
    program(tmp_path / "9", "9.6")
    newest = program(tmp_path / "10", "10.1")
    found = providers(tmp_path).find(recipe(tmp_path))
    assert found is not None
    assert (found.path, found.version, found.major) == (newest, "10.1", 10)


def test_a_program_that_is_too_old_does_not_count(tmp_path: Path) -> None:
    """2.4 is older than 2.5, 2.10 is not."""
    program(tmp_path / "a", "2.4.9")
    assert providers(tmp_path).find(recipe(tmp_path)) is None
    program(tmp_path / "b", "2.10")
    assert providers(tmp_path).find(recipe(tmp_path)) is not None


def test_a_program_without_its_companions_does_not_count(tmp_path: Path) -> None:
    """A server whose tools stand elsewhere is half an installation."""
    path = program(tmp_path / "a", "3.0")
    asked = recipe(tmp_path, together=("tool",))
    assert providers(tmp_path).find(asked) is None
    (path.parent / "tool").symlink_to(path)
    assert providers(tmp_path).find(asked) is not None


def test_a_broken_program_does_not_count(tmp_path: Path) -> None:
    """One that cannot be executed, or tells no version, is as good as none."""
    program(tmp_path / "a", "unknown")
    program(tmp_path / "b", "3.0").write_bytes(b"\x7fELF nonsense")
    assert providers(tmp_path).find(recipe(tmp_path)) is None


def test_what_is_missing_is_told_with_a_way_out(tmp_path: Path) -> None:
    """Which server, what was looked for, and the command that helps."""
    asked = recipe(tmp_path, packages=("serve-package",))
    told = providers(tmp_path).capability(asked)
    fix = "sudo apt-get install --no-install-recommends serve-package"
    assert told == Capability("serve", "none", None, fix)
    with pytest.raises(ServerMissing, match=r"no serve .* 2\.5 .*serve-package"):
        providers(tmp_path).obtain(asked)


def test_capability_promises_the_wheel_only_where_one_may_be_used(tmp_path: Path) -> None:
    """A wheel, a lock and permission: all three are needed."""
    asked = recipe(tmp_path, wheel="serve/bin/serve")
    assert providers(tmp_path, None).capability(asked).provider == "none"
    (tmp_path / "absent.lock").write_text("")
    assert providers(tmp_path, None).capability(asked).provider == "wheel"
    assert providers(tmp_path, "machine").capability(asked).provider == "none"


def test_settings_come_from_the_environment(tmp_path: Path) -> None:
    """Each variable does what it says; an unknown provider is refused by name."""
    environ = {"SCALELAB_CACHE": str(tmp_path / "c"), "SCALELAB_NO_APT": "1"}
    options = ProviderOptions.from_environment({**environ, "SCALELAB_PROVIDER": "wheel"})
    assert (options.only, options.apt) == ("wheel", False)
    assert options.venv.parent == options.cache
    assert ProviderOptions.from_environment({**environ, "SCALELAB_NO_APT": "0"}).apt
    with pytest.raises(InvalidInput, match="SCALELAB_PROVIDER"):
        ProviderOptions.from_environment({**environ, "SCALELAB_PROVIDER": "docker"})


@pytest.mark.parametrize(
    ("text", "numbers"), [("15.18", (15, 18)), ("7.0.15-1~deb12u1", (7, 0, 15, 1)), ("17", (17,))]
)
def test_versions_compare_as_numbers(text: str, numbers: tuple[int, ...]) -> None:
    """Letters and what follows the fourth number are dropped."""
    assert version_tuple(text) == numbers


def test_a_program_that_starts_whatever_is_asked_is_judged_by_its_path(tmp_path: Path) -> None:
    """It is never run; the folder that its link leads to carries the version."""
    path = program(tmp_path / "serve-3.1", "9.9")
    path.write_text(f"#!/bin/sh\ntouch {tmp_path}/was-run\n")
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / path.name).symlink_to(path)
    place = f"{tmp_path}/link/{path.name}"
    asked = recipe(tmp_path, places=(place,), version_flag=None, version=r"serve-(\d+\.\d+)")
    found = providers(tmp_path).find(asked)
    assert found is not None
    assert found.version == "3.1"
    assert not (tmp_path / "was-run").exists()
