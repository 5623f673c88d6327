"""Configuration files with named gaps: `{{name}}` in the text, a value for each.

Nothing but the gap's name stands between the braces; loops and conditions stay in Python, where
they can be tested. A gap without a value and a value without a gap are both mistakes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from scalelab.errors import InvalidInput

_GAP = re.compile(r"\{\{([a-z0-9_]+)\}\}")
_PLAIN = re.compile(r"[^\x00-\x1f\x7f;{}\"'\\$#]+")


def fill(text: str, values: Mapping[str, str]) -> str:
    """`text` with every gap filled. Raises InvalidInput naming what is missing or left over."""
    gaps = set(_GAP.findall(text))
    if gaps != set(values):
        missing, unused = sorted(gaps - set(values)), sorted(set(values) - gaps)
        raise InvalidInput(f"a template lacks {missing} and has no place for {unused}")
    return _GAP.sub(lambda gap: values[gap.group(1)], text)


def template(name: str) -> str:
    """The text of a template of this room."""
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def plain(value: str, *, field: str) -> str:
    """`value`, if it cannot end a directive or begin another. Raises InvalidInput."""
    if not _PLAIN.fullmatch(value):
        raise InvalidInput(f"{value!r} cannot stand in a configuration file", field=field)
    return value
