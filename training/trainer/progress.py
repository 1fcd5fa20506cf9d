"""Progress of a run: a bar on a terminal, a line every half minute in a log file."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

EVERY_S = 30.0  # between lines of a log file


class RunProgress(AbstractContextManager["RunProgress"]):
    """Counts steps on stderr, starting at `done` of `total`."""

    def __init__(
        self,
        name: str,
        done: int,
        total: int,
        *,
        visible: bool = True,
        every_s: float = EVERY_S,
        console: Console | None = None,
    ) -> None:
        self._console = console or Console(stderr=True)
        self._name, self._first, self._done, self._total = name, done, done, total
        self._visible, self._every_s = visible, every_s
        self._started, self._printed = time.monotonic(), float("-inf")
        self._bar = Progress(
            TextColumn("{task.description:>14}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[text]}"),
            console=self._console,
            disable=not (visible and self._console.is_terminal),
        )
        self._task = self._bar.add_task(name, total=total, completed=done, text="")

    def __enter__(self) -> RunProgress:
        self._bar.start()
        return self

    def __exit__(self, *reason: object) -> None:
        self._bar.stop()

    def advance(self, text: str) -> None:
        """Count one step; `text` is shown beside it."""
        self._done += 1
        self._bar.update(self._task, advance=1, text=text)
        now = time.monotonic()
        due = now - self._printed >= self._every_s or self._done == self._total
        if self._visible and not self._console.is_terminal and due:
            self._printed = now
            left_s = (now - self._started) / (self._done - self._first) * (self._total - self._done)
            line = f"{self._name} {self._done}/{self._total} {text} ETA {timedelta(seconds=round(left_s))}"
            self._console.out(line, highlight=False)
