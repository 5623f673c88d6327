"""What of the host's settings goes into the base image, and what stays out."""

from __future__ import annotations

import pytest

from scalelab.lab.containers.host_settings import (
    HostSettings,
    mirror_in,
    pip_options,
    proxy_lines,
)

LISTING = """\
:env:.cert='/etc/ssl/private.crt'
:env:.find-links='/opt/wheels'
:env:.index-url='https://index.example/simple'
global.index-url='https://other.example/simple'
global.extra-index-url='https://a.example\\nhttps://b.example'
"""


def test_pip_s_addresses_are_kept_and_its_paths_are_not() -> None:
    """A path of this machine means nothing in a container; the first source of a value wins."""
    assert pip_options(LISTING) == {
        "index-url": "https://index.example/simple",
        "extra-index-url": "https://a.example\n    https://b.example",
    }


def test_the_written_pip_conf_is_read_back() -> None:
    """Several values of one option stand on indented lines."""
    import configparser

    text = HostSettings("m", pip_options(LISTING), (), None, {}).pip_conf()
    parser = configparser.ConfigParser()
    parser.read_string(text)
    assert parser["global"]["extra-index-url"].split() == ["https://a.example", "https://b.example"]


@pytest.mark.parametrize(
    ("sources", "mirror"),
    [
        ("deb http://mirror.example/debian bookworm main\n", "http://mirror.example/debian"),
        ("deb [arch=amd64] http://m.example/debian/ sid main contrib", "http://m.example/debian"),
        ("Types: deb\nURIs: https://m.example/debian\nSuites: x\n", "https://m.example/debian"),
        ("deb http://other.example/ubuntu jammy main\n", "http://deb.debian.org/debian"),
        ("", "http://deb.debian.org/debian"),
    ],
)
def test_the_mirror_is_the_host_s_own(sources: str, mirror: str) -> None:
    """Both formats of apt; another distribution's archive is no Debian mirror."""
    assert mirror_in(sources) == mirror


def test_only_proxies_of_apt_are_kept() -> None:
    """An unset one prints as an empty string."""
    dump = (
        'Acquire::http::Proxy "http://p.example:3128";\nAcquire::https::Proxy "";\nAcquire::x "";'
    )
    assert proxy_lines(dump) == ('Acquire::http::Proxy "http://p.example:3128";',)
