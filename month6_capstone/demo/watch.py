"""A demo's progress on standard error: one line per event, and on a terminal a moving last line."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Line

from month6_capstone.demo.run import DemoOptions, Hooks
from scalelab.lab.runtime import Progress

_NAMED_AT_MOST = 4


class Watch:
    """Context manager that gives the hooks; afterwards nothing moves any more.

    Without a terminal the last line is left out: whoever reads a file wants no control characters.
    """

    def __init__(self, options: DemoOptions, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._seconds = options.seconds
        self._waiting: dict[str, None] = {}
        self._started = False
        self._line = Line(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._line.add_task("starting", total=None)
        self.hooks = Hooks(phase=self._phase, server=self._server, load=self._load)

    def __enter__(self) -> Self:
        self._line.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.rest()

    def announce(self, sentence: str) -> None:
        """Say what is about to start; the moving line then names who is being waited for."""
        self._say(sentence)

    def rest(self) -> None:
        """Nothing moves any more; what happens to servers is still told, a line each."""
        self._line.stop()

    def _say(self, text: str) -> None:
        self._console.print(f"· {text}", highlight=False, markup=False)

    def _phase(self, sentence: str) -> None:
        self._started = True
        self._say(sentence)
        self._line.update(self._task, description=sentence, total=None, completed=0)

    def _server(self, event: Progress) -> None:
        told = server_line(event)
        if told:
            self._say(told)
        if event.stage in {"preparing", "starting"}:
            self._waiting[event.name] = None
        else:
            self._waiting.pop(event.name, None)
        if not self._started:
            self._line.update(self._task, description=waiting_line(list(self._waiting)))

    def _load(self, gone_s: float) -> None:
        self._line.update(self._task, total=self._seconds, completed=gone_s)


def server_line(event: Progress) -> str:
    """What a person needs to hear of an event; "" for those that say nothing new.

    A start that was given up says nothing new: another server's failure or a Ctrl-C was the cause.
    """
    if event.detail.endswith("was given up."):
        return ""
    if event.stage == "ready":
        version = f" ({event.detail})" if event.detail else ""
        return f"{event.name} ready after {event.seconds:.1f} s{version}"
    if event.stage in {"died", "failed"}:
        return f"{event.name} {event.stage}: {event.detail}"
    return ""


def waiting_line(names: list[str]) -> str:
    """Who is being waited for while the shop starts."""
    if not names:
        return "preparing tables and topics"
    more = f" and {len(names) - _NAMED_AT_MOST} more" if len(names) > _NAMED_AT_MOST else ""
    return f"waiting for {', '.join(names[:_NAMED_AT_MOST])}{more}"
