"""How far a long piece of work has come: one line on stderr, on a terminal only."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .options import Common

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn, Task, TaskID
    from rich.text import Text

Report = Callable[[str, int, "int | None"], None]


@contextmanager
def progress(common: Common) -> Iterator[Report | None]:
    """A function to be told (stage, rows done, rows in all or None), from any thread.

    None where nobody would see it: stderr is no terminal, or --quiet.
    """
    if common.quiet or not sys.stderr.isatty():
        yield None
        return
    with _display() as shown:
        yield _Reporter(shown)


def _display() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description:<6}"),
        BarColumn(bar_width=24),
        _rows_column(),
        TimeRemainingColumn(compact=True),
        TextColumn("left"),
        console=Console(stderr=True),
        transient=True,
        refresh_per_second=5,
    )


def _rows_column() -> ProgressColumn:
    from rich.progress import ProgressColumn
    from rich.text import Text

    class Rows(ProgressColumn):
        """Rows done, of how many, and how many a second."""

        def render(self, task: Task) -> Text:
            of = f" of {task.total:,.0f}" if task.total else ""
            speed = task.speed or task.finished_speed
            rate = f", {speed:,.0f} rows/s" if speed else ""
            return Text(f"{task.completed:,.0f}{of} rows{rate}")

    return Rows()


class _Reporter:
    def __init__(self, shown: Progress) -> None:
        self._shown = shown
        self._tasks: dict[str, TaskID] = {}
        self._lock = threading.Lock()

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        with self._lock:
            if stage not in self._tasks:
                self._tasks[stage] = self._shown.add_task(stage, total=total)
            self._shown.update(self._tasks[stage], completed=done, total=total)
