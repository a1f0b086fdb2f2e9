"""Progress on stderr: a line that is updated on a terminal; elsewhere, a line per epoch."""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from .options import Common, Interrupted

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn, Task, TaskID

    from fastseq.training.loop import TrainingProgress

Report = Callable[[str, int, "int | None"], None]
# of a stage; of the others rows
_UNITS = {
    "merge": "postings", "search": "queries", "reorder": "documents", "graph": "documents"
}  # fmt: skip


@contextmanager
def progress(common: Common, prints: bool = False) -> Iterator[Report | None]:
    """A function to call with (stage, done, total or None), from any thread.

    None if stderr is not a terminal, with --quiet, or if the work `prints` rows to a terminal.
    """
    if common.quiet or not sys.stderr.isatty() or (prints and sys.stdout.isatty()):
        yield None
        return
    from rich.progress import ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Done(ProgressColumn):
        """What is done, of how much, and how much per second, in the units of the stage."""

        def render(self, task: Task) -> Text:
            units = _UNITS.get(task.description, "rows")
            of = f" of {task.total:,.0f}" if task.total else ""
            speed = task.speed or task.finished_speed
            rate = f", {speed:,.0f} {units}/s" if speed else ""
            return Text(f"{task.completed:,.0f}{of} {units}{rate}")

    with _display(Done(), TimeRemainingColumn(compact=True), TextColumn("left")) as shown:
        yield _Reporter(shown)


@contextmanager
def training(common: Common, unit: str) -> Iterator[Training]:
    """Progress of a training run; `unit` is what it learns from, such as "tokens".

    A line that is updated on a terminal, elsewhere a line per epoch, nothing with --quiet.
    """
    if common.quiet or not sys.stderr.isatty():
        report = Training(common, unit)
        yield report
        report.end_epoch()
        return
    from rich.progress import TextColumn

    with _display(TextColumn("{task.fields[text]}")) as shown:
        yield Training(common, unit, shown)


@contextmanager
def fitting(common: Common, path: Path, unit: str, resume: bool) -> Iterator[Training]:
    """Progress of training in the folder `path`, with notices on what can be resumed.

    Raises Interrupted on Ctrl-C (exit status 130) and SIGTERM (143).
    """
    from fastseq.interrupts import Terminated
    from fastseq.store.folder import is_begun, is_written

    if resume and not (is_begun(path) or is_written(path)):
        common.notify(f"{path} has no checkpoint: training from the beginning")
    try:
        with training(common, unit) as report:
            yield report
    except (KeyboardInterrupt, Terminated) as error:
        terminated = isinstance(error, Terminated)
        message = "Terminated" if terminated else "Interrupted"
        if is_begun(path):
            message += f"; the same command with --resume continues from the checkpoint in {path}"
        raise Interrupted(message, 143 if terminated else 130) from None
    if resume and not report.began:
        common.notify(f"{path}: training was already complete; nothing to resume")


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
        redirect_stdout=False,  # results stay on stdout
    )


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
    """Receives the progress of a training run.

    began  whether a step was taken
    """

    def __init__(self, common: Common, unit: str, shown: Progress | None = None) -> None:
        self._common = common
        self._unit = unit
        self._shown = shown
        self._task = None if shown is None else shown.add_task("read", total=None, text="")
        self._last: TrainingProgress | None = None
        self._valid: dict[str, float] = {}  # of the last validation

    @property
    def began(self) -> bool:
        return self._last is not None

    def __call__(self, now: TrainingProgress) -> None:
        if self._last is not None and self._last.epoch != now.epoch:
            self.end_epoch()
            if self._shown is None:  # a line has the validation of its own epoch only
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
            text=self._text(now),
        )

    def end_epoch(self) -> None:
        """Print the line of the last epoch, unless a terminal shows it."""
        if self._shown is None and self._last is not None:
            now = self._last
            self._common.notify(f"epoch {now.epoch}/{now.epochs}: {self._text(now)}")

    def _text(self, now: TrainingProgress) -> str:
        parts = [] if math.isnan(now.loss) else [f"loss {now.loss:.4f}"]
        for name, value in self._valid.items():
            parts.append(f"{'valid loss' if name == 'loss' else name} {value:.4f}")
        parts.append(f"{now.units_per_second:,.0f} {self._unit}/s")
        if now.seconds_left:
            minutes, seconds = divmod(round(now.seconds_left), 60)
            hours, minutes = divmod(minutes, 60)
            clock = f"{hours}:{minutes:02}" if hours else f"{minutes}"
            parts.append(f"{clock}:{seconds:02} left")
        return ", ".join(parts)
