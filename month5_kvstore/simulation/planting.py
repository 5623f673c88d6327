"""Load the core and the simulator with one planted bug: the true source, one passage replaced.

The bugs live here and not behind switches in the core. A planted copy is loaded under a package
name of its own, beside the true one, which is not touched. What is not edited is compiled once.
"""

from __future__ import annotations

import importlib
import sys
from dataclasses import fields
from enum import Enum
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import CodeType, ModuleType
from typing import TYPE_CHECKING, Any, Protocol, cast

from month5_kvstore.simulation.history import Judge
from month5_kvstore.simulation.plan import Plan
from month5_kvstore.simulation.world import Observer
from scalelab.errors import InvalidInput

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_HOME = "month5_kvstore"
_ALIAS = "planted_kvstore"
_MONTH = Path(__file__).resolve().parents[1]
_compiled: dict[Path, CodeType] = {}


class Verdict(Protocol):
    """What a run says, of the true package or of a planted copy with types of its own."""

    @property
    def rule(self) -> str | None:
        """The broken rule, None if all hold."""
        ...

    @property
    def detail(self) -> str:
        """Both sides of the contradiction."""
        ...


class Run(Verdict, Protocol):
    """What a run of a plan says."""

    @property
    def hash(self) -> str:
        """Over all events; the same for the same plan everywhere."""
        ...


class _Loader:
    """Executes one module of the planted copy."""

    def __init__(self, path: Path, before: str, after: str) -> None:
        self._path, self._before, self._after = path, before, after

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """The usual kind of module."""
        return None

    def exec_module(self, module: ModuleType) -> None:
        """Run the source, edited or not, with imports that stay inside the copy."""
        exec(self._code(), module.__dict__)  # noqa: S102 - our own source, one passage replaced

    def _code(self) -> CodeType:
        if not self._before and self._path in _compiled:
            return _compiled[self._path]
        source = self._path.read_text(encoding="utf-8")
        if self._before:
            source = replaced(source, self._before, self._after)
        code = compile(source.replace(f"{_HOME}.", f"{_ALIAS}."), str(self._path), "exec")
        if not self._before:
            _compiled[self._path] = code
        return code


class _Finder:
    """Finds modules of the planted copy where the true ones are."""

    def __init__(self, file: str, before: str, after: str) -> None:
        self._file, self._before, self._after = _MONTH / file, before, after

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """The place of a module called planted_kvstore.…; None for all others."""
        if name.split(".")[0] != _ALIAS:
            return None
        place = _MONTH.joinpath(*name.split(".")[1:])
        package = place.is_dir()
        file = place / "__init__.py" if package else place.with_suffix(".py")
        edited = file == self._file
        loader: Any = _Loader(file, *((self._before, self._after) if edited else ("", "")))
        return ModuleSpec(name, loader, is_package=package)


def replaced(source: str, before: str, after: str) -> str:
    """The source with its one passage `before` replaced. Raises InvalidInput if it is not one."""
    if (times := source.count(before)) != 1:
        raise InvalidInput(f"the passage occurs {times} times: {before!r}", field="before")
    return source.replace(before, after)


class Planted:
    """A copy with a bug. It takes plans of the true package and gives back its own outcomes."""

    def __init__(self, file: str, before: str, after: str, *, room: str = "simulation") -> None:
        """Load it. file: `raft/election.py`; before: occurs there once. Empty: no bug at all.
        room: of the month, to be loaded with all that it imports; `door` is its package."""
        if before:
            replaced((_MONTH / file).read_text(encoding="utf-8"), before, after)
        finder: Any = _Finder(file, before, after)
        _forget()
        sys.meta_path.insert(0, finder)
        try:
            self.door: Any = importlib.import_module(f"{_ALIAS}.{room}")
            self._modules = {name: sys.modules[name] for name in _planted()}
        finally:
            sys.meta_path.remove(finder)
            _forget()

    def simulate(self, plan: Plan, judge: Judge, observer: Observer | None = None) -> Run:
        """Run a plan on the copy."""
        simulation: Any = self._modules[f"{_ALIAS}.simulation"]
        run: Run = simulation.simulate(self._own(plan), judge, observer=observer)
        return run

    def play(self, script: str) -> Verdict:
        """Play a script on the copy."""
        simulation: Any = self._modules[f"{_ALIAS}.simulation"]
        verdict: Verdict = simulation.play(script)
        return verdict

    def _own(self, value: object) -> Any:
        """The same value made of the copy's types, which are other ones of the same names."""
        if isinstance(value, tuple):
            return tuple(map(self._own, cast("tuple[object, ...]", value)))
        kind = type(value)
        if not kind.__module__.startswith(_HOME):
            return value
        own = getattr(self._modules[kind.__module__.replace(_HOME, _ALIAS, 1)], kind.__name__)
        if isinstance(value, Enum):
            return own(value.value)
        parts = fields(cast("DataclassInstance", value))
        return own(**{part.name: self._own(getattr(value, part.name)) for part in parts})


def _planted() -> list[str]:
    return [name for name in sys.modules if name.split(".")[0] == _ALIAS]


def _forget() -> None:
    for name in _planted():
        del sys.modules[name]
