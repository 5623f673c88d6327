"""The Bloom filter beside pybloom-live, and as a share of rbloom with the same portable hash.

Filters of 100,000 keys at 1 %, in this process. Asked for are as many keys that are in as keys
that are not. rbloom is written in Rust; it gets xxh3 here, because its quick default is the
`hash` of this interpreter, which differs from process to process: such a filter cannot be sent.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle, islice

import xxhash
from pybloom_live import BloomFilter as PybloomFilter
from rbloom import Bloom

from scalelab.hashing import BloomFilter, size_for
from scalelab.lab.course.bench import AnyFigure, Figure, LimitFigure, Options
from scalelab.lab.course.ratio import Ratio, compare, is_void
from scalelab.lab.course.rounds import Measure, cpu_us_per_operation, paired

MONTH = "month1"
_CAPACITY, _RATE = 100_000, 0.01
_IN = [f"in-{number}" for number in range(_CAPACITY)]
_OUT = [f"out-{number}" for number in range(_CAPACITY)]
_ASKED = [key for pair in zip(_IN, _OUT, strict=True) for key in pair]
_GATE = 1.4


def run(options: Options) -> list[AnyFigure]:
    """All figures; takes about a minute."""
    made = _ours(), PybloomFilter(_CAPACITY, _RATE), Bloom(_CAPACITY, _RATE, _portable)
    adds = [_over(_IN, one.add) for one in made]
    for one in made:
        for key in _IN:
            one.add(key)
    asks = [_over(_ASKED, one.__contains__) for one in made]
    control = _ratio(options, "ours, twice", asks[0], asks[0])
    if is_void(control):
        options.note(f"the control is off: {control.ratio:.3f}; this machine is too busy")
    figures: list[AnyFigure] = []
    for what, (ours, pybloom, rust) in (("add", adds), ("ask", asks)):
        ratio = _ratio(options, f"{what}, pybloom-live", pybloom, ours)
        unit = "CPU µs/op, peer / ours"
        figures.append(Figure("bloom", what, "pybloom-live", unit, ratio, "at_least", _GATE))
        share = _ratio(options, f"{what}, rbloom", rust, ours)
        name = f"{what}, share of rbloom with xxh3"
        figures.append(_shown(name, "CPU rbloom / ours", share.ratio))
    figures += [
        _shown(f"wrong yeses, {name}", "times the rate asked for", _wrong(one) / _RATE)
        for name, one in zip(("ours", "pybloom-live", "rbloom"), made, strict=True)
    ]
    return figures


def _ours() -> BloomFilter:
    return BloomFilter(size_for(_CAPACITY, _RATE))


def _portable(key: object) -> int:
    """What rbloom wants: a signed 128-bit hash."""
    return xxhash.xxh3_128_intdigest(str(key).encode()) - 2**127


def _over(keys: list[str], operation: Callable[[str], object]) -> Measure:
    endless = cycle(keys)

    def some(count: int) -> None:
        for key in islice(endless, count):
            operation(key)

    return cpu_us_per_operation(some, batch=2000)


def _ratio(options: Options, what: str, peer: Measure, ours: Measure) -> Ratio:
    options.note(f"in turns: {what}")
    rounds = paired(peer, ours, rounds=options.rounds, round_s=options.in_process_round_s)
    return compare(rounds, options.generator)


def _wrong(held: BloomFilter | PybloomFilter | Bloom) -> float:
    missing = sum(key not in held for key in _IN)
    if missing:
        raise RuntimeError(f"{missing} keys were lost")
    return sum(key in held for key in _OUT) / len(_OUT)


def _shown(subject: str, unit: str, value: float) -> LimitFigure:
    return LimitFigure("bloom", subject, unit, round(value, 3), "at_most", None)
