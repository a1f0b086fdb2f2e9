"""How far a long piece of work has come, on stderr: one line that changes, on a terminal only.

Training also says so elsewhere: a line for each epoch.
"""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from .options import Common, Interrupted, StoppedBySignal

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn, Task, TaskID
    from rich.text import Text

    from fastseq.training.progress import TrainingProgress

Report = Callable[[str, int, "int | None"], None]


@contextmanager
def progress(common: Common, prints: bool = False) -> Iterator[Report | None]:
    """A function to be told (stage, rows done, rows in all or None), from any thread.

    None where nobody would see it: stderr is no terminal, or --quiet; or where the work `prints`
    rows on that terminal, which show it themselves.
    """
    unseen = common.quiet or not sys.stderr.isatty()
    if unseen or (prints and sys.stdout.isatty()):
        yield None
        return
    from rich.progress import TextColumn, TimeRemainingColumn

    left = (TimeRemainingColumn(compact=True), TextColumn("left"))
    with _display(_rows_column(), *left) as shown:
        yield _Reporter(shown)


@contextmanager
def training(common: Common, unit: str) -> Iterator[Training]:
    """What a training run is to report to; `unit` is what it learns from, such as "tokens".

    On a terminal one line that changes, elsewhere a line an epoch, nothing when --quiet.
    """
    if common.quiet or not sys.stderr.isatty():
        told = Training(common, unit)
        yield told
        told.end_epoch()
        return
    from rich.progress import TextColumn

    with _display(TextColumn("{task.fields[said]}")) as shown:
        yield Training(common, unit, shown)


@contextmanager
def fitting(common: Common, path: Path, unit: str, resume: bool) -> Iterator[Training]:
    """What a model that trains in the folder `path` is to report to, as `training` has it. Says
    how a training that a signal ended is resumed, and that one was finished before.

    Raises Interrupted on Ctrl-C (exit status 130) and SIGTERM (143).
    """
    from fastseq.interrupts import Terminated
    from fastseq.store.folder import is_begun, is_written

    if resume and not (is_begun(path) or is_written(path)):
        common.say(f"{path} has no checkpoint: training from the beginning")
    try:
        with training(common, unit) as report:
            yield report
    except (KeyboardInterrupt, Terminated) as error:
        terminated = isinstance(error, Terminated)
        message = "Terminated" if terminated else "Interrupted"
        if is_begun(path):
            message += f"; the checkpoint in {path} is kept: the same command with --resume goes on"
            message += " from it"
        raise (StoppedBySignal if terminated else Interrupted)(message) from None
    if resume and not report.began:
        common.say(f"{path}: the training had finished before; nothing was left to learn")


def _display(*columns: ProgressColumn) -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    return Progress(
        TextColumn("{task.description:<6}"),
        BarColumn(bar_width=24),
        *columns,
        console=Console(stderr=True),
        transient=True,
        refresh_per_second=5,
        redirect_stdout=False,  # results go where they always go
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


class Training:
    """Told by a training run how far it has come.

    began  whether a step of it was taken
    """

    def __init__(self, common: Common, unit: str, shown: Progress | None = None) -> None:
        self._common = common
        self._unit = unit
        self._shown = shown
        self._task = None if shown is None else shown.add_task("read", total=None, said="")
        self._last: TrainingProgress | None = None
        self._valid: dict[str, float] = {}  # of the last validation

    @property
    def began(self) -> bool:
        return self._last is not None

    def __call__(self, now: TrainingProgress) -> None:
        if self._last is not None and self._last.epoch != now.epoch:
            self.end_epoch()
            if self._shown is None:  # a line is of its epoch alone
                self._valid = {}
        self._last = now
        self._valid = now.valid or self._valid
        if self._shown is None or self._task is None:
            return
        steps = now.steps
        self._shown.update(
            self._task,
            description=f"epoch {now.epoch}/{now.epochs}",
            completed=now.step if steps is None else (now.epoch - 1) * steps + now.step,
            total=None if steps is None else now.epochs * steps,
            said=self._said(now),
        )

    def end_epoch(self) -> None:
        """Say how the epoch of the last report went, where no terminal shows it."""
        if self._shown is None and self._last is not None:
            now = self._last
            self._common.say(f"epoch {now.epoch}/{now.epochs}: {self._said(now)}")

    def _said(self, now: TrainingProgress) -> str:
        measures = "".join(
            f", {'valid loss' if name == 'loss' else name} {value:.4f}"
            for name, value in self._valid.items()
        )
        loss = "" if math.isnan(now.loss) else f"loss {now.loss:.4f}"
        speed = f"{now.units_per_second:,.0f} {self._unit}/s"
        said = ", ".join(filter(None, (f"{loss}{measures}".removeprefix(", "), speed)))
        left = now.seconds_left
        return said if not left else f"{said}, {_clock(left)} left"


def _clock(seconds: float) -> str:
    """0:07, 12:34, 1:02:03"""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
