"""What the JVM may do with plain fields and may not do with volatile ones, on a real JVM."""

from __future__ import annotations

import os

import pytest

from month3_messaging.experiments.memory_visibility import Jvm
from scalelab.lab.servers import ProviderOptions, Providers

pytestmark = pytest.mark.timeout(600)  # a first run fetches a runtime and a compiler


@pytest.fixture(scope="module")
def jvm(tmp_path_factory: pytest.TempPathFactory) -> Jvm:
    """Our class, compiled once."""
    providers = Providers(ProviderOptions.from_environment(os.environ))
    return Jvm.prepared(providers, tmp_path_factory.mktemp("classes"))


def test_a_compiled_loop_never_sees_a_plain_flag(jvm: Jvm) -> None:
    """The stop flag of a thousand programs: it works until the compiler has a look at it."""
    assert not jvm.sees("plain")


def test_interpreted_it_sees_the_flag(jvm: Jvm) -> None:
    """So a short test of such a program is green."""
    assert jvm.sees("plain", "-Xint")


def test_a_volatile_flag_is_seen(jvm: Jvm) -> None:
    """What the word is for."""
    assert jvm.sees("volatile")


def test_volatile_loads_do_not_overtake_stores(jvm: Jvm) -> None:
    """Of two threads that store and then load, one sees the other's store, always."""
    trials, both_zero = jvm.both_zero("volatile", 20_000)
    assert trials >= 20_000
    assert both_zero == 0
