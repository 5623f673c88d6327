"""Tokens: each guarantee proven against the history checker on a store that forgets at will."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from month2_databases.consistency import Guarantee, Promise, Read, Token, Write, broken_promises
from month2_databases.consistency.history import Operation
from month2_databases.consistency.sessions import after_read, after_write, next_version

SESSIONS, KEYS = "abcdef", "pqrstuvw"


def lived(random: Random, guarantee: Guarantee, *, steps: int) -> dict[str, list[Operation]]:
    """Six sessions on a store whose replicas each show any version, as old as they like."""
    history: dict[str, list[Operation]] = {name: [] for name in SESSIONS}
    tokens = dict.fromkeys(history, Token())
    written: dict[str, list[tuple[int, Token]]] = {key: [(0, Token())] for key in KEYS}
    now_us = 0
    for _ in range(steps):
        now_us += 1
        name, key = random.choice(SESSIONS), random.choice(KEYS)
        token = tokens[name]
        if random.random() < 0.4:
            version = next_version(token, key, now_us=now_us)
            written[key].append((version, token))
            tokens[name] = after_write(token, key, version, guarantee)
            history[name].append(Write(key, version))
            now_us = max(now_us, version)
            continue
        shown = [one for one in written[key] if token.accepts(key, one[0])]
        version, carried = random.choice(shown)  # never empty: the floor is a version that exists
        tokens[name] = after_read(token, key, version, carried, guarantee)
        history[name].append(Read(key, version))
    return history


@pytest.mark.parametrize(
    ("guarantee", "kept"),
    [
        (Guarantee.READ_YOUR_WRITES, {Promise.READ_YOUR_WRITES}),
        (Guarantee.MONOTONIC_READS, {Promise.MONOTONIC_READS}),
        (Guarantee.CAUSAL, set(Promise)),
    ],
)
@given(random=st.randoms(use_true_random=False))
def test_a_guarantee_keeps_its_promises_on_a_store_that_keeps_none(
    guarantee: Guarantee, kept: set[Promise], random: Random
) -> None:
    """No history that a session with the guarantee can live breaks them."""
    found = broken_promises(lived(random, guarantee, steps=60))
    assert not {one.promise for one in found} & kept


def test_without_a_guarantee_such_a_store_breaks_them() -> None:
    """The generator is able to produce violations: it does, within a few seeds, of every kind."""
    found = {
        one.promise
        for seed in range(30)
        for one in broken_promises(lived(Random(seed), Guarantee.NONE, steps=150))
    }
    assert found >= set(Promise) - {Promise.WRITTEN}


def test_a_token_accepts_its_floor_and_what_is_newer() -> None:
    """Lower versions are refused, unknown keys are not judged."""
    token = Token({"x": 5})
    assert [token.accepts("x", version) for version in (4, 5, 6)] == [False, True, True]
    assert token.accepts("y", 0)


def test_merging_takes_the_higher_floor_of_each_key() -> None:
    """What either holder may be shown binds the one who holds both."""
    merged = Token({"x": 5, "y": 1}).merged(Token({"y": 3, "z": 2}))
    assert merged == Token({"x": 5, "y": 3, "z": 2})


def test_a_slow_clock_does_not_make_a_write_lose_to_what_was_seen() -> None:
    """The version is the clock's, or just above what the writer knows."""
    assert next_version(Token(), "x", now_us=10) == 10
    assert next_version(Token({"x": 50}), "x", now_us=10) == 51
