"""Claims about hashing in a bounded pool (argon2id at its smallest cost)."""

from __future__ import annotations

import asyncio

import pytest

from month6_capstone.identity.passwords import Costs, PasswordPool, hash_password
from scalelab.errors import CorruptData, Overloaded

CHEAP = Costs(memory_kib=8, passes=1, lanes=1)


async def test_a_hash_verifies_its_password_and_no_other() -> None:
    """The encoded hash carries its own parameters."""
    async with PasswordPool(CHEAP) as pool:
        stored = await pool.hash("correct horse")
        assert stored.startswith("$argon2id$")
        assert await pool.verify(stored, "correct horse")
        assert not await pool.verify(stored, "correct house")
        assert await pool.verify(hash_password("other one", CHEAP), "other one")


async def test_no_account_verifies_nothing_but_does_the_same_work() -> None:
    """An unknown address costs one full hash computation, as a known one does."""
    async with PasswordPool(CHEAP) as pool:
        assert not await pool.verify(None, "anything at all")
        assert pool.judged == 1
        assert not await pool.verify(await pool.hash("x" * 8), "y" * 8)
        assert pool.judged == 2


async def test_a_stored_hash_that_is_none_is_corrupt_data() -> None:
    """A damaged row is not a wrong password."""
    async with PasswordPool(CHEAP) as pool:
        with pytest.raises(CorruptData):
            await pool.verify("not a hash", "password")


async def test_more_than_workers_and_queue_is_refused_at_once() -> None:
    """The bound holds, nothing waits without end, and the places come back."""
    slow = Costs(memory_kib=19_456, passes=4)
    async with PasswordPool(slow, workers=1, queue=2) as pool:
        answers = await asyncio.gather(
            *(pool.hash("password") for _ in range(10)), return_exceptions=True
        )
        assert sum(isinstance(answer, Overloaded) for answer in answers) == 7
        assert (await pool.hash("password")).startswith("$argon2id$")
