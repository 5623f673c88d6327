"""The generic rules: equality of sets, conservation, order per key, legal paths.

Every function takes the rule's name and plain values, and returns a `Check`. Ids are made text in
reports only. Nothing here knows what an order or a topic is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence, Set
from itertools import pairwise
from typing import TypeVar

from scalelab.lab.verify.report import Check, Violation

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


def each(
    rule: str,
    items: Iterable[T],
    complaint: Callable[[T], str | None],
    ids: Callable[[T], Iterable[object]],
) -> Check:
    """Every item must satisfy a rule of its own; `complaint` says what is wrong, or None."""
    examined = 0
    found: list[Violation] = []
    for item in items:
        examined += 1
        detail = complaint(item)
        if detail is not None:
            found.append(Violation(rule, _texts(ids(item)), detail))
    return Check(rule, examined, tuple(found))


def at_most_once(rule: str, keys: Iterable[K], *, what: str) -> Check:
    """No key occurs twice. `what` names the things, for the report."""
    counts = Counter(keys)
    found = tuple(
        Violation(rule, _texts([key]), f"{count} {what}, expected at most 1")
        for key, count in counts.items()
        if count > 1
    )
    return Check(rule, len(counts), found)


def subset(rule: str, part: Iterable[K], whole: Set[K], *, detail: str) -> Check:
    """Every key of `part` is in `whole`; `detail` says what it means that one is not."""
    distinct = set(part)
    found = tuple(Violation(rule, _texts([key]), detail) for key in _sorted(distinct - whole))
    return Check(rule, len(distinct), found)


def same_items(
    rule: str, left: Iterable[K], right: Iterable[K], *, only_left: str, only_right: str
) -> Check:
    """Both sides hold the same things equally often (multiset equality)."""
    ours, theirs = Counter(left), Counter(right)
    found = [Violation(rule, _texts([key]), only_left) for key in _sorted((ours - theirs).keys())]
    found += [Violation(rule, _texts([key]), only_right) for key in _sorted((theirs - ours).keys())]
    return Check(rule, len(ours.keys() | theirs.keys()), tuple(found))


def equal(rule: str, ours: Mapping[K, T], theirs: Mapping[K, T], *, zero: T, what: str) -> Check:
    """Two tellings of one quantity agree for every key; a missing key counts as `zero`."""
    keys = ours.keys() | theirs.keys()
    found: list[Violation] = []
    for key in _sorted(keys):
        one, other = ours.get(key, zero), theirs.get(key, zero)
        if one != other:
            found.append(Violation(rule, _texts([key]), f"{what}: {one} against {other}"))
    return Check(rule, len(keys), tuple(found))


def sums_to_zero(rule: str, groups: Mapping[K, Iterable[int]], *, what: str) -> Check:
    """The amounts of every group cancel out."""
    found: list[Violation] = []
    for key in _sorted(groups.keys()):
        total = sum(groups[key])
        if total:
            found.append(Violation(rule, _texts([key]), f"{what} sum to {total}, expected 0"))
    return Check(rule, len(groups), tuple(found))


def contiguous(rule: str, numbers: Mapping[K, Iterable[int]], *, start: int) -> Check:
    """The numbers of every key are start, start + 1, … without gap or repeat."""
    found: list[Violation] = []
    for key in _sorted(numbers.keys()):
        seen = sorted(numbers[key])
        if seen != list(range(start, start + len(seen))):
            found.append(Violation(rule, _texts([key]), f"versions {seen} do not count from 1"))
    return Check(rule, len(numbers), tuple(found))


def legal_paths(
    rule: str, paths: Mapping[K, Sequence[str]], *, start: str, steps: Mapping[str, Set[str]]
) -> Check:
    """Every path begins at `start` and takes only steps that `steps` allows."""
    found: list[Violation] = []
    for key in _sorted(paths.keys()):
        detail = _illegal(paths[key], start, steps)
        if detail is not None:
            found.append(Violation(rule, _texts([key]), detail))
    return Check(rule, len(paths), tuple(found))


def first_seen_in_order(
    rule: str, written: Mapping[K, Sequence[Hashable]], seen: Mapping[K, Sequence[Hashable]]
) -> Check:
    """Per key, the first copies of what was seen stand in the order in which it was written.

    Repeats after the first copy are allowed. Things seen that were never written, and things
    written that were never seen, are other rules' business.
    """
    found: list[Violation] = []
    for key in _sorted(written.keys()):
        first_copies = list(dict.fromkeys(seen.get(key, ())))
        known = set(written[key])
        order_seen = [thing for thing in first_copies if thing in known]
        arrived = set(order_seen)
        order_written = [thing for thing in dict.fromkeys(written[key]) if thing in arrived]
        if order_seen != order_written:
            swapped = next(
                pair for pair in zip(order_seen, order_written, strict=True) if pair[0] != pair[1]
            )
            found.append(
                Violation(
                    rule, _texts([key, *swapped]), f"{swapped[0]} arrived before {swapped[1]}"
                )
            )
    return Check(rule, len(written), tuple(found))


def _illegal(path: Sequence[str], start: str, steps: Mapping[str, Set[str]]) -> str | None:
    if not path or path[0] != start:
        return f"begins with {path[0] if path else 'nothing'}, expected {start}"
    for before, after in pairwise(path):
        if after not in steps.get(before, frozenset()):
            return f"went from {before} to {after}"
    return None


def _sorted(keys: Iterable[K]) -> list[K]:
    return sorted(keys, key=lambda key: _texts([key]))


def _texts(ids: Iterable[object]) -> tuple[str, ...]:
    """Ids as text; a tuple key is spread, so that each of its parts can be searched for."""
    spread: list[str] = []
    for one in ids:
        if isinstance(one, tuple):
            spread.extend(str(part) for part in one)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType] - isinstance cannot name the parts
        else:
            spread.append(str(one))
    return tuple(text for text in spread if text)
