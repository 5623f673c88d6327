"""The order in which schema changes reach shards that fail now and then."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from month2_databases.sharding import Held, Phase, Revision, Turn, next_turn
from scalelab.errors import InvalidInput

HISTORIES = st.lists(st.sampled_from(Phase), min_size=1, max_size=6).map(
    lambda phases: [Revision(f"r{n}", phase) for n, phase in enumerate(phases)]
)
HISTORY = [
    Revision("add", Phase.EXPAND),
    Revision("fill", Phase.BACKFILL, "UPDATE"),
    Revision("drop", Phase.CONTRACT),
]


@given(HISTORIES, st.sampled_from(Phase), st.data())
def test_no_order_of_failures_breaks_the_rules(
    history: list[Revision], up_to: Phase, data: st.DataObject
) -> None:
    """I1, I2 and I3, while any shard fails at any turn; and a run without failures ends it."""
    versions: dict[str, str | None] = dict.fromkeys("abc")
    applied: dict[str, list[str]] = {shard: [] for shard in versions}
    names = [revision.name for revision in history]
    for fails in (True, False):
        failed: set[str] = set()
        while isinstance(turn := next_turn(history, versions, up_to, failed=failed), Turn):
            place = names.index(turn.revision.name)
            assert turn.revision.phase <= up_to
            for shard in turn.shards:
                if turn.revision.phase is Phase.CONTRACT:
                    assert all(len(done) >= place for done in applied.values())
                if fails and data.draw(st.booleans()):
                    failed.add(shard)
                    continue
                applied[shard].append(turn.revision.name)
                versions[shard] = turn.revision.name
    end = next((n for n, revision in enumerate(history) if revision.phase > up_to), len(history))
    assert all(done == names[:end] for done in applied.values())


def test_a_contract_waits_for_the_shard_that_is_behind() -> None:
    """And says which one."""
    versions = {"a": "fill", "b": "add", "c": "fill"}
    assert next_turn(HISTORY, versions, Phase.CONTRACT, failed=["b"]) == Held(HISTORY[2], ("b",))
    assert next_turn(HISTORY, versions, Phase.CONTRACT) == Turn(HISTORY[1], ("b",))


def test_a_contract_that_some_shards_have_goes_on() -> None:
    """It was begun when all were ready; a crash in the middle must not hold it for ever."""
    versions = {"a": "drop", "b": "fill"}
    assert next_turn(HISTORY, versions, Phase.CONTRACT) == Turn(HISTORY[2], ("b",))


def test_a_shard_newer_than_the_code_is_refused() -> None:
    """Rolling the code back must not run old migrations on a new schema."""
    with pytest.raises(InvalidInput) as refusal:
        next_turn(HISTORY, {"a": "from-the-future"}, Phase.EXPAND)
    assert refusal.value.stable_code == "unknown_revision"
