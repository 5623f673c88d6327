"""The doctor judges facts; what is required decides, what is optional only informs."""

from __future__ import annotations

import pytest

from scalelab.lab.doctor import Line, main_path_works, server_line
from scalelab.lab.servers import Capability
from scalelab.lab.servers.go import go_is_new_enough


@pytest.mark.parametrize("server", ["postgres", "redis", "java", "kafka"])
def test_a_required_server_that_cannot_be_had_closes_the_main_path(server: str) -> None:
    """Its line is red and names the command that fixes it."""
    line = server_line(Capability(server, "none", None, "sudo apt-get install x"))
    assert line.verdict == "missing"
    assert line.fix == "sudo apt-get install x"
    assert not main_path_works([line])


@pytest.mark.parametrize("server", ["nginx", "memcached", "prometheus", "pgbouncer", "ecj"])
def test_an_optional_server_does_not(server: str) -> None:
    """The main path goes on without it; the line says what is closed."""
    line = server_line(Capability(server, "none", None))
    assert line.verdict == "missing"
    assert line.closes
    assert main_path_works([line])


def test_a_server_that_will_be_installed_is_no_problem() -> None:
    """Nothing is asked of the person."""
    line = server_line(Capability("redis", "wheel", None))
    assert line.verdict == "ok"
    assert "installed when first needed" in line.found


def test_low_is_a_warning() -> None:
    """Little memory makes it slow, not impossible."""
    assert main_path_works([Line("memory", "low", "2 GiB free", required=True)])


@pytest.mark.parametrize(
    ("text", "new"),
    [
        ("go version go1.26.8 linux/amd64", True),
        ("go version go1.24 linux/amd64", True),
        ("go version go1.19.8 linux/amd64", False),
        ("go version go2.0 linux/amd64", True),
        ("", False),
    ],
)
def test_go_below_1_24_is_too_old(text: str, new: bool) -> None:
    """Debian 12's own is."""
    assert go_is_new_enough(text) is new
